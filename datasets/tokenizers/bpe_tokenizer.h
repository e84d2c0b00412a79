#pragma once
/// GPT-2's byte-level byte-pair encoding, exact (Radford et al. 2019), from OpenAI's own files.
/// Vocabularies in other files: subword_tokenizer.h.

#include <array>

#include "datasets/tokenizers/merges.h"
#include "datasets/tokenizers/tokenizer.h"
#include "datasets/tokenizers/word_cache.h"

namespace reverie {

class BpeTokenizer final : public Tokenizer {
 public:
  using Merge = reverie::Merge;  ///< a merge's rank is its place in the list

  /// `byte_tokens[b]`: the token of the single byte b. Every token 0 .. size - 1 must be that of one
  /// byte, of one merge whose parts came before it, or `end_of_text`; DataError otherwise.
  BpeTokenizer(std::array<int32_t, 256> byte_tokens, std::vector<Merge> merges,
               int32_t end_of_text);
  /// Reads GPT-2's `directory`/encoder.json and vocab.bpe, or vocab.json and merges.txt. UserError
  /// when they are absent, DataError when malformed.
  static std::shared_ptr<const BpeTokenizer> from_gpt2_files(const std::string& directory);
  static std::shared_ptr<const BpeTokenizer> from_definition(const Json& definition);

  std::string_view name() const override { return "gpt2"; }
  int32_t vocabulary_size() const override { return int32_t(pieces_.size()); }
  /// The bytes of the tokens, joined. They are UTF-8 where the tokens came from encode(); a cut
  /// between tokens may fall inside a character.
  std::string decode(std::span<const int32_t> tokens) const override;
  std::optional<int32_t> end_of_text() const override { return end_of_text_; }
  size_t cut_after(std::string_view text, size_t wanted) const override;
  Json definition() const override;

  /// The tokens of one word (any bytes), without the split and without the cache.
  void encode_word(std::string_view word, std::vector<int32_t>& tokens) const;

 private:
  std::vector<int32_t> encode_text(std::string_view text, SpecialTokens special) const override;
  void encode_ordinary(std::string_view text, size_t base, WordCache& cache,
                       std::vector<int32_t>& tokens) const;

  std::array<int32_t, 256> byte_tokens_;
  std::vector<Merge> merges_;
  int32_t end_of_text_;
  std::vector<std::string> pieces_;  ///< bytes of each token
  MergeTable table_;
  mutable WordCaches caches_;
};

}  // namespace reverie
