#pragma once
/// The answer to one HTTP request.

#include <functional>
#include <string>

namespace reverie {

/// Sends more of an answer; false: nobody reads it any more.
using WriteMore = std::function<bool(const std::string& more)>;

struct HttpAnswer {
  int status = 200;
  std::string body = {};  ///< JSON
  /// Instead of a body: writes the answer as server-sent events.
  std::function<void(const WriteMore&)> stream = {};
};

/// An error as OpenAI's clients read it: {"error": {"message", "type", "code"}}.
HttpAnswer http_error(int status, const std::string& message);

}  // namespace reverie
