#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/distributed/launch.h"
#include "trainers/tables/repro.h"
#include "trainers/tables/sweeps/learning_rate_report.h"
#include "trainers/tables/sweeps/sweep_table.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

constexpr const char* kPreset = "sweep";
constexpr const char* kTableFile = "sweep.json";

struct SweepArguments {
  ConfigArguments config;  // its overrides may hold several values each
  std::string run_directory;
  int64_t seeds = 1;
  bool report_only = false, print_schema = false, print_table = false, find_learning_rate = false;
  LearningRateRangeOptions range;
};

// "1e-3,3e-4" -> two texts; commas inside brackets, braces and quotes do not part.
std::vector<std::string> parted(const std::string& values) {
  std::vector<std::string> parts(1);
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < values.size(); ++i) {
    const char c = values[i];
    if (c == '"' && (i == 0 || values[i - 1] != '\\')) quoted = !quoted;
    if (!quoted && (c == '[' || c == '{')) ++depth;
    if (!quoted && (c == ']' || c == '}')) --depth;
    if (c == ',' && !quoted && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

Json value_of(const std::string& text) {
  const Json json = parse_json_or_discard(text);
  return json.is_discarded() ? Json(text) : json;
}

// What --set leaves for every run, and what it varies.
struct Settings {
  std::vector<std::string> fixed;
  Json vary = Json::object();
};
Settings settings_of(const std::vector<std::string>& assignments) {
  Settings out;
  for (const std::string& assignment : assignments) {
    const size_t equals = assignment.find('=');
    if (equals == assignment.npos || equals == 0)
      throw ConfigError(
          fmt::format("--set {}: wanted PATH=VALUE, or PATH=VALUE,VALUE,... for an option to vary",
                      assignment));
    const std::string path = assignment.substr(0, equals);
    const auto parts = parted(assignment.substr(equals + 1));
    if (parts.size() == 1) {
      out.fixed.push_back(assignment);
      continue;
    }
    Json values = Json::array();
    for (const std::string& part : parts) {
      if (part.empty())
        throw ConfigError(fmt::format("--set {}: a value between its commas is empty", assignment));
      values.push_back(value_of(part));
    }
    if (out.vary.contains(path))
      throw ConfigError(fmt::format("--set {}: {} is varied twice", assignment, path));
    out.vary[path] = values;
  }
  return out;
}

std::string command_of(const SweepArguments& a) {
  std::string command = "reverie sweep " + shell_word(a.config.file);
  for (const auto& s : a.config.overrides) command += " --set " + shell_word(s);
  if (a.config.lenient) command += " --lenient";
  command +=
      a.find_learning_rate
          ? fmt::format(" --find-learning-rate --steps {} --lowest-rate {} --highest-rate {}",
                        a.range.steps, a.range.low, a.range.high)
          : fmt::format(" --seeds {}", a.seeds);
  if (!a.run_directory.empty()) command += " --run-dir " + shell_word(a.run_directory);
  return command;
}

Json table_of(const SweepArguments& a) {
  // An error of the file comes before one of what varies.
  Config::from_file(a.config.file, a.config.lenient);
  const Settings settings = settings_of(a.config.overrides);
  if (settings.vary.empty())
    throw ConfigError(
        "nothing is varied: give one value several settings, such as --set "
        "optimizer.learning_rate=1e-3,3e-4");
  Config base = Config::from_file(a.config.file, a.config.lenient);
  if (base.has("presets"))
    throw ConfigError(fmt::format(
        "{} is a table already, wanted an experiment; train it with: `reverie repro {}`",
        a.config.file, a.config.file));
  for (const auto& s : settings.fixed) base.set(s);
  const int64_t first = base.json().value("seed", ExperimentOptions().seed);
  Json seeds = Json::array();
  for (int64_t i = 0; i < a.seeds; ++i) seeds.push_back(first + i);
  std::string varied;
  for (const auto& [path, values] : settings.vary.items())
    varied += (varied.empty() ? "" : ", ") + path;
  return {{"kind", "sweep"},
          {"title", fmt::format("{}: {} varied",
                                std::filesystem::path(a.config.file).stem().string(), varied)},
          {"base", base.json()},
          {"vary", settings.vary},
          {"presets", {{kPreset, {{"seeds", seeds}}}}}};
}

std::string directory_of(const SweepArguments& a, const char* kind) {
  return !a.run_directory.empty()
             ? a.run_directory
             : fmt::format("runs/{}-{}", std::filesystem::path(a.config.file).stem().string(),
                           kind);
}

void find_rate(const SweepArguments& a) {
  std::optional<Activity> activity(std::in_place, "range test");
  const LearningRateRange range =
      find_learning_rate(a.config.experiment(), a.range,
                         [&](int64_t done, int64_t all) { activity->reach(done, all); });
  activity.reset();
  const std::string directory = directory_of(a, "learning-rate");
  std::filesystem::create_directories(directory);
  write_file_atomically(directory + "/learning_rate.json",
                        json_text(learning_rate_json(range), 2) + "\n");
  write_file_atomically(directory + "/learning_rate.html",
                        learning_rate_html(range, command_of(a)));
  const std::string label = range.leaks ? "  " + range.label() : "";
  const size_t stride = std::max<size_t>(1, range.points.size() / 12);
  fmt::print("{:>13}  {:>9}\n", "learning rate", "loss");
  for (size_t i = 0; i < range.points.size(); i += stride)
    fmt::print("{:>13.2g}  {:>9.4f}{}\n", range.points[i].rate, range.points[i].smooth, label);
  fmt::print("{}\n{}/learning_rate.html\n",
             fit_terminal(STDOUT_FILENO, explain_learning_rate(range)), directory);
}

void run(const SweepArguments& a) {
  if (a.print_schema) {
    fmt::print("{}\n", json_text(sweep_schema(), 2));
    return;
  }
  if (a.config.file.empty())
    throw ConfigError(
        "which experiment? Give a JSON file: `reverie sweep configs/shakespeare_gpt.json --set "
        "optimizer.learning_rate=1e-3,3e-4 --seeds 3`");
  if (launched_as_rank())
    throw ConfigError("sweep runs in one process: with several ranks, train its runs one by one");
  if (a.find_learning_rate) {
    find_rate(a);
    return;
  }
  const Json table = table_of(a);
  if (a.print_table) {
    fmt::print("{}\n", json_text(table, 2));
    return;
  }
  ReproOptions o;
  o.directory = directory_of(a, kPreset);
  o.table_file = o.directory + "/" + kTableFile;
  o.preset = kPreset;
  o.report_only = a.report_only;
  o.config_directory = a.config.directory();
  o.command = command_of(a);
  o.program = kThisProgram;
  // Nothing is written for a definition that is wrong.
  o.table = table;
  plan_table(o);
  std::filesystem::create_directories(o.directory);
  write_file_atomically(o.table_file, json_text(table, 2) + "\n");
  SignalGuard signals;
  if (const int status = run_table(o)) exit_with(status);
}

}  // namespace

void add_sweep_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "sweep", "Train every combination of some values of an experiment, over seeds");
  auto a = std::make_shared<SweepArguments>();
  command->add_option("config", a->config.file, "experiment, a JSON file");
  command
      ->add_option("--set", a->config.overrides,
                   "one value for all runs, or several values to vary: --set "
                   "optimizer.learning_rate=1e-3,3e-4 (repeatable; every combination is trained)")
      ->take_all()
      ->allow_extra_args(false);
  a->config.add_lenient(*command);
  auto* seeds =
      command
          ->add_option("--seeds", a->seeds,
                       "number of seeds for each combination: the experiment's own seed and those "
                       "after it")
          ->check(CLI::PositiveNumber)
          ->capture_default_str();
  command->add_option("--run-dir", a->run_directory,
                      "where runs and table go (default: runs/<config's name>-sweep)");
  auto* report_only = command->add_flag("--report-only", a->report_only,
                                        "train nothing; write the table of the finished runs");
  auto* find_rate =
      command->add_flag("--find-learning-rate", a->find_learning_rate,
                        "train once instead, shortly, with a learning rate that grows until the "
                        "loss diverges");
  command->add_option("--steps", a->range.steps, "number of steps of --find-learning-rate")
      ->capture_default_str()
      ->needs(find_rate);
  command->add_option("--lowest-rate", a->range.low, "first learning rate of --find-learning-rate")
      ->capture_default_str()
      ->needs(find_rate);
  command->add_option("--highest-rate", a->range.high, "last learning rate of --find-learning-rate")
      ->capture_default_str()
      ->needs(find_rate);
  auto* print_table =
      command->add_flag("--print-table", a->print_table,
                        "print the table's definition (for `reverie repro`) and exit");
  find_rate->excludes(seeds)->excludes(report_only)->excludes(print_table);
  command->add_flag("--print-schema", a->print_schema,
                    "print the JSON Schema of sweep definitions and exit");
  command->callback([a] { run(*a); });
}

}  // namespace reverie
