#pragma once
/// Words to tokens by merging: from bytes or from characters, by a list of merges or by scores.

#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "datasets/tokenizers/subword_spec.h"

namespace reverie {

class BpeModel {
 public:
  /// `byte_level`: words are bytes, and the tokens are written in GPT-2's alphabet. DataError where
  /// merges or scores do not fit the tokens.
  BpeModel(const SubwordSpec& spec, bool byte_level);

  /// Appends the tokens of a word (UTF-8). UserError where a character has no token and there is
  /// neither a fallback nor an unknown token.
  void encode_word(std::string_view word, std::vector<int32_t>& tokens) const;
  /// The end of the part of word[at..] that merges by itself: words without spaces between them
  /// (SentencePiece's) are merged part by part, where no token holds what is on both sides of a cut.
  size_t part_end(std::string_view word, size_t at) const;
  /// Whether no token goes from the end of `before` to a space.
  bool parts_before_space(std::string_view before) const;

 private:
  void add_listed_merges(const SubwordSpec& spec);
  void add_scored_merges(const SubwordSpec& spec);
  void find_space(const SubwordSpec& spec);
  int32_t unit_of(uint32_t character) const;  ///< -1: no token
  void append_without_token(std::string_view character, std::vector<int32_t>& tokens) const;

  bool byte_level_, fuse_unknown_;
  int32_t vocabulary_size_;
  int32_t unknown_ = -1;
  std::array<int32_t, 256> byte_tokens_;         ///< of single bytes, or of "<0x00>" etc.; -1: none
  std::vector<int32_t> low_units_;               ///< tokens of the characters below U+0300
  std::unordered_map<uint32_t, int32_t> units_;  ///< of the others
  /// Characters that occur in tokens without being one merge as tokens beyond the vocabulary.
  std::vector<std::string> extra_units_;
  MergeTable table_;
  std::unordered_map<std::string, int32_t> whole_words_;  ///< where merges are ignored for tokens
  std::string space_;  ///< how tokens write a space; "": parts are not looked for
  std::unordered_set<uint32_t> before_space_;  ///< characters that stand before one in some token
};

}  // namespace reverie
