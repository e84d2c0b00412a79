#include "trainers/tables/definition.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace reverie {

const Json* find_typed(const Json& object, const char* key, bool (Json::*is)() const noexcept,
                       const char* wanted, const std::string& path, bool required) {
  const auto found = object.find(key);
  if (found == object.end()) {
    if (required) throw ConfigError(fmt::format("{}.{} is missing, wanted {}", path, key, wanted));
    return nullptr;
  }
  if (!(*found.*is)())
    throw ConfigError(fmt::format("{}.{} is {}, wanted {}", path, key, found->type_name(), wanted));
  return &*found;
}
std::string text_at(const Json& object, const char* key, const std::string& path, bool required) {
  const Json* found = find_typed(object, key, &Json::is_string, "a string", path, required);
  return found ? found->get<std::string>() : "";
}
std::vector<std::string> texts_at(const Json& object, const char* key, const std::string& path) {
  std::vector<std::string> texts;
  if (const Json* list = find_typed(object, key, &Json::is_array, "a list of strings", path, false))
    for (const Json& text : *list) {
      if (!text.is_string())
        throw ConfigError(
            fmt::format("{}.{} holds {}, wanted strings", path, key, text.type_name()));
      texts.push_back(text.get<std::string>());
    }
  return texts;
}
void refuse_unknown_keys(const Json& object, const std::vector<std::string>& known,
                         const std::string& path) {
  if (!object.is_object())
    throw ConfigError(fmt::format("{} is {}, wanted an object", path, object.type_name()));
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const auto near = nearest_name(key, known);
    throw ConfigError(fmt::format("unknown key {}.{}{}", path, key,
                                  near ? "; did you mean \"" + *near + "\"?" : ""));
  }
}

int64_t number_of_key(const std::string& key, const char* what, const std::string& path) {
  int64_t number = 0;
  const char* end = key.data() + key.size();
  const auto read = std::from_chars(key.data(), end, number);
  if (read.ec != std::errc() || read.ptr != end)
    throw ConfigError(fmt::format("{}: \"{}\" is no {}", path, key, what));
  return number;
}

std::vector<TableModel> read_table_models(const Json& models, const std::string& path) {
  std::vector<TableModel> out;
  for (const auto& [name, model] : models.items()) {
    const std::string here = path + "." + name;
    refuse_unknown_keys(model, {"title", "description"}, here);
    TableModel entry{name, text_at(model, "title", here, false),
                     text_at(model, "description", here, false)};
    if (entry.title.empty()) entry.title = name;
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace reverie
