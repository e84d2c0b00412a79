#pragma once
// Reading a table's definition: typed values at keys, with errors that name the place.

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/config.h"
#include "core/error.h"
#include "core/json.h"

namespace reverie {

// The value at `key`, of the type that `is` asks for (&Json::is_string ...); nullptr where it is
// absent and not required. ConfigError for another type ("$.paper is null, wanted an object").
const Json* find_typed(const Json& object, const char* key, bool (Json::*is)() const noexcept,
                       const char* wanted, const std::string& path, bool required);
std::string text_at(const Json& object, const char* key, const std::string& path, bool required);
std::vector<std::string> texts_at(const Json& object, const char* key, const std::string& path);
// ConfigError with the nearest known key.
void refuse_unknown_keys(const Json& object, const std::vector<std::string>& known,
                         const std::string& path);
// The list at `key` of a config; ConfigError for anything else.
template <class T>
std::vector<T> list_at(const Config& c, const std::string& key) {
  try {
    return c.at(key).json().get<std::vector<T>>();
  } catch (const Json::exception&) {
    throw ConfigError(
        fmt::format("{}.{}: wanted a list, got {}", c.path(), key, json_text(c.at(key).json())));
  }
}
// A key that is a number ("64"). ConfigError: it is no `what`.
int64_t number_of_key(const std::string& key, const char* what, const std::string& path);

// A model as a table shows it.
struct TableModel {
  std::string name, title, description;
};
// {NAME: {"title", "description"}} in the order of the rows; a title left out is the name.
std::vector<TableModel> read_table_models(const Json& models, const std::string& path);

}  // namespace reverie
