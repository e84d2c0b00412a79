#include "datasets/tokenizers/extended_vocabulary.h"

#include <algorithm>

#include "core/error.h"
#include "datasets/tokenizers/formats/written_spec.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "datasets/utf8.h"

namespace reverie {

std::shared_ptr<const Tokenizer> with_special_tokens(const Tokenizer& tokenizer,
                                                     std::span<const std::string_view> texts) {
  std::optional<SubwordSpec> spec = spec_of(tokenizer);
  require(spec.has_value(),
          "a tokenizer of type '{}' has no special tokens, so none can be added to it: wanted that "
          "of a published model (tokenizer 'pretrained', with tokenizer_files)",
          tokenizer.name());
  for (const std::string_view text : texts) {
    require(!text.empty(), "a special token without a text was to be added: give it one");
    require_utf8(text);
    const auto same = std::find(spec->tokens.begin(), spec->tokens.end(), text);
    require(same == spec->tokens.end(),
            "the special token '{}' cannot be added: it is the token {} already; wanted a text "
            "that no token has",
            text, same - spec->tokens.begin());
    const auto id = int32_t(spec->tokens.size());
    spec->tokens.emplace_back(text);
    if (!spec->scores.empty()) {
      spec->scores.push_back(0);
      spec->made_by_merging.push_back(false);
    }
    spec->added.push_back({.id = id, .text = std::string(text), .special = true});
  }
  return std::make_shared<SubwordTokenizer>(std::move(*spec));
}

std::optional<int32_t> token_of_text(const Tokenizer& tokenizer, std::string_view text) {
  const auto* subword = dynamic_cast<const SubwordTokenizer*>(&tokenizer);
  if (!subword) return std::nullopt;
  const auto& tokens = subword->spec().tokens;
  const auto found = std::find(tokens.begin(), tokens.end(), text);
  if (found == tokens.end()) return std::nullopt;
  return int32_t(found - tokens.begin());
}

std::optional<int32_t> special_token(const Tokenizer& tokenizer, std::string_view text) {
  const auto* subword = dynamic_cast<const SubwordTokenizer*>(&tokenizer);
  if (!subword) return std::nullopt;
  for (const AddedToken& token : subword->spec().added)
    if (token.special && token.text == text) return token.id;
  return std::nullopt;
}

}  // namespace reverie
