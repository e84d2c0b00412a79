#include "datasets/tokenizers/pipeline/normalizer.h"

#include "datasets/tokenizers/pipeline/pattern.h"
#include "datasets/tokenizers/pipeline/unicode_composition.h"

namespace reverie {


Normalizer::Normalizer(const JsonAt& description) {
  add(description, 0);
}

void Normalizer::add(const JsonAt& description, int depth) {
  if (description.is_null()) return;
  if (depth > kDeepestSequence) description.fail("is nested too deeply");
  const std::string type = description.at("type").text();
  if (type == "Sequence") {
    for (const JsonAt& item : description.at("normalizers").items()) add(item, depth + 1);
  } else if (type == "Replace") {
    const Pattern pattern(description.at("pattern"));
    const std::string content = description.at("content").text();
    // One that looks at a single character does not care where a text is cut.
    local_ = local_ && pattern.literal().size() == 1;
    steps_.push_back([pattern, content](std::string& text) {
      const std::vector<Span> found = pattern.matches(text);
      if (found.empty()) return;
      std::string replaced;
      replaced.reserve(text.size() + found.size() * content.size());
      size_t at = 0;
      for (const Span& span : found) {
        replaced.append(text, at, span.begin - at).append(content);
        at = span.end;
      }
      text = std::move(replaced.append(text, at));
    });
  } else if (type == "Prepend") {
    const std::string prefix = description.at("prepend").text();
    local_ = false;
    steps_.push_back([prefix](std::string& text) {
      if (!text.empty()) text.insert(0, prefix);
    });
  } else if (type == "NFC") {
    steps_.push_back([](std::string& text) { compose_canonically(text); });
  } else {
    description.at("type").unsupported("Sequence, Replace, Prepend or NFC");
  }
}

}  // namespace reverie
