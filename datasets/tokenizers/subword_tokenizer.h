#pragma once
/// Tokenizers of pretrained models: text is normalized, falls into words, and each word's pieces are
/// merged (Sennrich et al. 2016; SentencePiece, Kudo & Richardson 2018). Whatever file a vocabulary
/// comes from (formats/), it becomes a SubwordSpec, and that one of these.

#include "datasets/tokenizers/bpe_model.h"
#include "datasets/tokenizers/pipeline/decoder.h"
#include "datasets/tokenizers/pipeline/normalizer.h"
#include "datasets/tokenizers/pipeline/pre_tokenizer.h"
#include "datasets/tokenizers/tokenizer.h"
#include "datasets/tokenizers/word_cache.h"

namespace reverie {

class SubwordTokenizer final : public Tokenizer {
 public:
  /// DataError where the parts do not fit together; `file` stands before each complaint.
  explicit SubwordTokenizer(SubwordSpec spec, const std::string& file = "tokenizer");
  static std::shared_ptr<const SubwordTokenizer> from_definition(const Json& definition);

  std::string_view name() const override { return spec_.name; }
  int32_t vocabulary_size() const override { return int32_t(spec_.tokens.size()); }
  int32_t ordinary_vocabulary_size() const override;
  /// The bytes of the tokens, joined: where they are no whole characters, no UTF-8.
  std::string decode(std::span<const int32_t> tokens) const override;
  std::string decode_continued(std::span<const int32_t> tokens) const override;
  std::optional<int32_t> end_of_text() const override { return spec_.end_of_text; }
  std::optional<int32_t> begin_of_text() const override { return spec_.begin_of_text; }
  bool adds_begin_of_text() const override { return spec_.adds_begin_of_text; }
  size_t cut_after(std::string_view text, size_t wanted) const override;
  Json definition() const override { return to_json(spec_); }

  const SubwordSpec& spec() const { return spec_; }

 private:
  /// Memory of one encode(), kept from piece to piece.
  struct Scratch {
    WordCache& cache;
    std::vector<std::string_view> words;
    std::string normalized, prepared;
  };

  std::vector<int32_t> encode_text(std::string_view text, SpecialTokens special) const override;
  void encode_ordinary(std::string_view text, bool at_start, SpecialTokens special, Scratch&,
                       std::vector<int32_t>& tokens) const;
  void encode_normalized(std::string_view text, bool at_start, Scratch&,
                         std::vector<int32_t>& tokens) const;

  SubwordSpec spec_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Decoder decoder_;
  BpeModel model_;
  std::vector<std::string> pieces_;  ///< bytes of each token
  /// Added tokens in text as it came and in normalized text; [1]: all, [0]: those that are not
  /// special.
  AddedTokenFinder in_text_[2], in_normalized_[2];
  bool cuts_ = true;
  mutable WordCaches caches_;
};

}  // namespace reverie
