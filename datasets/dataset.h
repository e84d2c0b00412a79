#pragma once
// A data set: what a config's "data" object means, how it is prepared, and what training reads.

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "core/config.h"
#include "datasets/documents.h"
#include "datasets/examples.h"
#include "datasets/token_file.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

struct DataOptions : Fieldset {
  std::string name;   // "": "tinyshakespeare", or with `path` the file's own name
  std::string path;   // "": by name; else see find_text_files() and is_token_directory()
  std::string field;  // of .jsonl files, what holds the text
  std::string tokenizer = "char";  // "char", "word", "gpt2", "bpe" or "pretrained"
  int64_t train_bpe = 0;           // "bpe": the vocabulary's size, see train_bpe()
  std::string tokenizer_files;     // "gpt2": "" is find_gpt2_files(); or for load_tokenizer_for()
  std::string document_separator;  // "": the text is one document; see split_documents()
  std::string document_token;      // "": as the tokenizer says; see document_mark()
  ExampleOptions examples;
  double validation_fraction = 0.1;  // of the characters (or examples), at the end of the text
  std::string prepared_directory;    // "": data/<name>-<tokenizer>-<hash of what it is made from>
  int64_t vocabulary_size = 0;       // for .bin files of others; 0: as they say
  bool special_tokens = true;
  bool verify = true;
  // No field: prepare_dataset() may replace other data in prepared_directory.
  bool replace = false;

  void fields(Fields&) override;
};

// Bytes of text encoded so far, and in all. Called with 0 first: rates are of encoding alone.
using PrepareProgress = std::function<void(int64_t done, int64_t total)>;

// Makes, unless it is there already and made from the same text in the same way,
//   <directory>/{train.tok, validation.tok, reverie_tokenizer.json, dataset.json}
// whole or not at all, and returns the directory. The text is mapped and encoded in parallel
// pieces, so that it may be larger than memory. Many files, lines of .jsonl and compressed files
// are laid out in one text beside the directory first. The first floor(characters * (1 -
// validation_fraction)) characters are train.tok (as nanoGPT). With a document_separator every
// document is encoded by itself and gets its document_mark(), and train.tok holds those that begin
// in that part; so are the documents of a directory, of a pattern and of .jsonl files. Examples
// become records, see ExampleLayout. A "bpe" vocabulary is learnt from the part of train.tok alone.
// Where `path` is a directory of token files, nothing is made. UserError when the text is not found
// or prepared_directory holds something else, such as data of another text, of other options or of
// another vocabulary; DataError when the text is empty, not UTF-8 or not the known text of its
// name.
std::string prepare_dataset(const DataOptions& options, const PrepareProgress& progress = {});

// What prepare_dataset() would find: nothing yet; what it would make; or something else, made from
// another text or in another way.
enum class PreparedData { missing, current, other };
PreparedData find_prepared_data(const DataOptions& options);

struct Dataset {
  TokenFile train, validation;
  std::shared_ptr<const Tokenizer> tokenizer;  // null: .bin files that came without one
  // dataset.json: {"source": {"name", "note", "bytes", "characters", "hash"}, "tokenizer": {"name",
  // "hash", "vocabulary_size"}, "validation_fraction", "train": {"tokens", "checksum"},
  // "validation": {...}, ...}
  Json provenance;
  std::string hash;  // of both token files and the tokenizer: what a run's config stands for
  std::optional<DocumentMark> documents;  // where the text was split into documents
  std::optional<ExampleLayout> examples;  // where it is examples: files of such records

  int64_t vocabulary_size() const { return train.vocabulary_size(); }
  std::string name() const;  // of the text, for tables: "tinyshakespeare"
  std::string note()
      const;  // what tables must say of it: "not the paper's text: ..."; may be empty
  // UserError, with both numbers, unless a model of this vocabulary can read the tokens: it is at
  // least as large, or lacks only added tokens of the tokenizer that the text does not have (some
  // published models have fewer rows than their tokenizer has tokens).
  void require_vocabulary(int64_t model_vocabulary_size) const;
};

// Prepares what is missing and opens it. Where `path` is a directory: a prepared one
// (dataset.json), or one of nanoGPT or llm.c with train.bin and val.bin (or *_train.bin,
// *_val.bin). Besides prepare_dataset's errors: DataError when a token file is damaged, or is not
// of the tokenizer beside it.
Dataset open_dataset(const DataOptions& options, const PrepareProgress& progress = {});

}  // namespace reverie
