#pragma once
/// One token per word: for texts of few words, such as made-up logic problems.

#include <unordered_map>

#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// A word is a run of letters, digits and characters beyond ASCII, with the space before it, where
/// there is one; any other character is a word of its own. encode(): a word outside the vocabulary
/// is a UserError that names it and its byte. There are no special tokens.
class WordTokenizer final : public Tokenizer {
 public:
  /// `words`: distinct, in rising order; a word's id is its place. UserError otherwise.
  explicit WordTokenizer(std::vector<std::string> words);
  /// The sorted set of the words of `text`. DataError when `text` is empty or not UTF-8.
  static std::shared_ptr<const WordTokenizer> from_text(std::string_view text);
  static std::shared_ptr<const WordTokenizer> from_definition(const Json& definition);

  std::string_view name() const override { return "word"; }
  int32_t vocabulary_size() const override { return int32_t(words_.size()); }
  std::string decode(std::span<const int32_t> tokens) const override;
  size_t cut_after(std::string_view text, size_t wanted) const override;
  bool encodes_parts_of_words() const override { return false; }
  Json definition() const override;

 private:
  std::vector<int32_t> encode_text(std::string_view text, SpecialTokens special) const override;

  std::vector<std::string> words_;
  std::unordered_map<std::string_view, int32_t> ids_;  ///< views into words_
};

}  // namespace reverie
