#pragma once
/// How a text lies in token files: as one text, as documents, as examples, or as a generated task.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "datasets/data_options.h"
#include "datasets/documents.h"
#include "datasets/example_stages.h"
#include "datasets/examples.h"
#include "datasets/sources.h"
#include "datasets/task_data.h"
#include "datasets/tasks/generated_task.h"
#include "datasets/text_input.h"
#include "datasets/token_file.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

enum class Part { training, held_out };

/// Called with the bytes of text that were encoded since the last call.
using EncodedBytes = std::function<void(size_t)>;

/// The byte where the training part of one text ends: `training_bytes`, or the end of the word
/// around it where the tokenizer cannot encode parts of words.
size_t end_of_training(std::string_view text, size_t training_bytes, const Tokenizer& tokenizer);

/// A text in its layout, cut into a training and a held-out part. It reads the TextInput it was made
/// from, which must live longer.
class CutText {
 public:
  virtual ~CutText() = default;
  /// All that a vocabulary made from this text must know.
  virtual std::string_view vocabulary_text() const = 0;
  /// The texts that byte pairs are learnt from.
  virtual std::span<const std::string_view> training_texts() const = 0;
  /// Chooses the marks of the layout among the tokenizer's tokens, and the byte where the held-out
  /// part begins where the tokenizer cannot encode parts of words. Called once, before write().
  /// UserError when the tokenizer has none, or a part would be empty. `tokenizer` must live longer.
  virtual void set_tokenizer(const Tokenizer& tokenizer, SpecialTokens special) = 0;
  virtual void write(Part part, TokenFileWriter& writer, const EncodedBytes& encoded) const = 0;
  /// Adds the layout's own entry to dataset.json, where it has one.
  virtual void describe(Json& description) const = 0;
  /// Writes the layout's files beside the two parts, where it has some, and adds what dataset.json
  /// says of them.
  virtual void write_beside(const std::string& directory, const std::string& source_hash,
                            Json& description) const {}
};

class Layout {
 public:
  virtual ~Layout() = default;
  /// Adds what prepared files of this layout depend on, besides the text and the tokenizer.
  virtual void add_to_creation(Json& creation) const = 0;
  /// Ends the name of a directory that the config does not name.
  virtual std::string directory_suffix() const = 0;
  /// How many ids follow the tokenizer's own.
  virtual int32_t marks(const Tokenizer& tokenizer) const = 0;
  /// false: it makes its own text, and cut() gets an empty one.
  virtual bool reads_text() const { return true; }
  /// Names of the files that CutText::write_beside() writes and that opening needs.
  virtual std::vector<std::string> own_files() const { return {}; }
  /// Bytes [0, training_bytes) of the text are the training part, as far as the layout and the
  /// tokenizer can cut there. DataError when the text is not of this layout.
  virtual std::unique_ptr<CutText> cut(const TextInput& input, size_t training_bytes) const = 0;
};

/// The layout that the options ask for; `name`: the text's, for messages. UserError when the options
/// ask for two of them. Reads a single plain file of documents, for its line ends.
std::shared_ptr<const Layout> layout_of(const DataOptions& options, const TextFiles& files,
                                        const std::string& name);

/// The layouts.
std::shared_ptr<const Layout> plain_text_layout();
std::shared_ptr<const Layout> document_layout(const DataOptions& options, const TextFiles& files);
std::shared_ptr<const Layout> example_layout(const DataOptions& options, const std::string& name);
std::shared_ptr<const Layout> generated_layout(const Component& component);
std::shared_ptr<const Layout> problem_layout(const DataOptions& options);
/// Records of what a text, or a generated task where one is given, told (ExampleOptions::told()).
std::shared_ptr<const Layout> told_layout(const DataOptions& options);

/// Hash of all that a generated task's documents are made from.
std::string hash_of_generated(const Component& component);
/// Where problems come from: the generator or its file, the hash of all that they are made from,
/// and what is to be said of them.
SourceText source_of_problems(const Component& component);

/// Examples of which the first `training` are the training part. Byte pairs are learnt from
/// `training_text` ("": from the vocabulary's text).
std::unique_ptr<CutText> cut_examples(std::vector<Example> examples, size_t training,
                                      const ExampleOptions& options, std::string vocabulary_text,
                                      std::string training_text);
/// What records of examples depend on, and the files beside them.
void add_stage_to_creation(const ExampleOptions& options, Json& creation);
std::vector<std::string> stage_files(const ExampleOptions& options);

/// The layout of prepared files, as their dataset.json records it.
struct RecordedLayout {
  std::optional<DocumentMark> documents;
  std::optional<ExampleLayout> examples;
  std::optional<StageMix> stage_mix;
  std::optional<TaskLayout> task;
  int32_t marks = 0;  ///< ids behind the tokenizer's own
};
RecordedLayout recorded_layout(const Json& provenance);

}  // namespace reverie
