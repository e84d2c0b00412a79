#pragma once
// GPT-2's byte-level byte-pair encoding, exact (Radford et al. 2019; Sennrich et al. 2016 for the
// merges).

#include <array>
#include <mutex>

#include "datasets/tokenizer.h"

namespace reverie {

class BpeTokenizer final : public Tokenizer {
 public:
  struct Merge {
    int32_t left, right, result;  // tokens; a merge's rank is its place in the list
  };

  // `byte_tokens[b]`: the token of the single byte b. Every token 0 .. size - 1 must be that of one
  // byte, of one merge whose parts came before it, or `end_of_text`; DataError otherwise.
  BpeTokenizer(std::array<int32_t, 256> byte_tokens, std::vector<Merge> merges,
               int32_t end_of_text);
  ~BpeTokenizer() override;
  // Reads GPT-2's `directory`/encoder.json and vocab.bpe. UserError when they are absent, DataError
  // when malformed.
  static std::shared_ptr<const BpeTokenizer> from_gpt2_files(const std::string& directory);
  static std::shared_ptr<const BpeTokenizer> from_definition(const Json& definition);

  std::string_view name() const override { return "gpt2"; }
  int32_t vocabulary_size() const override { return int32_t(pieces_.size()); }
  // The bytes of the tokens, joined. They are UTF-8 where the tokens came from encode(); a cut
  // between tokens may fall inside a character.
  std::string decode(std::span<const int32_t> tokens) const override;
  std::optional<int32_t> end_of_text() const override { return end_of_text_; }
  size_t cut_after(std::string_view text, size_t wanted) const override;
  Json definition() const override;

  // The tokens of one word (any bytes), without the split and without the cache.
  void encode_word(std::string_view word, std::vector<int32_t>& tokens) const;

 private:
  struct WordCache;
  struct Found {
    int32_t rank, result;
  };

  std::vector<int32_t> encode_text(std::string_view text, SpecialTokens special) const override;
  void encode_ordinary(std::string_view text, size_t base, WordCache& cache,
                       std::vector<int32_t>& tokens) const;
  void merge_short(std::vector<int32_t>& tokens, size_t first) const;
  void merge_long(std::vector<int32_t>& tokens, size_t first) const;
  Found find_merge(int32_t left, int32_t right) const;
  std::unique_ptr<WordCache> take_cache() const;
  void return_cache(std::unique_ptr<WordCache>) const;

  std::array<int32_t, 256> byte_tokens_;
  std::vector<Merge> merges_;
  int32_t end_of_text_;
  std::vector<std::string> pieces_;  // bytes of each token
  // Open addressing over the pairs that merge: left << 32 | right, and what becomes of it.
  std::vector<uint64_t> pair_keys_;
  std::vector<Found> pair_values_;
  // Caches of words, lent to one encode() each.
  mutable std::mutex caches_mutex_;
  mutable std::vector<std::unique_ptr<WordCache>> caches_;
};

}  // namespace reverie
