#pragma once
/// A config's data set before anything is made: which text, which layout, which directory.

#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/config.h"
#include "datasets/data_options.h"
#include "datasets/layouts/layout.h"
#include "datasets/sources.h"
#include "datasets/text_input.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// Files of a prepared directory.
inline constexpr const char* kDatasetFile = "dataset.json";
inline constexpr const char* kTrainFile = "train.tok";
inline constexpr const char* kValidationFile = "validation.tok";

struct DatasetDescription {
  DataOptions options;
  std::string directory;  ///< where the token files lie or will lie
  /// Everything below is empty where `path` is a directory of token files: nothing is made then.
  SourceText source;
  TextFiles files;
  std::shared_ptr<const Layout> layout;
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null: it is made from the text
  /// All that must be equal for prepared files to be used again, but the tokenizer made from files.
  Json creation;
  /// One for each entry of a mix. A mix has no other values here than these and the options.
  std::vector<DatasetDescription> mix;

  bool is_mix() const { return !mix.empty(); }
  bool is_token_directory() const { return !layout && !is_mix(); }
};

/// Reads the text (its hash), the tokenizer's files and what is prepared already; writes nothing.
/// UserError when the text is not found or the options contradict each other, DataError when it is
/// not the known text of its name.
DatasetDescription describe_dataset(const DataOptions& options);

/// What the description's directory holds now: nothing; what prepare_dataset() would make; or
/// something else, made from another text or in another way.
enum class PreparedData { missing, current, other };
PreparedData find_prepared_data(const DatasetDescription& description);

/// How the data that are prepared in the directory differ from the description: "another text",
/// "other options: ..."; "" where they do not, and where nothing is prepared.
std::string prepared_difference(const DatasetDescription& description);

/// dataset.json of a directory, or null when there is none. DataError when it is damaged.
Json read_provenance(const std::string& directory);

}  // namespace reverie
