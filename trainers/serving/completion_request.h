#pragma once
/// A request's JSON as what it asks for, or the reason why it cannot be had.

#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "trainers/serving/completion.h"
#include "trainers/serving/served_model.h"

namespace reverie {

struct RequestLimits {
  int64_t prompt_tokens = 0;  ///< of one prompt; 0: what the model's context takes
  int64_t prompts = 1024;     ///< of one request
  int64_t samples = 32;       ///< texts behind one prompt
  int64_t stops = 16;         ///< stop strings
  int64_t likeliest = 20;     ///< other tokens beside each
  /// Latents of a scored prompt go in behind the last place where this text ends; "": a request
  /// must say where (latents_after).
  std::string latents_behind = {};
};

/// A request that names a model which is not served.
struct UnknownModel : UserError {
  using UserError::UserError;
};

/// The body of POST /v1/completions. Keys that are not known are refused, and so are the API's other
/// keys unless they ask for what happens anyway ("presence_penalty": 0). A request without a seed
/// gets one. UserError with the reason.
CompletionRequest parse_completion_request(std::string_view body, const ServedModel& model,
                                           const RequestLimits& limits);

/// The model that `body` names, the first one where it names none. UnknownModel.
const ServedName& requested_name(const Json& body, const ServedModel& model);

}  // namespace reverie
