#include <fmt/format.h>
#include <unistd.h>

#include "core/plugin.h"
#include "core/registry.h"
#include "datasets/problems/problem_generator.h"
#include "datasets/tasks/generated_task.h"
#include "layers/coprocessor/latent_source.h"
#include "layers/language_model.h"
#include "layers/memory/memory_module.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/optimizers/optimizer.h"
#include "trainers/tables/table_kind.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

void list(const RegistryBase& registry) {
  for (const auto& name : registry.names()) {
    const auto& entry = registry.entry(name, "$");
    auto fields = entry.new_fieldset();
    fmt::print("{}\n", fit_list(STDOUT_FILENO, fmt::format("{} \"{}\": {}\n{}", registry.kind(),
                                                           name, entry.doc, config_help(*fields))));
  }
}

}  // namespace

void add_modules_command(CLI::App& app) {
  auto* command =
      app.add_subcommand("modules",
                         "List models, memory modules, latent sources, generated tasks, "
                         "optimizers, schedules and table kinds with their options");
  auto plugins = std::make_shared<std::vector<std::string>>();
  command->add_option("--plugin", *plugins, "load this shared library first (repeatable)")
      ->allow_extra_args(false);
  command->callback([plugins] {
    for (const auto& p : *plugins) load_plugin(p);
    list(ModelRegistry::instance());
    list(MemoryRegistry::instance());
    list(LatentRegistry::instance());
    list(TaskRegistry::instance());
    list(ProblemRegistry::instance());
    list(OptimizerRegistry::instance());
    list(ScheduleRegistry::instance());
    list(TableKindRegistry::instance());
  });
}

}  // namespace reverie
