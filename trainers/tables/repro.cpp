#include "trainers/tables/repro.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "trainers/monitoring/machine.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/tables/report.h"
#include "trainers/tables/table.h"
#include "trainers/training/signals.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct TableFile {
  Config config;
  std::string directory;  // of the file: plugins are looked up beside it
  TablePreset preset;
  Json preset_patch = Json::object();
  Json model_patches = Json::object();  // by model, in this preset only
};

template <class T>
std::vector<T> list_of(const Config& c, const std::string& key) {
  try {
    return c.at(key).json().get<std::vector<T>>();
  } catch (const nlohmann::json::exception&) {
    throw ConfigError(
        fmt::format("{}.{}: wanted a list, got {}", c.path(), key, c.at(key).json().dump()));
  }
}

void known_keys(const Config& c, const std::vector<std::string>& known) {
  for (const auto& [key, value] : c.json().items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const auto near = nearest_name(key, known);
    throw ConfigError(fmt::format("unknown key \"{}\" at {}{}", key, c.path(),
                                  near ? fmt::format("; did you mean \"{}\"?", *near) : ""));
  }
}

TableFile read_table(const ReproOptions& o) {
  TableFile t;
  t.config = Config::from_file(o.table_file);
  const auto parent = std::filesystem::path(o.table_file).parent_path();
  t.directory = parent.empty() ? "." : parent.string();
  const Config presets = t.config.at("presets");
  if (!presets.has(o.preset)) {
    std::string known;
    for (const auto& [name, value] : presets.json().items())
      known += (known.empty() ? "" : ", ") + name;
    throw ConfigError(
        fmt::format("{} has no preset \"{}\"; it has: {}", o.table_file, o.preset, known));
  }
  const Config p = presets.at(o.preset);
  t.preset = {list_of<std::string>(p, "models"), list_of<int64_t>(p, "block_sizes"),
              list_of<int64_t>(p, "seeds")};
  known_keys(t.config, {"title", "report", "base", "block_sizes", "models", "presets"});
  known_keys(p, {"models", "block_sizes", "seeds", "patch", "model_patches"});
  if (p.has("patch")) t.preset_patch = p.at("patch").json();
  if (p.has("model_patches")) t.model_patches = p.at("model_patches").json();
  for (const auto& name : o.only)
    if (std::find(t.preset.models.begin(), t.preset.models.end(), name) == t.preset.models.end())
      throw ConfigError(fmt::format("--only {}: preset {} has no such model", name, o.preset));
  return t;
}

std::vector<PlannedRun> plan(const TableFile& t, const ReproOptions& o) {
  std::vector<PlannedRun> runs;
  std::map<std::string, std::string>
      data_hashes;  // by the "data" object: other text under the same name is another run
  for (int64_t seed : t.preset.seeds)
    for (int64_t block : t.preset.block_sizes)
      for (const auto& model : t.preset.models) {
        PlannedRun r;
        r.model = model;
        r.block_size = block;
        r.seed = seed;
        r.config = Config(t.config.at("base").json(), "$");
        r.config.merge(t.config.at("block_sizes").at(std::to_string(block)));
        r.config.merge(t.config.at("models").at(model));
        r.config.merge(Config(t.preset_patch, "$"));
        if (t.model_patches.contains(model)) r.config.merge(Config(t.model_patches.at(model), "$"));
        r.config.set("model.block_size=" + std::to_string(block));
        r.config.set("seed=" + std::to_string(seed));
        for (const auto& s : o.overrides) r.config.set(s);
        ExperimentOptions options = read_experiment(r.config, t.directory);
        const std::string data = write_config(options.data).dump();
        if (!data_hashes.contains(data)) data_hashes[data] = open_dataset(options.data).hash;
        const std::string resolved = write_config(options).dump() + data_hashes[data];
        r.directory = fmt::format("{}/runs/{}-{}-seed{}-{}", o.directory, model, block, seed,
                                  hash_bytes(resolved.data(), resolved.size()).substr(0, 8));
        runs.push_back(std::move(r));
      }
  return runs;
}

// The table of what is finished, beside the paper's figures.
void write_table(const TableFile& t, const ReproOptions& o, const std::vector<PlannedRun>& runs) {
  std::vector<TableRun> finished;
  for (const PlannedRun& r : runs)
    if (run_finished(r.directory))
      finished.push_back({r.model, r.block_size, uint64_t(r.seed), read_summary(r.directory),
                          read_metrics(r.directory), r.directory});
  if (finished.empty()) return;
  Json definition = t.config.at("report").json();
  definition["title"] = t.config.at("title").json();
  definition["preset"] = o.preset;
  definition["command"] = o.command;
  definition["planned_runs"] = runs.size();
  const Table table = build_table(definition, finished);
  write_file_atomically(o.directory + "/table.json", table_json(table).dump(2) + "\n");
  write_file_atomically(o.directory + "/table.md", table_markdown(table));
  write_file_atomically(o.directory + "/report.html", report_html(table, finished));
}

}  // namespace

std::vector<PlannedRun> plan_table(const ReproOptions& o) {
  return plan(read_table(o), o);
}

int run_table(const ReproOptions& o) {
  const TableFile t = read_table(o);
  const auto runs = plan(t, o);
  std::filesystem::create_directories(o.directory);
  size_t number = 0;
  for (const PlannedRun& r : runs) {
    ++number;
    if (o.report_only ||
        (!o.only.empty() && std::find(o.only.begin(), o.only.end(), r.model) == o.only.end()))
      continue;
    const std::string context =
        fmt::format("run {}/{} {}/{} seed {}", number, runs.size(), r.model, r.block_size, r.seed);
    if (run_finished(r.directory)) {
      log_info("{}: finished before, reused", context);
      continue;
    }
    RunControl control;
    control.run_directory = r.directory;
    control.resume = true;
    control.context = context;
    Trainer trainer(read_experiment(r.config, t.directory), control);
    if (number == 1 && !trainer.dataset().note().empty())
      log_info("text: {}: {}", trainer.dataset().name(), trainer.dataset().note());
    if (trainer.run() == RunEnd::stopped) {
      log_info("stopped in {}; the same command goes on from there", context);
      return requested_signal() ? 128 + requested_signal() : 0;
    }
    write_table(t, o, runs);
  }
  write_table(t, o, runs);
  if (std::filesystem::exists(o.directory + "/table.md"))
    fmt::print("{}\n{}/table.md\n{}/table.json\n{}/report.html\n",
               read_file(o.directory + "/table.md"), o.directory, o.directory, o.directory);
  return 0;
}

}  // namespace reverie
