#include "trainers/serving/request_object.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace reverie {
namespace {

constexpr int64_t kMostKeys = 1000;

// Colons outside strings, one for each key.
int64_t keys_in(std::string_view text) {
  int64_t keys = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      in_string = !in_string;
    else
      keys += !in_string && text[i] == ':';
  }
  return keys;
}

}  // namespace

Json request_object(std::string_view body) {
  const int64_t keys = keys_in(body);
  require(keys <= kMostKeys, "the request has {} keys, wanted {} or fewer", keys, kMostKeys);
  const Config parsed = Config::parse(body, "the request");
  const Json& all = parsed.json();
  require(all.is_object(), "the request is {}, wanted a JSON object", all.type_name());
  Json object = Json::object();
  for (const auto& [key, value] : all.items())
    if (!value.is_null()) object[key] = value;
  return object;
}

}  // namespace reverie
