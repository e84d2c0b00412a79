#pragma once
/// JSON as text and back. nlohmann's writer and parser are large templates: they are instantiated
/// once, in json.cpp, instead of in every file that writes or reads JSON.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/config.h"

namespace reverie {

/// Deepest nesting that parse_json() takes: destructors and writers of JSON values are recursive.
inline constexpr int kDeepestJson = 64;

/// Text of a value; `indent` -1: one line. Json::exception for strings that are not UTF-8.
std::string json_text(const Json& value, int indent = -1);
/// The same with every byte that is not UTF-8 replaced by U+FFFD.
std::string json_text_replacing(const Json& value, int indent = -1);
/// json_text_replacing() in one line, with a space behind each comma and colon, for people: a
/// terminal breaks lines at spaces.
std::string json_line(const Json& value);
/// Json::exception (a parse_error) for text that is no JSON or nested deeper than kDeepestJson.
Json parse_json(std::string_view text);
/// The same, but a discarded value (is_discarded()) instead of an exception.
Json parse_json_or_discard(std::string_view text);

}  // namespace reverie
