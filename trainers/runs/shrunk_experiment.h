#pragma once
/// --shrink K: an experiment of any size whose sizes are divided by K, so that it can be tried anywhere
/// by the code that will run it. Its figures are labelled (Verdict::set_shrunk()).

#include <nlohmann/json.hpp>
#include <string>

#include "trainers/runs/experiment.h"

namespace reverie {

struct Shrinking {
  int64_t by = 1;
  /// Absolute: the text, the tokens and the base that are made for shrunk runs lie here.
  std::string directory;
  bool texts = true;  ///< block sizes are divided, too
  bool makes = true;  ///< a text that is wanted is written; false: only named, for plans
};

/// A "model" with its widths, depth, vocabulary and other sizes divided, down to a least one of each;
/// heads still divide widths. What is counted in latents or in tokens behind them stays.
Json shrunk_model(Json model, const Shrinking&);

/// Data of which a shrunk model can read every token. Where the text is absent or large, it is a
/// generated one. A tokenizer that comes from files has the vocabulary of a whole model: byte pairs
/// stand in for it. Data made from a seed, and examples, stay.
void shrink_data(DataOptions&, const std::string& config_directory, const Shrinking&);

struct ShrunkExperiment {
  Config config;     ///< resolved, for the same directory
  std::string base;  ///< "", or the path of the base that it now wants ...
  Json base_shape;   ///< ... and the "model" that has to lie there; null: it is there already
};
/// Divides steps, batch, windows and intervals besides. The gate, the kinds of layers and all that has
/// no size stay. A base is one with random weights, see write_random_base(); one inside
/// Shrinking::directory is taken as it is. An experiment that was shrunk by as much is returned as it
/// is. ConfigError where it was shrunk by another number, or its base's shape is not known.
ShrunkExperiment shrunk_experiment(const Config&, const std::string& config_directory,
                                   const Shrinking&);

/// The "model" of the published model at `path`, whose weights are not read.
Json published_shape(const std::string& path);
/// The directory of a base of this (shrunk) shape.
std::string shrunk_base_path(const Json& shape, const Shrinking&);

}  // namespace reverie
