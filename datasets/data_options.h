#pragma once
/// The "data" object of a config.

#include <string>
#include <vector>

#include "core/config.h"
#include "datasets/examples.h"

namespace reverie {

struct MixEntry;

struct DataOptions : Fieldset {
  std::string name;   ///< "": "tinyshakespeare", or with `path` the file's own name
  std::string path;   ///< "": by name; else see find_text_files() and is_token_directory()
  std::string field;  ///< of .jsonl files, what holds the text
  std::string tokenizer = "char";  ///< "char", "word", "gpt2", "bpe" or "pretrained"
  int64_t train_bpe = 0;           ///< "bpe": the vocabulary's size, see train_bpe()
  std::string tokenizer_files;     ///< "gpt2": "" is find_gpt2_files(); or for load_tokenizer_for()
  std::string document_separator;  ///< "": the text is one document; see split_documents()
  std::string document_token;      ///< "": as the tokenizer says; see document_mark()
  ExampleOptions examples;
  Component generated;  ///< of TaskRegistry; given: there is no text, and its words are the tokens
  Component problems;   ///< of ProblemRegistry; given: there is no text, and they are the examples
  std::string marks = "unnamed";     ///< of examples: "tokens" is with_marks()
  double validation_fraction = 0.1;  ///< of the characters (or examples), at the end of the text
  std::string prepared_directory;    ///< "": data/<name>-<tokenizer>-<hash of what it is made from>
  int64_t vocabulary_size = 0;       ///< for .bin files of others; 0: as they say
  bool special_tokens = true;
  bool begin_windows = false;  ///< see Dataset::window_begin
  bool verify = true;
  std::vector<MixEntry> mix;  ///< not empty: all of it is in the entries, but `name`
  /// No field: prepare_dataset() may replace other data in prepared_directory.
  bool replace = false;

  void fields(Fields&) override;

 protected:
  /// What an entry of a mix may say, too.
  void text_fields(Fields&);
  void token_fields(Fields&);
};

/// A text of a mix.
struct MixEntry final : DataOptions {
  double weight = 0;  ///< its share of the drawn rows, among the weights of all entries
  void fields(Fields&) override;
};

}  // namespace reverie
