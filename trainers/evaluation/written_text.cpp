#include "trainers/evaluation/written_text.h"

#include "core/error.h"

namespace reverie {

std::vector<int32_t> prompt_tokens(const Tokenizer& tokenizer, std::string_view prompt,
                                   int64_t rows) {
  std::vector<int32_t> tokens = tokenizer.encode_from_beginning(prompt);
  require(!tokens.empty(),
          "the prompt is empty, and this tokenizer ({}) has no token that begins a text: give a "
          "prompt of at least one character",
          tokenizer.name());
  tokenizer.require_below(tokens, rows);
  return tokens;
}

std::vector<int32_t> ends_of_text(const LanguageModel& model, const Tokenizer* tokenizer) {
  std::vector<int32_t> ends = model.ends_of_text();
  if (ends.empty() && tokenizer && tokenizer->end_of_text()) ends = {*tokenizer->end_of_text()};
  return ends;
}

void require_fitting(const Tokenizer& tokenizer, int64_t rows, const std::string& model_name) {
  require(tokenizer.ordinary_vocabulary_size() <= rows,
          "the tokenizer has {} tokens, the model of {} knows {}: they do not belong together",
          tokenizer.vocabulary_size(), model_name, rows);
}

}  // namespace reverie
