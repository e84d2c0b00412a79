#pragma once
/// `reverie sample` of several prompts, conversations, stop strings and log-probabilities: texts of
/// different lengths side by side, as the server writes them.

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "trainers/generation/generate.h"

namespace reverie {

/// The options of `sample` that only this way of writing has.
struct PromptArguments {
  std::string file, chat, system;
  std::vector<std::string> stops;
  std::optional<int64_t> likeliest, together;
  void add_to(CLI::App& command);
  /// Whether one of them was given.
  bool given() const {
    return !file.empty() || !chat.empty() || !system.empty() || !stops.empty() ||
           likeliest.has_value() || together.has_value();
  }
};

/// The options of `sample` that both ways have.
struct SharedArguments {
  std::string model, coprocessor, tokenizer, prompt, json, texts;
  GenerateOptions generate;  ///< without `ends` and `vocabulary`, which come with the model
  int64_t samples = 1;
  std::optional<int64_t> late;
  int64_t every = 0;
  bool past_end = false;
};

/// Writes all texts, prints them in the order of their prompts, each as it comes when its turn has
/// come, and writes the files that were asked for.
void sample_prompts(const PromptArguments& a, const SharedArguments& shared);

}  // namespace reverie
