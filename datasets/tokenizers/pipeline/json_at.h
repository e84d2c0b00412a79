#pragma once
/// A JSON value and where it stands, so that every complaint names its path.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "core/error.h"

namespace reverie {

/// How deep tokenizer.json's sequences of sequences may be nested.
inline constexpr int kDeepestSequence = 8;

/// Refers to the value, which must outlive it.
class JsonAt {
 public:
  JsonAt(const Json& value, std::string path) : value_(&value), path_(std::move(path)) {}

  const Json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  bool is_null() const { return value_->is_null(); }

  /// DataError where there is no such member.
  JsonAt at(const std::string& key) const {
    if (auto member = find(key, true)) return *member;
    fail(fmt::format("lacks \"{}\"", key));
  }
  /// nullopt where the member is absent or null.
  std::optional<JsonAt> find(const std::string& key, bool also_null = false) const {
    if (!value_->is_object()) fail(fmt::format("is {}; wanted an object", shown()));
    const auto found = value_->find(key);
    if (found == value_->end() || (found->is_null() && !also_null)) return std::nullopt;
    return JsonAt(*found, path_ + "." + key);
  }
  std::vector<JsonAt> items() const {
    if (!value_->is_array()) fail(fmt::format("is {}; wanted an array", shown()));
    std::vector<JsonAt> all;
    for (size_t i = 0; i < value_->size(); ++i)
      all.emplace_back((*value_)[i], fmt::format("{}[{}]", path_, i));
    return all;
  }
  std::string text() const {
    if (!value_->is_string()) fail(fmt::format("is {}; wanted a string", shown()));
    return value_->get<std::string>();
  }
  bool boolean() const {
    if (!value_->is_boolean()) fail(fmt::format("is {}; wanted true or false", shown()));
    return value_->get<bool>();
  }
  int64_t integer() const {
    if (!value_->is_number_integer()) fail(fmt::format("is {}; wanted an integer", shown()));
    return value_->get<int64_t>();
  }
  std::string text_or(const std::string& key, const std::string& otherwise) const {
    const auto member = find(key);
    return member ? member->text() : otherwise;
  }
  bool boolean_or(const std::string& key, bool otherwise) const {
    const auto member = find(key);
    return member ? member->boolean() : otherwise;
  }
  /// For parts of which only one value is understood.
  [[noreturn]] void unsupported(const std::string& wanted) const {
    fail(fmt::format("is {}, which is not supported; wanted {}", shown(), wanted));
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(fmt::format("{} {}", path_, what));
  }

 private:
  std::string shown() const {
    if (value_->is_structured()) return value_->is_array() ? "an array" : "an object";
    return value_->dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200);
  }

  const Json* value_;
  std::string path_;
};

}  // namespace reverie
