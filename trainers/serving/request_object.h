#pragma once
/// A request's body as a JSON object.

#include <string_view>

#include "core/config.h"

namespace reverie {

/// The object without its nulls: clients send null for what they leave out. UserError with the
/// reason, also for more keys than any request has: objects look a key up one by one.
Json request_object(std::string_view body);

}  // namespace reverie
