#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/safetensors.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/cli/export.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
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
      "inspect", "Show a run or a safetensors file; export a run's model to other programs");
  auto path = std::make_shared<std::string>();
  auto exports = std::make_shared<ExportArguments>();
  command->add_option("path", *path, "a run (RUN, RUN@best, RUN@1000) or a .safetensors file")
      ->required();
  add_export_options(*command, *exports);
  command->callback([path, exports] {
    if (!find_run(*path)) {
      if (exports->any())
        throw ConfigError(fmt::format(
            "{} is no run: an export needs a run (its directory, RUN@best or RUN@1000)", *path));
      const SafetensorsFile file = read_safetensors(*path);
      for (const auto& [key, value] : file.metadata) fmt::print("{}: {}\n", key, value);
      print_tensors(file.tensors);
      return;
    }
    if (exports->any()) return export_run(*path, *exports);
    const LoadedRun run = load_run(*path);
    fmt::print("checkpoint: {}{}\n", run.checkpoint, run.verdict.mark());
    fmt::print("verdict: {}\n", run.verdict.line());
    fmt::print("model: {}\n", run.options.model.resolved->dump());
    print_tensors(run.model->state());
  });
}

}  // namespace reverie
