#include "trainers/serving/http_answer.h"

#include <nlohmann/json.hpp>

#include "core/json.h"

namespace reverie {

HttpAnswer http_error(int status, const std::string& message) {
  const char* type = status < 500    ? "invalid_request_error"
                     : status == 503 ? "service_unavailable_error"
                                     : "server_error";
  return {status, json_text_replacing(
                      Json{{"error", {{"message", message}, {"type", type}, {"code", status}}}})};
}

}  // namespace reverie
