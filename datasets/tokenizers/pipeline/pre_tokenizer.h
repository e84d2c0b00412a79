#pragma once
/// How a text falls into words, within which tokens are looked for.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/tokenizers/pipeline/json_at.h"

namespace reverie {

/// The splits of models that name theirs, in tokenizer.json's terms: "gpt-2", "smollm", "llama-bpe",
/// "qwen2". Null: no such name.
Json named_split(std::string_view name);

class PreTokenizer {
 public:
  PreTokenizer();
  /// tokenizer.json's terms: null, Sequence, ByteLevel, Split, Digits, Metaspace. DataError naming
  /// the path of what is not among them.
  explicit PreTokenizer(const JsonAt& description);

  /// Words are bytes, and tokens are written in GPT-2's alphabet of bytes.
  bool byte_level() const { return byte_level_; }
  /// Whether no word spans a place between a character that is no white space and a space (U+0020),
  /// nor depends on what is on the other side of it.
  bool cuts_before_spaces() const { return cuts_before_spaces_; }
  /// `text` with spaces replaced or one put before it, where the description says so (then it is
  /// kept in `buffer`). `at_start`: the text's first piece.
  std::string_view prepare(std::string_view text, bool at_start, std::string& buffer) const;
  /// Appends the words of `text` (UTF-8) in order; they are parts of it.
  void split(std::string_view text, std::vector<std::string_view>& words) const;

  class Step {
   public:
    virtual ~Step() = default;
    virtual void split(std::string_view text, std::vector<std::string_view>& words) const = 0;
  };

 private:
  enum class Prefix { never, first, always };

  void add(const JsonAt& description, int depth);
  void add_byte_level(const JsonAt& description);
  void add_metaspace(const JsonAt& description);

  std::vector<std::shared_ptr<const Step>> steps_;
  bool byte_level_ = false, cuts_before_spaces_ = true;
  Prefix prefix_ = Prefix::never;
  std::string space_ = " ";  ///< what a space becomes, and what is put before a text
};

}  // namespace reverie
