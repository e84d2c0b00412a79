#include "trainers/runs/recorded_run.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/config_paths.h"
#include "core/error.h"
#include "core/log.h"
#include "core/plugin.h"
#include "datasets/dataset.h"
#include "trainers/runs/resumption.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

constexpr const char* kMixed =
    "Files of the run were edited, or are of another run: bring them back from a copy, or train "
    "again into another --run-dir";

// The same config wherever the run lies: other files are known by their hashes.
Json without_places(ExperimentOptions options) {
  each_path(options, [](std::string& path) { path.clear(); });
  Json config = write_config(options);
  for (const char* key : {"device", "plugins"}) config.erase(key);
  config["train"].erase("steps");
  return config;
}

std::vector<std::string> differences(Json recorded, const ExperimentOptions& now,
                                     const std::string& run_directory) {
  // A GPU or plugin of then need not be here: the plugins of `now` are loaded.
  for (const char* key : {"device", "plugins"}) recorded.erase(key);
  try {
    const ExperimentOptions then =
        read_experiment_as_written(Config(std::move(recorded), "$"), run_directory);
    return obstacles_to_resuming(without_places(then), without_places(now));
  } catch (const ConfigError& e) {
    return {e.what()};  // such as a model that these plugins do not register
  }
}

void require_recorded_config(const std::string& run_directory, const ExperimentOptions& options,
                             const StoredCheckpoint& stored) {
  const Json recorded = stored.contents.state.value("config", Json());
  if (!recorded.is_object()) return;
  std::string list;
  for (const std::string& difference : differences(recorded, options, run_directory))
    list += "\n  " + difference;
  if (!list.empty())
    throw DataError(fmt::format(
        "{} is another config than the one in {}/state.json, with which the weights were trained "
        "(recorded -> got):{}\n{}",
        file_in(run_directory, kConfigFile), stored.directory, list, kMixed));
}

void require_recorded_data(const std::string& run_directory, const Tokenizer* tokenizer,
                           const StoredCheckpoint& stored) {
  const std::string file = file_in(run_directory, kDatasetFile);
  if (!std::filesystem::exists(file)) return;
  const Json dataset = read_stored_json(file).json();
  const std::string wanted = stored.contents.state.value("data_hash", "");
  const auto hash = recorded_hash(dataset);
  if (hash && !wanted.empty() && *hash != wanted)
    throw DataError(fmt::format(
        "{} describes other data than those of {}/state.json, on which the weights were trained: "
        "got the hash {}, wanted {}. {}",
        file, stored.directory, *hash, wanted, kMixed));
  const Json own = dataset.value("tokenizer", Json::object()).value("hash", Json());
  if (tokenizer && own.is_string() && own != tokenizer->hash())
    throw DataError(fmt::format(
        "{} is another tokenizer than the run's: got the hash {}, wanted {} (from {}). {}",
        file_in(run_directory, std::string(kTokenizerFile)), tokenizer->hash(),
        own.get<std::string>(), file, kMixed));
}

}  // namespace

void require_one_run(const std::string& run_directory, const ExperimentOptions& options,
                     const Tokenizer* tokenizer, const StoredCheckpoint& stored) {
  require_recorded_config(run_directory, options, stored);
  require_recorded_data(run_directory, tokenizer, stored);
}

Verdict notes_on_plugins(const Json& state) {
  Verdict verdict;
  const Json then = state.value(kPluginsKey, Json::object());
  for (const auto& [name, hash] : plugin_hashes()) {
    const std::string recorded = then.value(name, hash);
    if (recorded == hash) continue;
    log_warning(
        "OTHER PLUGIN: {} is not the file with which this run was trained (hash {}, then {}): its "
        "figures and its verdict may be those of another model",
        name, hash, recorded);
    verdict.add_not_probed(fmt::format("the plugin {}, rebuilt since the run was trained", name));
  }
  return verdict;
}

}  // namespace reverie
