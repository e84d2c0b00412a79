#include "trainers/runs/trained_state.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/plugin.h"
#include "core/safetensors.h"
#include "layers/coprocessor/augmented_model.h"
#include "layers/frozen_base.h"
#include "layers/model_options.h"
#include "trainers/runs/checkpoint_weights.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char *kState = "state.safetensors", *kConfig = "config.json",
                     *kFormat = "reverie trained state 1";

std::string in(const std::string& directory, const char* name) {
  return (fs::path(directory) / name).string();
}

Json description(const StateToExport& from) {
  Json out = {{"model_type", "reverie_" + from.component.type},
              {"format", kFormat},
              {"model", *from.component.resolved},
              {"plugins", from.plugins},
              {"verdict", from.verdict.json()},
              {"label", from.verdict.label().empty() ? Json() : Json(from.verdict.label())}};
  if (const auto* augmented = dynamic_cast<const AugmentedModel*>(&from.model)) {
    const AugmentedOptions& options = augmented->options();
    out["what"] = fmt::format("latents ({}) beside a {} base", options.latents.type,
                              options.train_base ? "trained" : "frozen");
    out["base"] = {{"path", options.base}, {"weights_hash", augmented->base().weights_hash()}};
  } else {
    const Component memory = configured_memory(from.component);
    out["what"] = fmt::format("a {} model", from.component.type);
    if (memory.given())
      out["what"] =
          fmt::format("a {} model with a memory module ({})", from.component.type, memory.type);
  }
  if (const FrozenBase* base = frozen_base_of(from.model)) out["base"] = record_of(*base);
  return out;
}

}  // namespace

void export_trained_state(const StateToExport& from, const std::string& directory) {
  NamedTensors trained, memory;
  for (const auto& [name, parameter] : from.model.parameters()) {
    if (!parameter.requires_grad()) continue;
    trained.emplace_back(name, parameter.tensor());
    if (name.find(".memory.") != std::string::npos) memory.emplace_back(name, parameter.tensor());
  }
  require(!fs::exists(directory) ||
              (fs::is_directory(directory) &&
               (fs::is_empty(directory) || fs::exists(fs::path(directory) / kState))),
          "{} holds files that are no earlier export: name a new directory", directory);
  fs::create_directories(directory);
  write_safetensors(in(directory, kState), trained, {{"format", "pt"}});
  if (!memory.empty())
    write_safetensors(in(directory, "memory.safetensors"), memory, {{"format", "pt"}});
  if (from.tokenizer) from.tokenizer->save(directory);
  write_file_atomically(in(directory, kConfig), json_text(description(from), 2) + "\n");
}

bool is_trained_state(const std::string& directory) {
  return fs::exists(in(directory, kState)) && fs::exists(in(directory, kConfig));
}

LoadedState load_trained_state(const std::string& directory) {
  const std::string file = in(directory, kConfig);
  const Config config = read_stored_json(file);
  if (config.json().value("format", "") != kFormat)
    throw DataError(fmt::format("{}: wanted \"format\": \"{}\"", file, kFormat));
  for (const std::string& plugin : config.json().value("plugins", std::vector<std::string>()))
    load_plugin(plugin, directory);
  LoadedState loaded;
  loaded.component = resolve_component(ModelRegistry::instance(), config.at("model"));
  Generator random;
  loaded.model =
      ModelRegistry::instance().make(loaded.component, Build{random, DType::f32, Device{}});
  loaded.verdict = Verdict::of_file(config.json());
  // Exports of earlier versions name no base of low-rank updates.
  if (const FrozenBase* base = frozen_base_of(*loaded.model); base && config.has("base"))
    require_recorded(*base, config.at("base").json(), file);
  // What was not trained stays as the base's files have it.
  const SafetensorsFile state = read_safetensors(in(directory, kState));
  NamedTensors all = state.tensors;
  for (const auto& [name, parameter] : loaded.model->parameters())
    if (!parameter.requires_grad() && !state.find(name)) all.emplace_back(name, parameter.tensor());
  loaded.model->load(all);
  loaded.model->train(false);
  return loaded;
}

}  // namespace reverie
