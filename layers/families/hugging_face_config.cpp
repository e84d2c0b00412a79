#include "layers/families/hugging_face_config.h"

#include "core/error.h"
#include "core/json.h"

namespace reverie {
namespace {

std::string shortened(const Json& j) {
  const std::string text = json_text_replacing(j);
  return text.size() > 60 ? text.substr(0, 57) + "..." : text;
}

}  // namespace

bool HuggingFaceConfig::has(const std::string& key) const {
  return json_.contains(key) && !json_.at(key).is_null();
}

HuggingFaceConfig HuggingFaceConfig::object(const std::string& key) const {
  if (!has(key) || !json_.at(key).is_object()) wrong(key, "an object");
  return {json_.at(key), file_, path_ + key + "."};
}

const Json* HuggingFaceConfig::find(const std::string& key, bool has_fallback,
                                    const std::string& wanted, bool (*is)(const Json&)) const {
  if (!has(key)) {
    if (!has_fallback) wrong(key, wanted);
    return nullptr;
  }
  if (!is(json_.at(key))) wrong(key, wanted);
  return &json_.at(key);
}

int64_t HuggingFaceConfig::integer(const std::string& key, std::optional<int64_t> fallback) const {
  const Json* value = find(key, fallback.has_value(), "an integer", [](const Json& j) {
    return j.is_number_integer() &&
           !(j.is_number_unsigned() && j.get<uint64_t>() > uint64_t(INT64_MAX));
  });
  return value ? value->get<int64_t>() : *fallback;
}

double HuggingFaceConfig::number(const std::string& key, std::optional<double> fallback) const {
  const Json* value =
      find(key, fallback.has_value(), "a number", [](const Json& j) { return j.is_number(); });
  return value ? value->get<double>() : *fallback;
}

bool HuggingFaceConfig::boolean(const std::string& key, bool fallback) const {
  const Json* value =
      find(key, true, "true or false", [](const Json& j) { return j.is_boolean(); });
  return value ? value->get<bool>() : fallback;
}

std::string HuggingFaceConfig::text(const std::string& key,
                                    std::optional<std::string> fallback) const {
  const Json* value =
      find(key, fallback.has_value(), "a string", [](const Json& j) { return j.is_string(); });
  return value ? value->get<std::string>() : *fallback;
}

bool HuggingFaceConfig::is_off(const std::string& key) const {
  return json_.contains(key) && json_.at(key).is_null();
}
double HuggingFaceConfig::number_or_off(const std::string& key, double fallback) const {
  return is_off(key) ? 0 : number(key, fallback);
}

std::vector<std::string> HuggingFaceConfig::texts(const std::string& key) const {
  const Json& list = json_.at(key);
  if (!list.is_array()) wrong(key, "an array of strings");
  std::vector<std::string> out;
  for (const Json& j : list) {
    if (!j.is_string()) wrong(key, "an array of strings");
    out.push_back(j.get<std::string>());
  }
  return out;
}

void HuggingFaceConfig::unsupported(const std::string& key, const std::string& why) const {
  throw DataError(fmt::format("{}: \"{}{}\" is {}: {}", file_, path_, key,
                              json_.contains(key) ? shortened(json_.at(key)) : "not given", why));
}

}  // namespace reverie
