#pragma once
/// Strict reading of a config.json of transformers (4 and 5).

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace reverie {

/// A JSON object of a config.json; null counts as absent. DataError naming file and key for a value
/// of another type, or an absent one without `fallback`.
class HuggingFaceConfig {
 public:
  /// `json` must outlive this object. `path`: keys that lead to it, "rope_parameters.".
  HuggingFaceConfig(const Json& json, std::string file, std::string path = "")
      : json_(json), file_(std::move(file)), path_(std::move(path)) {}

  bool has(const std::string& key) const;
  HuggingFaceConfig object(const std::string& key) const;
  int64_t integer(const std::string& key, std::optional<int64_t> fallback = {}) const;
  double number(const std::string& key, std::optional<double> fallback = {}) const;
  bool boolean(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, std::optional<std::string> fallback = {}) const;
  /// null turns a feature off, where its absence means the default.
  double number_or_off(const std::string& key, double fallback) const;
  bool is_off(const std::string& key) const;
  std::vector<std::string> texts(const std::string& key) const;

  /// DataError: "FILE: "KEY" is VALUE: WHY".
  [[noreturn]] void unsupported(const std::string& key, const std::string& why) const;
  void refuse(const std::string& key, bool given, const std::string& why) const {
    if (given) unsupported(key, why);
  }

 private:
  [[noreturn]] void wrong(const std::string& key, const std::string& wanted) const {
    unsupported(key, "wanted " + wanted);
  }
  /// The value; null where it is absent and has a fallback.
  const Json* find(const std::string& key, bool has_fallback, const std::string& wanted,
                   bool (*is)(const Json&)) const;

  const Json& json_;
  std::string file_, path_;
};

}  // namespace reverie
