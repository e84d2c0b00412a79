#include "trainers/runs/checkpoint_weights.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/frozen_base.h"
#include "layers/model_options.h"
#include "layers/weights_hash.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

constexpr const char* kInitialBaseFile = "initial_base.json";

// Where files lie, what the config sets, and what the shapes of the weights decide.
bool is_judged_elsewhere(const std::string& key) {
  return key == "path" || key == "base" || key == "base_hash" || key == "block_size" ||
         key == "rematerialize" || key == "vocab_size";
}

// The same weights make another model where its files now say otherwise (rope_theta, say). Records of
// earlier versions, and fields that only one of both knows, are no evidence.
void require_recorded_model(const FrozenBase& base, const Json& record, const std::string& of) {
  if (!record.contains("model")) return;
  const Json now = Json::parse(base.model), &wanted = record.at("model");
  for (const auto& [key, value] : wanted.items())
    if (now.contains(key) && now.at(key) != value && !is_judged_elsewhere(key))
      throw DataError(fmt::format(
          "the base {} is another model than the one that {} was trained beside, with the same "
          "weights: its {} is {}, wanted {}. Restore the base's files",
          base.path, of, key, now.at(key).dump(), value.dump()));
}

// The checkpoint's weights, and those of the base as the model has them.
NamedTensors with_own_base(const FrozenBase& base, const LanguageModel& model,
                           const NamedTensors& stored) {
  NamedTensors all = weights_beside(base, stored);
  for (const auto& [name, tensor] : base_weights(base, model.state()))
    all.emplace_back(base.prefix + name, tensor);
  return all;
}

}  // namespace

Json record_of(const FrozenBase& base) {
  return {{"path", base.path}, {"weights_hash", base.hash}, {"model", Json::parse(base.model)}};
}

void require_recorded(const FrozenBase& base, const Json& record, const std::string& of,
                      const std::string& advice) {
  const Json hash = record.is_object() ? record.value("weights_hash", Json()) : Json();
  if (!hash.is_string())
    throw DataError(
        fmt::format("{}: what it says of its base is damaged: no \"weights_hash\"", of));
  const auto wanted = hash.get<std::string>();
  if (base.hash == wanted) return require_recorded_model(base, record, of);
  throw DataError(
      fmt::format("the base {} has other weights than those that {} was trained beside: their hash "
                  "is {}, wanted {}. Restore the base{}",
                  base.path, of, base.hash, wanted, advice));
}

void save_weights(LanguageModel& model, CheckpointContents& to) {
  to.model = model.state();
  FrozenBase* base = frozen_base_of(model);
  if (!base || !base->in_files) return;
  if (!base->parameters.empty())
    if (const std::string now = hash_of_weights(base_weights(*base, to.model)); now != base->hash)
      throw InternalError(fmt::format(
          "the frozen parameters have changed: the weights of the base {} hash to {} now, and to "
          "{} "
          "when it was opened. Was the file overwritten? The last checkpoint is good: restore the "
          "file, then continue with --resume",
          base->path, now, base->hash));
  to.model = weights_beside(*base, to.model);
  to.state[kBaseKey] = record_of(*base);
  to.state[kBaseKey]["tensors"] = base->parameters.size();
  to.model_metadata["base"] = base->path;
  to.model_metadata["base_weights_hash"] = base->hash;
}

void load_weights(LanguageModel& model, const StoredCheckpoint& from) {
  const NamedTensors& stored = from.contents.model;
  FrozenBase* base = frozen_base_of(model);
  if (from.contents.state.contains(kBaseKey)) {
    require_recorded_base(model, from.contents.state, from.directory);
    return model.load(with_own_base(*base, model, stored));
  }
  const NamedTensors its = base ? base_weights(*base, stored) : NamedTensors();
  if (its.empty()) return model.load(stored);
  const std::string hash = hash_of_weights(its);
  if (hash == base->hash) return model.load(with_own_base(*base, model, stored));
  log_warning(
      "the base {} has other weights (hash {}) than the checkpoint {} holds of it ({}): those of "
      "the "
      "checkpoint are used, and later checkpoints hold them, too",
      base->path, base->hash, from.directory, hash);
  model.load(stored);
  base->hash = hash;
  base->in_files = false;
}

Json newest_base_record(const std::string& run_directory) {
  const auto checkpoints = checkpoints_of(run_directory);
  if (checkpoints.empty()) return {};
  const std::string file = file_in(checkpoints.back(), "state.json");
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) return {};
  const Json state = parse_json_or_discard(read_file(file));
  if (!state.is_object() || !state.contains(kBaseKey)) return {};
  const Json& record = state.at(kBaseKey);
  const bool readable = record.is_object() && record.value("path", Json()).is_string() &&
                        record.value("weights_hash", Json()).is_string();
  return readable ? record : Json();
}

std::optional<FrozenBase> trained_base(LanguageModel& model, const Component& component) {
  const auto path = configured_base(component);
  if (!path || frozen_base_of(model)) return std::nullopt;
  constexpr std::string_view kPrefix = "base.";
  NamedTensors all = model.state(), inner;
  for (const auto& [name, tensor] : all)
    if (name.starts_with(kPrefix)) inner.emplace_back(name.substr(kPrefix.size()), tensor);
  FrozenBase base;
  base.path = *path;
  base.hash = hash_of_weights(inner.empty() ? all : inner);
  return base;
}

void keep_initial_base(LanguageModel& model, const Component& component,
                       const std::string& run_directory) {
  const auto base = trained_base(model, component);
  if (!base) return;
  const Json record = {{"path", base->path}, {"weights_hash", base->hash}};
  write_file_atomically(file_in(run_directory, kInitialBaseFile), json_text(record, 2) + "\n");
}

Json initial_base_record(const std::string& run_directory) {
  const std::string file = file_in(run_directory, kInitialBaseFile);
  return std::filesystem::exists(file) ? read_stored_json(file).json() : Json();
}

void require_recorded_base(LanguageModel& model, const Json& state, const std::string& checkpoint) {
  if (!state.contains(kBaseKey)) return;
  const Json& wanted = state.at(kBaseKey);
  const FrozenBase* base = frozen_base_of(model);
  if (!base)
    throw DataError(
        fmt::format("{} names a frozen base, {}, but the model of its config has none: config and "
                    "checkpoint are "
                    "of two runs",
                    checkpoint, wanted.at("path").get<std::string>()));
  if (dry_run()) return;
  require_recorded(
      *base, wanted, checkpoint,
      fmt::format(
          ", or say where the right one lies: reverie inspect RUN --base PATH (in train --resume: "
          "--set model.base=PATH, or model.path=PATH for a \"pretrained\" model); state.json names "
          "it under \"{}\"",
          kBaseKey));
}

}  // namespace reverie
