#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/signals.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/distributed/launch.h"
#include "trainers/runs/run_directory.h"
#include "trainers/tables/repro.h"
#include "trainers/tables/table_ranks.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

std::string command_of(const ReproOptions& o) {
  std::string command =
      fmt::format("reverie repro {} --preset {}", shell_word(o.table_file), shell_word(o.preset));
  for (const auto& s : o.table_overrides) command += " --set-table " + shell_word(s);
  for (const auto& s : o.overrides) command += " --set " + shell_word(s);
  if (o.shrink > 1) command += fmt::format(" --shrink {}", o.shrink);
  return o.lenient ? command + " --lenient" : command;
}

void say_shrunk(const ReproOptions& o) {
  if (o.shrink > 1)
    log_info("shrunk by {}: no figure below is one of this table's own sizes", o.shrink);
}

// One of several ranks: whatever ends it ends the others.
void run_as_rank(ReproOptions& o, std::shared_ptr<Communicator> host) {
  int status = 0;
  try {
    share_cores(*host);
    TableRanks ranks(host);
    if (ranks.first()) {
      log_info("{} ranks over {}: the first one plans, measures and writes the table", host->size(),
               host->kind());
      say_shrunk(o);
      o.ranks = &ranks;
      status = run_table(o);
      ranks.end(status);
    } else {
      set_log_level(LogLevel::error);
      Activity::show_all(false);
      status = ranks.follow();
    }
  } catch (const std::exception& e) {
    const auto* error = dynamic_cast<const Error*>(&e);
    const auto* interrupted = dynamic_cast<const Interrupted*>(&e);
    status = interrupted ? 128 + interrupted->signal
                         : int(error ? error->exit_code() : ExitCode::runtime);
    if (host->first() || !host->failing_together())
      log_error("rank {}: {}", host->rank(), e.what());
    if (!host->failing_together()) host->abort(status, e.what());
  }
  if (status != 0) exit_with(status);
}

void run(ReproOptions& o) {
  if (o.table_file.empty())
    throw ConfigError(
        "which table? Give its definition: `reverie repro configs/tables/imm_shakespeare.json`");
  if (o.directory.empty())
    o.directory = fmt::format("runs/{}-{}{}", std::filesystem::path(o.table_file).stem().string(),
                              o.preset, o.shrink > 1 ? fmt::format("-shrunk-{}", o.shrink) : "");
  if (std::filesystem::exists(std::filesystem::path(o.directory) / kConfigFile))
    throw ConfigError(fmt::format(
        "{} is the directory of a run: a table's pages would replace the run's; name another "
        "(--run-dir)",
        o.directory));
  o.command = command_of(o);
  SignalGuard signals;
  if (launched_as_rank()) return run_as_rank(o, communicator_from_environment());
  say_shrunk(o);
  try {
    if (const int status = run_table(o)) exit_with(status);
  } catch (const Interrupted& i) {
    log_info("stopped; the same command continues from there");
    exit_with(128 + i.signal);
  }
}

}  // namespace

void add_repro_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "repro",
      "Reproduce a table: train the missing runs, and write table.md, table.json and "
      "report.html");
  auto o = std::make_shared<ReproOptions>();
  o->program = kThisProgram;
  auto schema = std::make_shared<std::string>();
  command->add_option("table", o->table_file,
                      "table definition, e.g. configs/tables/imm_shakespeare.json");
  command
      ->add_option("--preset", o->preset,
                   "smoke (minutes; the default), laptop (an hour or more), paper (needs a GPU), "
                   "or another preset of the table")
      ->capture_default_str();
  command->add_option("--run-dir", o->directory,
                      "where runs and table go (default: runs/<table>-<preset>)");
  auto* only = command->add_option("--only", o->only, "train only these models now (repeatable)")
                   ->allow_extra_args(false);
  command
      ->add_flag("--report-only", o->report_only,
                 "train nothing; write the table of the finished runs")
      ->excludes(only);
  command
      ->add_option("--set", o->overrides, "override one value of every run's config (repeatable)")
      ->allow_extra_args(false);
  command
      ->add_option("--set-table", o->table_overrides,
                   "override one value of the table itself: --set-table "
                   "presets.laptop.base_model=PATH (repeatable)")
      ->allow_extra_args(false);
  add_shrink(*command, o->shrink);
  command->add_flag("--lenient", o->lenient,
                    "the table may hold // comments and commas before closing brackets");
  command
      ->add_option("--print-schema", *schema,
                   "print the JSON Schema of the definitions of a kind and exit; `reverie modules` "
                   "lists the kinds and their keys")
      ->type_name("KIND");
  o->preset = "smoke";
  command->callback([o, schema] {
    if (schema->empty()) return run(*o);
    fmt::print("{}\n", json_text(table_schema(*schema), 2));
  });
}

}  // namespace reverie
