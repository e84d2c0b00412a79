#pragma once
/// How a prompt goes into a model and where its text ends: one rule for the samples of a run,
/// `reverie sample` and whoever else lets a model write.

#include <string>
#include <string_view>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"
#include "layers/language_model.h"

namespace reverie {

/// The tokens that a model reads for `prompt`: after the begin-of-text token, where its tokenizer
/// puts one before every text. UserError where these are none, or where `rows`, the model's
/// vocabulary size, has none for one of them: some published tokenizers have tokens of images, say,
/// that the text model does not know.
std::vector<int32_t> prompt_tokens(const Tokenizer& tokenizer, std::string_view prompt,
                                   int64_t rows);

/// The tokens that end a text: those of the model's own files, where they name any; else the
/// tokenizer's.
std::vector<int32_t> ends_of_text(const LanguageModel& model, const Tokenizer* tokenizer);

/// Whether the tokenizer's tokens are the model's: at most as many, but for added tokens (of images,
/// say) beyond the last row, which prompt_tokens() refuses where they occur. UserError otherwise;
/// `model_name` stands in it.
void require_fitting(const Tokenizer& tokenizer, int64_t rows, const std::string& model_name);

}  // namespace reverie
