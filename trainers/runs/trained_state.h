#pragma once
/// What a run trained, for who has the rest: latents beside a frozen model, a memory module.

#include <memory>
#include <string>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"
#include "layers/language_model.h"
#include "trainers/runs/verdict.h"

namespace reverie {

struct StateToExport {
  LanguageModel& model;
  const Component& component;
  const Tokenizer* tokenizer;  ///< null: it has none
  const Verdict& verdict;
  std::vector<std::string> plugins = {};  ///< of the run, whose registries know the components
};

/// Writes into `directory`
///   config.json: what it is. "model_type" is "reverie_TYPE", which transformers does not take for
///     something else; "model", the component; "base", where it stands beside one, its path, the
///     hash of its weights and its model; its "verdict", and "label" where the model leaks;
///   state.safetensors: every parameter that was trained, under its own name, and no other;
///   memory.safetensors: where the model has a memory module, that module's alone;
///   reverie_tokenizer.json: the tokenizer.
/// UserError for a directory that holds something else.
void export_trained_state(const StateToExport&, const std::string& directory);

/// Whether `directory` is one that export_trained_state() wrote.
bool is_trained_state(const std::string& directory);
struct LoadedState {
  std::unique_ptr<LanguageModel> model;  ///< eval mode
  Component component;
  Verdict verdict;
};
/// The model with its trained state; plugins and a base are read from where they stood. DataError
/// where the files
/// are not what was written or the base has other weights.
LoadedState load_trained_state(const std::string& directory);

}  // namespace reverie
