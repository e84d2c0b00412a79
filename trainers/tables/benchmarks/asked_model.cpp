#include "trainers/tables/benchmarks/asked_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <tuple>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/benchmarks/benchmark.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/run_reference.h"
#include "trainers/tables/kept_measurement.h"
#include "trainers/tables/trial_runs.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char* kAskedFormat = "reverie asked benchmark 1";
constexpr const char *kItemsKey = "items_hash", *kPoolKey = "pool_hash";

int64_t steps_of(const std::string& run) {
  return read_stored_json(run + "/" + kConfigFile).json().at("train").value("steps", int64_t(0));
}

// The benchmark's own measure: the first that is right or wrong for each item.
const Measure& main_measure(const BenchmarkResult& result) {
  for (const Measure& measure : result.measures)
    if (!measure.perplexity) return measure;
  throw InternalError("a benchmark has no measure that is right or wrong");
}

// The hashes of the items and of the pool of examples; null where a file is not there.
Json hashes_of(const DefinitionFile& definition) {
  const auto files = find_item_files(definition, {});
  if (!files) return nullptr;
  Json hashes = {{kItemsKey, hash_file(files->items)}};
  if (!files->pool.empty()) hashes[kPoolKey] = hash_file(files->pool);
  return hashes;
}

// Earlier versions named no pool.
bool is_of_items(const Json& made, const DefinitionFile& definition) {
  const Json now = hashes_of(definition);
  if (now.is_null()) return true;  // there is nothing to compare with
  return made.value(kItemsKey, Json()) == now.at(kItemsKey) &&
         (!made.contains(kPoolKey) || made.at(kPoolKey) == now.value(kPoolKey, Json()));
}

double mean_tokens(const BenchmarkResult& result) {
  double tokens = 0;
  for (const Json& item : result.results)
    tokens += item.value("tokens", 0.0) + item.value("second_tokens", 0.0);
  return tokens / double(result.results.size());
}

bool has_written_answers(const AskedTask& task) {
  return read_benchmark(task.base).definition.type == "generate";
}

// The preset of configs/tables/cache_augmentation.json whose directory this is by default.
std::string preset_of(const std::string& runs) {
  constexpr std::string_view kTable = "cache_augmentation-";
  fs::path path(runs);
  if (!path.has_filename()) path = path.parent_path();
  const std::string name = path.filename().string();
  return name.starts_with(kTable) ? name.substr(kTable.size()) : "PRESET";
}

}  // namespace

// Runs are named MODEL-LATENTS-seedSEED-HASH, and so are trials of learning rates. Of two runs that
// differ in length alone, the shorter is a trial that was not measured yet.
std::vector<AskedBenchmarks::Row> AskedBenchmarks::rows_of_runs() const {
  static const std::regex kName("(.+)-([0-9]{1,9})-seed([0-9]{1,15})-[0-9a-f]{8}");
  std::map<std::tuple<std::string, int64_t, int64_t>, std::string> found;
  const fs::path runs = fs::path(asked_.runs) / "runs";
  if (fs::is_directory(runs))
    for (const auto& entry : fs::directory_iterator(runs)) {
      const std::string directory = entry.path().string(), name = entry.path().filename().string();
      std::smatch part;
      if (!std::regex_match(name, part, kName) || !run_finished(directory)) continue;
      const std::string model = part[1];
      if (std::find(asked_.latents.begin(), asked_.latents.end(), model) == asked_.latents.end())
        continue;
      if (measured_as_trial(directory)) continue;
      std::string& kept = found[{model, std::stoll(part[2]), std::stoll(part[3])}];
      require(kept.empty() || steps_of(kept) != steps_of(directory),
              "{} and {} are both finished runs of one model, number of latents, seed and length: "
              "remove the one that is not meant",
              kept, directory);
      if (kept.empty() || steps_of(kept) < steps_of(directory)) kept = directory;
    }
  std::vector<Row> rows;
  for (const auto& [key, directory] : found) {
    const auto& [model, latents, seed] = key;
    Row row{model, directory, latents, seed};
    row.augmented = latents > 0;
    if (!row.augmented) {
      rows.push_back(row);
      continue;
    }
    const bool shuffles = std::find(shuffled_.begin(), shuffled_.end(), model) != shuffled_.end();
    for (const int64_t every : asked_.latents_every) {
      row.latents_every = every;
      for (const bool shuffled : {false, true}) {
        row.shuffled = shuffled;
        if (!shuffled || shuffles) rows.push_back(row);
      }
    }
  }
  return rows;
}

std::vector<MissingRuns> AskedBenchmarks::missing_runs() const {
  const std::vector<Row> there = rows_of_runs();
  std::vector<MissingRuns> missing;
  for (const std::string& model : asked_.latents)
    if (std::none_of(there.begin(), there.end(), [&](const Row& r) { return r.model == model; }))
      missing.push_back(
          {model, fmt::format("reverie repro configs/tables/cache_augmentation.json --preset {} "
                              "--run-dir {} --only {}",
                              preset_of(asked_.runs), asked_.runs, model)});
  return missing;
}

void AskedBenchmarks::require_written_answers() const {
  const auto every = std::max_element(asked_.latents_every.begin(), asked_.latents_every.end());
  if (*every == 0) return;
  for (const auto& [name, task] : asked_.tasks)
    if (has_written_answers(task)) return;
  throw ConfigError(fmt::format(
      "\"asked\": latents_every has {}, but none of the tasks has answers that the model "
      "writes (type \"generate\"): remove it, or name such a task",
      *every));
}

BenchmarkCell AskedBenchmarks::cell_of(const Row& row, const std::string& task) {
  return {task, row.model, row.latents, 0, row.shuffled, row.latents_every};
}

std::vector<AskedBenchmarks::Row> AskedBenchmarks::rows() const {
  std::vector<Row> rows;
  for (const char* name : {kAskedBase, kAskedZeroShot, kAskedFewShot})
    rows.push_back({name, asked_.model});
  for (Row& row : rows_of_runs()) rows.push_back(std::move(row));
  return rows;
}

std::string AskedBenchmarks::definition_of(const AskedTask& task, const Row& row) {
  if (row.model == kAskedZeroShot) return task.zero_shot;
  if (row.model == kAskedFewShot) return task.few_shot;
  return row.latents_every > 0 && !has_written_answers(task) ? std::string() : task.base;
}

std::string AskedBenchmarks::file_of(const Row& row, const std::string& task) const {
  return fmt::format("{}/asked/{}-{}{}{}{}-{}.json", directory_, row.model, row.latents,
                     row.seed ? fmt::format("-seed{}", *row.seed) : "",
                     row.latents_every > 0 ? fmt::format("-every{}", row.latents_every) : "",
                     row.shuffled ? "-shuffled" : "", task);
}

Json AskedBenchmarks::wanted(const Row& row, const std::string& definition) const {
  Json out = {{"format", kAskedFormat},
              {"model", row.path},
              {"definition", definition_hash(read_benchmark(definition).definition)},
              {"limit", asked_.limit},
              {"latents", row.augmented},
              {"shuffled", row.shuffled}};
  // Left out on the CPU, where earlier versions asked every published model. A run's own is its
  // config's.
  if (device_ != "cpu" && !row.seed) out["device"] = device_;
  if (row.latents_every > 0) out["latents_every"] = row.latents_every;
  return out;
}

Json AskedBenchmarks::kept(const Row& row, const std::string& task,
                           const std::string& definition) const {
  Json made = kept_measurement(file_of(row, task), wanted(row, definition), row.path);
  if (!made.is_null() && !is_of_items(made, read_benchmark(definition))) return nullptr;
  return made;
}

std::vector<AskedBenchmarks::Question> AskedBenchmarks::unmeasured() const {
  std::vector<Question> out;
  for (const Row& row : rows())
    for (const auto& [name, task] : asked_.tasks) {
      const std::string definition = definition_of(task, row);
      if (!definition.empty() && kept(row, name, definition).is_null())
        out.push_back({row, name, definition});
    }
  return out;
}

AskedBenchmarks::MissingByDefinition AskedBenchmarks::missing_of(
    const std::vector<Question>& questions) {
  MissingByDefinition missing;
  for (const Question& q : questions)
    if (!missing.contains(q.definition))
      missing[q.definition] = missing_data(read_benchmark(q.definition));
  return missing;
}

std::vector<BenchmarkGap> AskedBenchmarks::gaps() const {
  const std::vector<Question> questions = unmeasured();
  const MissingByDefinition missing = missing_of(questions);
  const std::vector<BenchmarkRun> measured = finished();
  std::vector<BenchmarkGap> out;
  for (const Question& q : questions) {
    const std::vector<MissingData>& files = missing.at(q.definition);
    if (files.empty()) continue;
    const BenchmarkCell cell = cell_of(q.row, q.task);
    // Seeds share a row, and some may have been measured before the file went.
    const auto of_cell = [&](const auto& other) { return other.cell == cell; };
    if (std::none_of(out.begin(), out.end(), of_cell) &&
        std::none_of(measured.begin(), measured.end(), of_cell))
      out.push_back({cell, files[0].file});
  }
  return out;
}

// A file may be wanted by several tasks: it is named once, with all of them.
void AskedBenchmarks::tell_missing(const std::vector<Question>& questions,
                                   const MissingByDefinition& missing) const {
  std::map<std::string, std::vector<std::string>> tasks;
  std::map<std::string, std::string> where;
  size_t left_out = 0;
  for (const Question& q : questions) {
    left_out += !missing.at(q.definition).empty();
    for (const MissingData& data : missing.at(q.definition)) {
      std::vector<std::string>& of_file = tasks[data.file];
      if (std::find(of_file.begin(), of_file.end(), q.task) == of_file.end())
        of_file.push_back(q.task);
      where.try_emplace(data.file, data.where);
    }
  }
  if (left_out == 0) return;
  std::string files;
  for (const auto& [file, of_file] : tasks)
    files += fmt::format("\n{} (of {}) is {}", file, fmt::join(of_file, ", "), where.at(file));
  require(left_out < questions.size() || !finished().empty(),
          "nothing can be measured: the items are missing. Get them and run this again:{}", files);
  log_warning(
      "{} of {} measurements are left out, since their items are missing; the table says \"no "
      "data\" there. All others are made. Get the files and run this again:{}",
      left_out, questions.size(), files);
}

void AskedBenchmarks::measure(const Row& row, const MissingByDefinition& missing) const {
  std::optional<UsableModel> model;  // opened where something is missing
  Json published = Json::object();
  for (const auto& [name, task] : asked_.tasks) {
    const std::string definition = definition_of(task, row);
    if (definition.empty()) continue;
    if (!kept(row, name, definition).is_null()) continue;
    const std::string file = file_of(row, name);
    if (const auto found = missing.find(definition);
        found != missing.end() && !found->second.empty())
      continue;
    const DefinitionFile read = read_benchmark(definition);
    ItemOptions first;
    first.limit = asked_.limit;
    // Named before they are read: what is replaced meanwhile is measured again.
    const Json hashes = hashes_of(read);
    const BenchmarkItems items = read_items(read, first);
    if (!model) {
      if (!find_run(row.path)) name_published(published, row.path);
      OpenOptions open;
      if (device_ == "cuda") open.device = {DeviceKind::cuda, 0};
      model = open_model(row.path, open);
    }
    log_info("{}{}{} on {}: {} items", row.path,
             row.shuffled    ? ", latents shuffled"
             : row.augmented ? ", with its latents"
                             : "",
             row.latents_every > 0 ? fmt::format(", anew every {} tokens", row.latents_every) : "",
             definition, items.items.size());
    BenchmarkOptions options;
    options.latents = row.augmented;
    options.shuffled = row.shuffled;
    options.latents_every = row.latents_every;
    options.batch_tokens = measure_.batch_tokens;
    options.results_folder = directory_ + "/asked/unfinished";
    const BenchmarkResult result = run_benchmark(*model, read, items, options);
    const auto scored = double(std::max<int64_t>(1, int64_t(items.items.size()) - result.before));
    if (row.seed) keep_leak(row.path, result.verdict);
    Json json = {{"of", wanted(row, definition)},
                 {"data", items.data_file},
                 {"all_items", items.all},
                 {"chance", items.chance},
                 {"measure", main_measure(result).name},
                 {"right", main_measure(result).values},
                 {"tokens", mean_tokens(result)},
                 {"milliseconds", 1000 * result.seconds / scored},
                 {"verdict", result.verdict.json()}};
    json.update(hashes);
    if (find_run(row.path))
      name_checkpoint(json, model->description);
    else
      json.update(published);
    write_file_atomically(file, json_text(json) + "\n");
    result.kept->remove();
  }
}

void AskedBenchmarks::measure() const {
  require_device(device_);
  require_written_answers();
  fs::create_directories(directory_ + "/asked/unfinished");
  for (const MissingRuns& missing : missing_runs())
    log_warning(
        "{}/runs holds no finished run of {}: its rows are left out, which the table says. Make "
        "one "
        "with `{}`, then run this again",
        asked_.runs, missing.model, missing.command);
  const std::vector<Question> questions = unmeasured();
  const MissingByDefinition missing = missing_of(questions);
  tell_missing(questions, missing);
  for (const Row& row : rows()) measure(row, missing);
}

std::vector<BenchmarkRun> AskedBenchmarks::finished() const {
  std::vector<BenchmarkRun> runs;
  for (const Row& row : rows())
    for (const auto& [name, task] : asked_.tasks) {
      const std::string definition = definition_of(task, row);
      if (definition.empty()) continue;
      const std::string file = file_of(row, name);
      const Json json = kept(row, name, definition);
      if (json.is_null()) continue;
      BenchmarkRun run;
      run.cell = cell_of(row, name);
      run.seed = row.seed;
      run.directory = row.path;
      try {
        run.right = json.at("right").get<std::vector<double>>();
        run.items_hash = json.at(kItemsKey);
        run.all_items = json.at("all_items");
        run.chance = json.at("chance");
        run.tokens = json.at("tokens");
        run.milliseconds = json.at("milliseconds");
        run.verdict = Verdict::of_file(json);
      } catch (const Json::exception& e) {
        throw DataError(fmt::format("{} is not a complete measurement: {}", file, e.what()));
      }
      runs.push_back(std::move(run));
    }
  return runs;
}

int64_t AskedBenchmarks::planned() const {
  int64_t count = 0;
  for (const Row& row : rows())
    for (const auto& [name, task] : asked_.tasks) count += !definition_of(task, row).empty();
  return count;
}

std::string AskedBenchmarks::plan() const {
  std::string out = fmt::format("{:<24} {:>7} {:>6} {:<20} {}\n", "model", "latents", "seed",
                                "task", "benchmark");
  for (const Row& row : rows())
    for (const auto& [name, task] : asked_.tasks)
      if (const std::string definition = definition_of(task, row); !definition.empty())
        out += fmt::format(
            "{:<24} {:>7} {:>6} {:<20} {}\n",
            row.model +
                (row.latents_every > 0 ? fmt::format(", every {}", row.latents_every) : "") +
                (row.shuffled ? ", shuffled" : ""),
            row.latents, row.seed ? std::to_string(*row.seed) : "", name, definition);
  return out;
}

}  // namespace reverie
