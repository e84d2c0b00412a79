#include "datasets/problems/equations.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace reverie {
namespace {

constexpr double kRelative = 1e-9;
constexpr size_t kLongestExpression = 1000;  // bounds the depth of parentheses

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_of_number(char c) {
  return is_digit(c) || c == '.';
}

// Recursive descent: sum = product (+- product)*, product = factor (*/ factor)*, factor = sign
// factor, (sum) or a number.
class ExpressionReader {
 public:
  explicit ExpressionReader(std::string_view text) : text_(text) {}
  std::optional<double> whole() {
    const double value = sum();
    if (!good_ || at_ != text_.size() || !std::isfinite(value)) return std::nullopt;
    return value;
  }

 private:
  bool take(std::string_view token) {
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  double sum() {
    double value = product();
    while (good_)
      if (take("+"))
        value += product();
      else if (take("-"))
        value -= product();
      else
        break;
    return value;
  }
  double product() {
    double value = factor();
    while (good_)
      if (take("//"))
        value = std::floor(value / factor());
      else if (take("*"))
        value *= factor();
      else if (take("/"))
        value /= factor();
      else
        break;
    return value;
  }
  double factor() {
    if (take("-")) return -factor();
    if (take("+")) return factor();
    if (take("(")) {
      const double value = sum();
      good_ = good_ && take(")");
      return value;
    }
    const size_t begin = at_;
    while (at_ < text_.size() && is_of_number(text_[at_])) ++at_;
    const auto value = number_of_text(text_.substr(begin, at_ - begin));
    good_ = good_ && value.has_value();
    return value.value_or(0);
  }

  std::string_view text_;
  size_t at_ = 0;
  bool good_ = true;
};

std::string without_spaces(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (c != ' ') out += c;
  return out;
}

}  // namespace

std::optional<double> number_of_text(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const auto points = std::count(text.begin(), text.end(), '.');
  if (points > 1 || std::none_of(text.begin(), text.end(), is_digit) ||
      !std::all_of(text.begin(), text.end(), is_of_number))
    return std::nullopt;
  double value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> value_of_expression(std::string_view text) {
  if (text.size() > kLongestExpression) return std::nullopt;
  return ExpressionReader(text).whole();
}

EquationState state_of_equation(std::string_view text) {
  const size_t equals = text.find('=');
  if (equals == text.npos) return EquationState::malformed;
  const auto value = value_of_expression(text.substr(0, equals)),
             result = number_of_text(text.substr(equals + 1));
  if (!value || !result) return EquationState::malformed;
  return std::abs(*value - *result) <= kRelative * std::max(1.0, std::abs(*value))
             ? EquationState::right
             : EquationState::wrong;
}

Annotations annotations_of(std::string_view line) {
  Annotations out;
  size_t at = 0;
  for (;;) {
    const size_t begin = line.find("<<", at), end = line.find(">>", at);
    if (begin == line.npos && end == line.npos) return out;
    if (begin == line.npos || end == line.npos || end < begin) {
      out.malformed = true;
      return out;
    }
    out.equations.push_back(without_spaces(line.substr(begin + 2, end - begin - 2)));
    at = end + 2;
  }
}

}  // namespace reverie
