#pragma once
/// One token per character: nanoGPT's tokenizer for Shakespeare.

#include <unordered_map>

#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// encode(): a character outside the vocabulary is a UserError that names it and its position in
/// characters. There are no special tokens.
class CharTokenizer final : public Tokenizer {
 public:
  /// `characters`: distinct code points in rising order; a character's id is its place. UserError
  /// otherwise.
  explicit CharTokenizer(std::vector<uint32_t> characters);
  /// The sorted set of the characters of `text`. DataError when `text` is empty or not UTF-8.
  static std::shared_ptr<const CharTokenizer> from_text(std::string_view text);
  static std::shared_ptr<const CharTokenizer> from_definition(const Json& definition);

  std::string_view name() const override { return "char"; }
  int32_t vocabulary_size() const override { return int32_t(characters_.size()); }
  std::string decode(std::span<const int32_t> tokens) const override;
  size_t cut_after(std::string_view text, size_t wanted) const override;
  Json definition() const override;

  const std::vector<uint32_t>& characters() const { return characters_; }

 private:
  std::vector<int32_t> encode_text(std::string_view text, SpecialTokens special) const override;
  int32_t id_of(uint32_t character) const;  ///< -1: unknown

  std::vector<uint32_t> characters_;
  std::vector<int32_t> low_ids_;                    ///< code points below 0x3000
  std::unordered_map<uint32_t, int32_t> high_ids_;  ///< the others
};

}  // namespace reverie
