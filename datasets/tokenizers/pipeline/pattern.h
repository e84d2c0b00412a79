#pragma once
/// A pattern of tokenizer.json: a text to find, or a regular expression.

#include <optional>

#include "datasets/tokenizers/pipeline/json_at.h"
#include "datasets/tokenizers/pipeline/regex.h"

namespace reverie {

class Pattern {
 public:
  /// {"String": "..."} or {"Regex": "..."}
  explicit Pattern(const JsonAt& description);
  explicit Pattern(std::string literal) : literal_(std::move(literal)) {}

  const std::string& literal() const { return literal_; }  ///< "": a regular expression
  const std::string& regex() const { return pattern_; }    ///< "": a literal
  std::vector<Span> matches(std::string_view text) const;

 private:
  std::string literal_, pattern_;
  std::optional<Regex> regex_;
};

}  // namespace reverie
