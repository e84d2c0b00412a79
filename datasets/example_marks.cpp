#include "datasets/example_marks.h"

#include <fmt/format.h>

#include "core/error.h"
#include "datasets/tokenizers/extended_vocabulary.h"

namespace reverie {

std::shared_ptr<const Tokenizer> with_marks(std::shared_ptr<const Tokenizer> tokenizer) {
  if (first_mark_in(*tokenizer)) return tokenizer;
  for (const std::string_view text : kMarkTexts)
    if (const auto id = token_of_text(*tokenizer, text))
      throw UserError(fmt::format(
          "the vocabulary has '{}' already, as token {}, but not all {} marks of examples as "
          "special tokens one after another, so the marks cannot be added: leave $.data.marks out "
          "(unnamed)",
          text, *id, kMarkTexts.size()));
  return with_special_tokens(*tokenizer, kMarkTexts);
}

std::optional<int32_t> first_mark_in(const Tokenizer& tokenizer) {
  const auto first = special_token(tokenizer, kMarkTexts[0]);
  for (size_t i = 0; i < kMarkTexts.size(); ++i)
    if (!first || special_token(tokenizer, kMarkTexts[i]) != *first + int32_t(i))
      return std::nullopt;
  return first;
}

int32_t marks_behind(const Tokenizer& tokenizer) {
  return first_mark_in(tokenizer) ? 0 : ExampleLayout::kMarks;
}

}  // namespace reverie
