#pragma once
/// Shared by the config_*.cpp files: texts for messages, and the rule for fields that must be
/// given.

#include <cmath>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/config.h"

namespace reverie {

std::string path_join(const std::string& path, std::string_view key);
std::string path_join(const std::string& path, size_t index);
std::string source_prefix(std::string_view source);  ///< "config.json: ", or nothing
std::string show(const Json&);                       ///< on one line, shortened when long
/// `; did you mean "near"? Known keys: a, b` for a word that is none of the candidates.
std::string suggestion(std::string_view word, const std::vector<std::string>& candidates,
                       std::string_view plural);

/// The component's options, and what they say as JSON.
void keep_options(Component&, std::unique_ptr<Fieldset> options);

template <class T>
bool in_range(T value, Range<T> range) {
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(value)) return false;
  return range.low <= value && value <= range.high;
}
/// "an integer in 1..100"; open ends are left out: "a number >= 0".
template <class T>
std::string range_text(Range<T> range);
extern template std::string range_text<int64_t>(Range<int64_t>);
extern template std::string range_text<double>(Range<double>);

/// A default that its own range or choices refuse marks a field that must be given.
bool must_be_given(const std::string& value, const std::vector<std::string>& choices);
template <class T>
bool must_be_given(T value, Range<T> range) {
  return !in_range(value, range);
}

}  // namespace reverie
