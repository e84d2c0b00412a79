#include "core/json.h"

#include <fmt/format.h>

#include <algorithm>

#include <nlohmann/json.hpp>

namespace reverie {
namespace {

// Nesting of brackets outside strings, up to the end or to kDeepestJson + 1.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size() && deepest <= kDeepestJson; ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

bool too_deep(std::string_view text) {
  return depth_of(text) > kDeepestJson;
}

}  // namespace

std::string json_text(const Json& value, int indent) {
  return value.dump(indent);
}
std::string json_text_replacing(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string json_line(const Json& value) {
  std::string out;
  bool in_string = false, escaped = false;
  for (const char c : json_text_replacing(value)) {
    out += c;
    if (c == '"' && !escaped) in_string = !in_string;
    escaped = c == '\\' && !escaped;
    if (!in_string && (c == ',' || c == ':')) out += ' ';
  }
  return out;
}

Json parse_json(std::string_view text) {
  if (too_deep(text))
    throw Json::parse_error::create(
        101, size_t(0), fmt::format("nested deeper than {} levels", kDeepestJson), nullptr);
  return Json::parse(text);
}
Json parse_json_or_discard(std::string_view text) {
  if (too_deep(text)) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, false);
}

}  // namespace reverie
