#pragma once
/// The source of a data set: one text, or documents in many files or lines.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/storage.h"

namespace reverie {

/// The files that `path` means, in order.
struct TextFiles {
  std::vector<std::string> files;
  /// Each file, or each line of a .jsonl file, is a document. So for a directory, a pattern and
  /// .jsonl files; a single text file is one text.
  bool documents = false;
};

/// `path` is a file, a directory (its .txt, .text, .md and .jsonl files, at any depth, by name) or a
/// pattern of the shell (*, ?, [..]); any file may end in .gz or .zst besides. UserError where there
/// is none. `as_text`: a .jsonl file is a text as any other.
TextFiles find_text_files(const std::string& path, bool as_text);

/// Whether some of the documents are lines of JSON, whose `field` holds the text.
bool has_json_lines(const TextFiles& files);

/// Whether `path` is a directory of token files: prepared ones, or train.bin or *_train.bin, or shards
/// of one (bin_files.h).
bool is_token_directory(const std::string& path);

struct TextInput {
  std::shared_ptr<Storage> mapping;
  std::string_view text;  ///< all of it; documents with a line break behind each
  /// Without white space at their ends, and none that is empty; empty where it is one text.
  std::vector<std::string_view> documents;
};

/// Reads the files. What is not one plain file is written to `scratch` first, which is gone again
/// when this returns, so that texts may be larger than memory. `field`: of each line of .jsonl
/// files, the text. `separator`: what stands between documents inside a file or line as well, see
/// split_documents(); "": nothing does. DataError with file and line or byte where a text is not
/// UTF-8, a line no JSON object or without that field, or all of it is empty.
TextInput read_text_input(const TextFiles& files, const std::string& field,
                          const std::string& separator, const std::string& scratch);

}  // namespace reverie
