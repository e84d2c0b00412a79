#include "datasets/tokenizers/pipeline/pre_tokenizer.h"

#include <algorithm>

#include "datasets/tokenizers/gpt2_split.h"
#include "datasets/tokenizers/pipeline/pattern.h"
#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class Gpt2Step final : public PreTokenizer::Step {
 public:
  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    for (size_t at = 0; at < text.size();) {
      const size_t end = gpt2_word_end(text, at);
      words.push_back(text.substr(at, end - at));
      at = end;
    }
  }
};

// What becomes of the matches of a split and of what lies between them.
enum class Behavior { isolated, removed, merged_with_previous, merged_with_next, contiguous };

Behavior behavior_of(const JsonAt& description) {
  const std::string name = description.text();
  if (name == "Isolated") return Behavior::isolated;
  if (name == "Removed") return Behavior::removed;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  description.unsupported("Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

// Appends the words that `matches` of `text` give. `invert`: what lies between them is the match.
void cut_up(std::string_view text, const std::vector<Span>& matches, Behavior behavior, bool invert,
            std::vector<std::string_view>& words) {
  struct Part {
    size_t begin, end;
    bool match;
  };
  std::vector<Part> parts;
  size_t at = 0;
  for (const Span& span : matches) {
    if (span.begin > at) parts.push_back({at, span.begin, invert});
    parts.push_back({span.begin, span.end, !invert});
    at = span.end;
  }
  if (at < text.size()) parts.push_back({at, text.size(), invert});

  // Whether part i goes on the word before it.
  const auto joins = [&](size_t i) {
    if (i == 0) return false;
    const bool here = parts[i].match, before = parts[i - 1].match;
    switch (behavior) {
      case Behavior::merged_with_previous:  // of matches in a row, the first
        return here && !before;
      case Behavior::merged_with_next:  // of matches in a row, the last
        return before && !here;
      case Behavior::contiguous:
        return here == before;
      default:
        return false;
    }
  };
  for (size_t i = 0; i < parts.size();) {
    const size_t begin = parts[i].begin;
    const bool drop = behavior == Behavior::removed && parts[i].match;
    size_t end = parts[i].end;
    for (++i; i < parts.size() && joins(i); ++i) end = parts[i].end;
    if (!drop) words.push_back(text.substr(begin, end - begin));
  }
}

class SplitStep final : public PreTokenizer::Step {
 public:
  SplitStep(Pattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    cut_up(text, pattern_.matches(text), behavior_, invert_, words);
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

class DigitsStep final : public PreTokenizer::Step {
 public:
  explicit DigitsStep(bool individual) : individual_(individual) {}
  void split(std::string_view text, std::vector<std::string_view>& words) const override {
    std::vector<Span> numbers;
    for (size_t at = 0; at < text.size();) {
      const auto first = uint8_t(text[at]);
      size_t bytes = 1;
      bool number = first >= '0' && first <= '9';
      if (first >= 0x80) {
        const CodePoint point = require_code_point(text, at);
        bytes = size_t(point.bytes);
        number = character_class(point.value) == CharacterClass::number;
      }
      if (number) numbers.push_back({at, at + bytes});
      at += bytes;
    }
    cut_up(text, numbers, individual_ ? Behavior::isolated : Behavior::contiguous, false, words);
  }

 private:
  bool individual_;
};

}  // namespace

Json named_split(std::string_view name) {
  const auto byte_level = [](bool use_regex) -> Json {
    return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
  };
  const auto sequence = [](Json first, Json second) -> Json {
    return {{"type", "Sequence"}, {"pretokenizers", {std::move(first), std::move(second)}}};
  };
  const auto split = [](const char* pattern) -> Json {
    return {{"type", "Split"},
            {"pattern", {{"Regex", pattern}}},
            {"behavior", "Isolated"},
            {"invert", false}};
  };
  if (name == "gpt-2") return byte_level(true);
  if (name == "smollm")
    return sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
  if (name == "llama-bpe") return sequence(split(kLlama3), byte_level(false));
  if (name == "qwen2") return sequence(split(kQwen2), byte_level(false));
  return nullptr;
}

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(const JsonAt& description) {
  add(description, 0);
}

void PreTokenizer::add(const JsonAt& description, int depth) {
  if (description.is_null()) return;
  if (depth > kDeepestSequence) description.fail("is nested too deeply");
  if (byte_level_) description.fail("comes after ByteLevel, which is not supported");
  const std::string type = description.at("type").text();
  if (type == "Sequence") {
    for (const JsonAt& item : description.at("pretokenizers").items()) add(item, depth + 1);
  } else if (type == "ByteLevel") {
    add_byte_level(description);
  } else if (type == "Metaspace") {
    add_metaspace(description);
  } else if (type == "Digits") {
    steps_.push_back(
        std::make_shared<DigitsStep>(description.boolean_or("individual_digits", false)));
  } else if (type == "Split") {
    Pattern pattern(description.at("pattern"));
    const Behavior behavior = behavior_of(description.at("behavior"));
    const bool invert = description.boolean_or("invert", false);
    cuts_before_spaces_ =
        cuts_before_spaces_ && behavior == Behavior::isolated &&
        (pattern.regex() == kLlama3 || pattern.regex() == kQwen2);  // others are not known to
    steps_.push_back(std::make_shared<SplitStep>(std::move(pattern), behavior, invert));
  } else {
    description.at("type").unsupported("Sequence, ByteLevel, Split, Digits or Metaspace");
  }
}

void PreTokenizer::add_byte_level(const JsonAt& description) {
  byte_level_ = true;
  if (description.boolean_or("add_prefix_space", true)) {
    if (!steps_.empty())
      description.at("add_prefix_space").unsupported("false after another split");
    prefix_ = Prefix::always;
    cuts_before_spaces_ = false;
  }
  if (description.boolean_or("use_regex", true)) steps_.push_back(std::make_shared<Gpt2Step>());
}

void PreTokenizer::add_metaspace(const JsonAt& description) {
  if (!steps_.empty()) description.at("type").unsupported("Metaspace before any other split");
  space_ = description.text_or("replacement", "\xE2\x96\x81");
  if (space_.empty()) description.at("replacement").fail("is empty");
  if (const auto scheme = description.find("prepend_scheme")) {
    const std::string name = scheme->text();
    if (name == "always")
      prefix_ = Prefix::always;
    else if (name == "first")
      prefix_ = Prefix::first;
    else if (name != "never")
      scheme->unsupported("always, first or never");
  } else if (description.boolean_or("add_prefix_space", true)) {
    prefix_ = Prefix::always;
  }
  cuts_before_spaces_ = false;
  if (description.boolean_or("split", true))
    steps_.push_back(
        std::make_shared<SplitStep>(Pattern(space_), Behavior::merged_with_next, false));
}

std::string_view PreTokenizer::prepare(std::string_view text, bool at_start,
                                       std::string& buffer) const {
  const bool may_prefix = prefix_ == Prefix::always || (prefix_ == Prefix::first && at_start);
  if (text.empty() || (!may_prefix && space_ == " ")) return text;
  buffer.clear();
  const bool begins_with_space = text.front() == ' ' || text.starts_with(space_);
  if (may_prefix && !begins_with_space) buffer += space_;
  for (const char c : text)
    if (c == ' ')
      buffer += space_;
    else
      buffer += c;
  return buffer;
}

void PreTokenizer::split(std::string_view text, std::vector<std::string_view>& words) const {
  if (text.empty()) return;
  if (steps_.empty()) {
    words.push_back(text);
    return;
  }
  if (steps_.size() == 1) return steps_[0]->split(text, words);
  std::vector<std::string_view> before{text}, after;
  for (const auto& step : steps_) {
    after.clear();
    for (const std::string_view part : before) step->split(part, after);
    std::swap(before, after);
  }
  words.insert(words.end(), before.begin(), before.end());
}

}  // namespace reverie
