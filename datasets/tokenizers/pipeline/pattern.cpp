#include "datasets/tokenizers/pipeline/pattern.h"

namespace reverie {

Pattern::Pattern(const JsonAt& description) {
  if (const auto literal = description.find("String")) {
    literal_ = literal->text();
    if (literal_.empty()) literal->fail("is empty");
  } else {
    const JsonAt regex = description.at("Regex");
    pattern_ = regex.text();
    regex_.emplace(pattern_, regex.path());
  }
}

std::vector<Span> Pattern::matches(std::string_view text) const {
  if (regex_) return regex_->matches(text);
  std::vector<Span> found;
  for (size_t at = text.find(literal_); at != std::string_view::npos;
       at = text.find(literal_, at + literal_.size()))
    found.push_back({at, at + literal_.size()});
  return found;
}

}  // namespace reverie
