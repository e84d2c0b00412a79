#pragma once
/// `inspect RUN --export-...`: a run's model for other programs.

#include <CLI/CLI.hpp>
#include <string>

namespace reverie {

struct ExportArguments {
  std::string hugging_face, gguf, state;  ///< where to write; "": not
  std::string tokenizer, dtype = "f32";
  bool without_tokenizer = false;
  bool any() const { return !hugging_face.empty() || !gguf.empty() || !state.empty(); }
  /// ConfigError where the tokenizer that is named would go nowhere.
  void require_consistent() const;
};

void add_export_options(CLI::App& command, ExportArguments& arguments);
/// Writes what was asked for and prints where it lies.
void export_run(const std::string& run_directory, const ExportArguments& arguments);

}  // namespace reverie
