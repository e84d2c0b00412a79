#include "trainers/tables/kept_measurement.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/error.h"
#include "core/files.h"
#include "layers/pretrained/load.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/trained_state.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char *kCheckpointKey = "checkpoint", *kWeightsKey = "checkpoint_weights",
                     *kFilesKey = "model_files";

bool has_weights_of(const Json& made, const std::string& checkpoint) {
  const auto hash = stored_model_hash(checkpoint);
  return hash && made.at(kWeightsKey) == *hash;
}

// Run directories may have moved since: the folder's name says the step.
bool earlier_file_fits(const Json& made, const std::string& file, const std::string& newest) {
  if (const Json named = made.value(kCheckpointKey, Json()); named.is_string())
    return fs::path(named.get<std::string>()).filename() == fs::path(newest).filename();
  return fs::last_write_time(file) >= fs::last_write_time(file_in(newest, "COMPLETE"));
}

// Whether the measurement is of the checkpoint that RUN@best, or a checkpoint's folder, names now.
bool is_of_checkpoint(const Json& made, const std::string& file, const std::string& checkpoint) {
  return made.contains(kWeightsKey) ? has_weights_of(made, checkpoint)
                                    : earlier_file_fits(made, file, checkpoint);
}

// The files that a published model and its tokenizer are read from; none where it is not there.
std::vector<std::string> files_of_published(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  std::vector<std::string> files;
  if (is_trained_state(path)) {
    for (const auto& entry : fs::directory_iterator(path))
      if (entry.is_regular_file()) files.push_back(entry.path().string());
    return files;
  }
  try {
    files = pretrained_files(path);
  } catch (const UserError&) {
    return {};
  }
  const fs::path folder = fs::is_directory(path) ? fs::path(path) : fs::path(path).parent_path();
  const bool has_own = fs::path(path).extension() == ".gguf";
  for (const char* tokenizer :
       {"tokenizer.json", "tokenizer.model", "tokenizer.bin", "reverie_tokenizer.json",
        "vocab.json", "merges.txt", "encoder.json", "vocab.bpe", "tokenizer_config.json",
        "special_tokens_map.json", "added_tokens.json", "generation_config.json"})
    if (!has_own && fs::exists(folder / tokenizer, ignored))
      files.push_back((folder / tokenizer).string());
  std::erase_if(files, [&](const std::string& file) { return !fs::exists(file, ignored); });
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  return files;
}

int64_t time_of_change(const std::string& file) {
  return int64_t(fs::last_write_time(file).time_since_epoch().count());
}

// A table asks for the same gigabytes once for each of its tasks.
std::string hash_once(const std::string& file) {
  static std::map<std::tuple<std::string, uintmax_t, int64_t>, std::string> known;
  std::string& hash = known[{file, fs::file_size(file), time_of_change(file)}];
  if (hash.empty()) hash = hash_file(file);
  return hash;
}

bool is_of_model(const Json& made, const std::string& file, const std::string& model) {
  const auto run = find_run(model);
  if (!run) return is_of_published(made, file, model);
  return run->checkpoint.empty() ? is_of_newest_checkpoint(made, file, run->directory)
                                 : is_of_checkpoint(made, file, run->checkpoint);
}

}  // namespace

void name_published(Json& made, const std::string& path) {
  made[kFilesKey] = Json::object();
  for (const std::string& file : files_of_published(path))
    made[kFilesKey][fs::path(file).filename().string()] = {
        {"bytes", fs::file_size(file)}, {"time", time_of_change(file)}, {"hash", hash_once(file)}};
}

bool is_of_published(const Json& made, const std::string& file, const std::string& path) {
  if (made.contains(kCheckpointKey)) return true;
  const std::vector<std::string> files = files_of_published(path);
  if (files.empty()) return true;
  if (!made.contains(kFilesKey))
    return std::none_of(files.begin(), files.end(), [&](const std::string& of_model) {
      return fs::last_write_time(file) < fs::last_write_time(of_model);
    });
  const Json& before = made.at(kFilesKey);
  return before.size() == files.size() &&
         std::all_of(files.begin(), files.end(), [&](const std::string& of_model) {
           const auto named = before.find(fs::path(of_model).filename().string());
           if (named == before.end() || named->at("bytes") != fs::file_size(of_model)) return false;
           return named->at("time") == time_of_change(of_model) ||
                  named->at("hash") == hash_once(of_model);
         });
}

void name_checkpoint(Json& made, const std::string& checkpoint) {
  made[kCheckpointKey] = checkpoint;
  made[kWeightsKey] = stored_model_hash(checkpoint).value_or("");
}

bool is_of_newest_checkpoint(const Json& made, const std::string& file,
                             const std::string& run_directory) {
  if (!is_run_directory(run_directory)) return true;
  const auto checkpoints = checkpoints_of(run_directory);
  if (checkpoints.empty()) return true;
  const std::string& newest = checkpoints.back();
  if (!made.contains(kWeightsKey)) return earlier_file_fits(made, file, newest);
  if (has_weights_of(made, newest)) return true;
  // load_run() passes over a damaged one.
  const auto whole = latest_checkpoint(run_directory);
  return whole && *whole != newest && has_weights_of(made, *whole);
}

Json kept_measurement(const std::string& file, const Json& wanted, const std::string& model) {
  if (!fs::exists(file)) return nullptr;
  Json made = read_stored_json(file).json();
  if (made.value("of", Json()) != wanted) return nullptr;
  return is_of_model(made, file, model) ? made : Json();
}

}  // namespace reverie
