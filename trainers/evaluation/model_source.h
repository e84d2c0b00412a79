#pragma once
/// A model to use, wherever it lies: a run of ours or files that others published.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"
#include "layers/language_model.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// What `--model` takes, for --help.
inline constexpr const char* kModelPathHelp =
    "a run directory (RUN@1000 and RUN@best for one of its checkpoints), a Hugging Face directory, "
    "a .gguf file, or a llama2.c .bin file";

struct UsableModel {
  std::unique_ptr<LanguageModel> model;        ///< eval mode, nothing to be trained
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null: a run on token files that came without one
  std::vector<int32_t> ends;                   ///< each ends a text; see ends_of_text()
  std::string description;                     ///< what was opened, for people
  std::string config;  ///< JSON: what computes with the weights, for cache keys
  Verdict verdict;     ///< of a run, or of its export; others publish none
  int64_t step = 0;    ///< of a run's checkpoint

  /// The token to put before every text, where the model was trained to see one.
  std::optional<int32_t> begin_of_text() const;
  /// UserError without one: there is no text then.
  const Tokenizer& text() const;
};

inline constexpr const char* kF64Help =
    "compute in f64, where sums of long texts are exact to about 1e-13: twice the memory of f32 or "
    "more, several times its time";

struct OpenOptions {
  /// A file or directory with another tokenizer than the one that lies with the model; "": that one
  /// (a llama2.c .bin has one only where tokenizer.bin lies beside it).
  std::string tokenizer = {};
  /// The tokenizer to take where none lies with the model.
  std::shared_ptr<const Tokenizer> or_else = nullptr;
  /// Weights widened to f64, in which all is computed then; otherwise as the run was trained, f32 for
  /// published files.
  bool f64 = false;
  /// Where the weights of published files go; a run is opened on the device that its config names.
  Device device = {};
};

/// `path`: a run directory, or what load_pretrained() takes.
UsableModel open_model(const std::string& path, const OpenOptions& = {});
/// The same for a model that predicts text by itself: UserError for a decoder of another run's memory.
UsableModel open_language_model(const std::string& path, const OpenOptions& = {});

class AugmentedModel;

/// The coprocessor of `run`, which was opened as `run_path`, once it is sure that its latents were
/// made for the weights of `base`. UserError where it has none, or where they were made for others.
AugmentedModel& coprocessor_beside(const UsableModel& run, const std::string& run_path,
                                   const UsableModel& base, const std::string& base_path);

}  // namespace reverie
