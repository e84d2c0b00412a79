#pragma once
/// /tokenize, /detokenize and /tokenizer_info in vLLM's form.

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "trainers/serving/served_model.h"

namespace reverie {

/// {"prompt": TEXT, "add_special_tokens": true} -> {"count", "max_model_len", "tokens",
/// "token_strs"}. UserError with the reason.
Json tokenize(std::string_view body, const ServedModel& model);
/// {"tokens": [..]} -> {"prompt": TEXT}. UserError with the reason.
Json detokenize(std::string_view body, const ServedModel& model);
/// The texts of the tokens that begin and end a text; null where there is none, or where its text
/// does not stand for it in a text.
Json tokenizer_info(const ServedModel& model);

}  // namespace reverie
