#include "datasets/example_marks.h"

#include "core/error.h"
#include "datasets/tokenizers/extended_vocabulary.h"

namespace reverie {

std::shared_ptr<const Tokenizer> with_marks(std::shared_ptr<const Tokenizer> tokenizer) {
  return first_mark_in(*tokenizer) ? tokenizer : with_special_tokens(*tokenizer, kMarkTexts);
}

std::optional<int32_t> first_mark_in(const Tokenizer& tokenizer) {
  const auto first = special_token(tokenizer, kMarkTexts[0]);
  for (size_t i = 1; i < kMarkTexts.size(); ++i) {
    const auto id = special_token(tokenizer, kMarkTexts[i]);
    if (!first && !id) continue;
    require(first && id && *id == *first + int32_t(i),
            "the vocabulary has the mark '{}' as {} and '{}' as {}: wanted all {} marks of "
            "examples one after another, or none of them. Give the tokenizer as it was published",
            kMarkTexts[0], first ? fmt::format("token {}", *first) : "no token", kMarkTexts[i],
            id ? fmt::format("token {}", *id) : "no token", kMarkTexts.size());
  }
  return first;
}

int32_t marks_behind(const Tokenizer& tokenizer) {
  return first_mark_in(tokenizer) ? 0 : ExampleLayout::kMarks;
}

}  // namespace reverie
