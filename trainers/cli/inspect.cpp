#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/evaluation/hf_export.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

void print_tensors(const NamedTensors& tensors) {
  int64_t total = 0;
  for (const auto& [name, t] : tensors) {
    fmt::print("{:<44} {:<5} {}\n", name, name_of(t.dtype()), t.shape().str());
    total += t.numel();
  }
  fmt::print("{} tensors, {} elements\n", tensors.size(), total);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "inspect", "Show a run or a safetensors file; export to Hugging Face's form");
  auto path = std::make_shared<std::string>(), out = std::make_shared<std::string>();
  command->add_option("path", *path, "run directory or .safetensors file")->required();
  command->add_option("--export-hf", *out,
                      "write config.json and model.safetensors that transformers' GPT2LMHeadModel "
                      "or LlamaForCausalLM loads");
  command->callback([path, out] {
    if (!is_run_directory(*path)) {
      if (!out->empty())
        throw ConfigError(fmt::format(
            "--export-hf wants a run directory; {} has no config.resolved.json", *path));
      const SafetensorsFile file = read_safetensors(*path);
      for (const auto& [key, value] : file.metadata) fmt::print("{}: {}\n", key, value);
      print_tensors(file.tensors);
      return;
    }
    LoadedRun run = load_run(*path);
    if (!out->empty()) {
      export_hf(*run.model, run.options.model, *out);
      if (run.leaks) log_warning("the exported model: {}", run.verdict.line());
      fmt::print("{}\n", *out);
      return;
    }
    fmt::print("checkpoint: {}{}\n", run.checkpoint, run.verdict.mark());
    fmt::print("verdict: {}\n", run.verdict.line());
    fmt::print("model: {}\n", run.options.model.resolved->dump());
    print_tensors(run.model->state());
  });
}

}  // namespace reverie
