#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "datasets/dataset.h"
#include "datasets/text_input.h"
#include "layers/frozen_base.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/cli/export.h"
#include "trainers/runs/base_files.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
#include "trainers/text/terminal.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

void print_line(const std::string& line) {
  fmt::print("{}\n", fit_terminal(STDOUT_FILENO, line));
}

void print_tensors(const NamedTensors& tensors) {
  int64_t total = 0;
  for (const auto& [name, t] : tensors) {
    fmt::print("{:<44} {:<5} {}\n", name, name_of(t.dtype()), t.shape().str());
    total += t.numel();
  }
  fmt::print("{} tensors, {} elements\n", tensors.size(), total);
}

// A directory of token files.
void print_data(const std::string& directory) {
  DataOptions options;
  options.path = directory;
  const Dataset data = open_dataset(describe_dataset(options));
  const auto part = [](const char* name, const TokenFile& tokens) {
    print_line(
        fmt::format("{:<12} {} tokens, checksum {}", name, tokens.count(), tokens.checksum()));
  };
  print_line(fmt::format("data: {}, vocabulary {}, hash {}", data.name(), data.vocabulary_size(),
                         data.hash));
  if (!data.note().empty()) print_line("note: " + data.note());
  if (data.provenance.contains("creation"))
    print_line("made with: " + json_line(data.provenance.at("creation")));
  part("train", data.train);
  part("validation", data.validation);
  if (data.stage_mix) part("train steps", data.train_steps);
  if (!data.task) return;
  part("test", data.test);
  fmt::print("{}: documents of {} windows of {} tokens\n", data.task->type, data.task->windows,
             data.task->window);
  for (size_t i = 0; i < data.task->distances.size(); ++i)
    fmt::print("answers decided {} windows before: chance {:.4g}\n", data.task->distances[i],
               data.task->chance[i]);
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "inspect",
      "Show a run, prepared data or a safetensors file; export a run's model to other programs");
  auto path = std::make_shared<std::string>();
  auto exports = std::make_shared<ExportArguments>();
  command
      ->add_option(
          "path", *path,
          "a run (RUN, RUN@best, RUN@1000), a directory of token files, or a .safetensors file")
      ->required();
  auto base = std::make_shared<std::string>();
  command->add_option("--base", *base,
                      "the run's frozen base lies here now; its hash must be the one in the run's "
                      "newest checkpoint");
  add_export_options(*command, *exports);
  command->callback([path, base, exports] {
    exports->require_consistent();
    if (!base->empty()) {
      const auto run = find_run(*path);
      require(run.has_value(), "{} is no run: --base says where the base of a run lies", *path);
      move_base(run->directory, *base);
    }
    if (!find_run(*path) && !exports->any() && is_token_directory(*path)) return print_data(*path);
    if (!find_run(*path)) {
      if (exports->any())
        throw ConfigError(fmt::format(
            "{} is no run: an export needs a run (its directory, RUN@best or RUN@1000)", *path));
      const SafetensorsFile file = read_safetensors(*path);
      for (const auto& [key, value] : file.metadata) print_line(key + ": " + value);
      print_tensors(file.tensors);
      return;
    }
    if (exports->any()) return export_run(*path, *exports);
    const LoadedRun run = load_run(*path);
    print_line(fmt::format("checkpoint: {}{}", run.checkpoint, run.verdict.mark()));
    print_line("verdict: " + run.verdict.line());
    if (run.options.data.generated.given())
      print_line("data: " + json_line(*run.options.data.generated.resolved));
    print_line("model: " + json_line(*run.options.model.resolved));
    if (const FrozenBase* its = frozen_base_of(*run.model))
      print_line(fmt::format("base: {}, weights hash {}; {} of the tensors below are its own",
                             its->path, its->hash, its->parameters.size()));
    print_tensors(run.model->state());
  });
}

}  // namespace reverie
