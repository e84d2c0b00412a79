#pragma once
/// The texts with latents that `reverie sample --coprocessor RUN` writes: of one or several
/// coprocessors, while the base waits for them or goes on.

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/json.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/generation/generate.h"

namespace reverie {

struct LatentArguments {
  std::vector<std::string> runs;
  std::optional<int64_t> late;
  int64_t every = 0;
  bool async = false, contained = false;
  std::optional<double> longest_wait;
  void add_to(CLI::App& command);
  /// UserError for options that do not go together.
  void require_consistent(int64_t samples) const;
};

/// A run whose latents a text gets.
struct OpenedCoprocessor {
  std::string path;
  UsableModel run;                        ///< its model is in `model` once its base is known
  std::shared_ptr<AugmentedModel> model;  ///< null before
};
std::vector<OpenedCoprocessor> open_coprocessors(const LatentArguments& arguments,
                                                 const std::string& tokenizer);
/// UserError where one was not trained beside `base`.
void put_beside(std::vector<OpenedCoprocessor>& opened, const UsableModel& base,
                const std::string& base_path);

/// Lets a model write, prints it as it comes -> {"tokens", "text", ...}.
using WriteText = std::function<Json(LanguageModel&, const GenerateOptions&)>;
/// Writes the text without latents, and those with them, into `out`: "base", "with_latents" and, with
/// --async, "blocking" and "speed".
void write_with_latents(const std::vector<OpenedCoprocessor>& opened,
                        const std::vector<int32_t>& prompt, const LatentArguments& arguments,
                        const GenerateOptions& options, const WriteText& write, Json& out);

}  // namespace reverie
