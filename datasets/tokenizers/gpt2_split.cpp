#include "datasets/tokenizers/gpt2_split.h"

#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {

struct Character {
  CharacterClass kind = CharacterClass::other;
  size_t bytes = 0;
};

Character character_at(std::string_view text, size_t at, size_t base = 0) {
  const auto first = uint8_t(text[at]);
  if (first < 0x80) [[likely]] {
    if (uint8_t((first | 0x20) - 'a') < 26) return {CharacterClass::letter, 1};
    if (uint8_t(first - '0') < 10) return {CharacterClass::number, 1};
    if (first == ' ' || uint8_t(first - '\t') < 5) return {CharacterClass::space, 1};
    return {CharacterClass::other, 1};
  }
  const CodePoint point = require_code_point(text, at, base);
  return {character_class(point.value), size_t(point.bytes)};
}

// Bytes of the contraction at text[at] == '\'', or 0.
size_t contraction(std::string_view text, size_t at) {
  const std::string_view rest = text.substr(at + 1, 2);
  if (rest.empty()) return 0;
  const char c = rest[0];
  if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
  return rest == "re" || rest == "ve" || rest == "ll" ? 3 : 0;
}

}  // namespace

size_t gpt2_word_end(std::string_view text, size_t at, size_t base) {
  if (text[at] == '\'')
    if (const size_t bytes = contraction(text, at)) return at + bytes;

  Character first = character_at(text, at, base);
  size_t end = at + first.bytes;
  if (text[at] == ' ' && end < text.size()) {  // the optional space before a word
    first = character_at(text, end, base);
    if (first.kind != CharacterClass::space) end += first.bytes;
  }
  if (first.kind != CharacterClass::space) {
    while (end < text.size()) {
      const Character next = character_at(text, end, base);
      if (next.kind != first.kind) break;
      end += next.bytes;
    }
    return end;
  }
  // Spaces: all of them at the end of the text; else all but the last, which may belong to the word
  // after them.
  size_t last = at;
  while (end < text.size()) {
    const Character next = character_at(text, end, base);
    if (next.kind != CharacterClass::space) break;
    last = end;
    end += next.bytes;
  }
  return end == text.size() || last == at ? end : last;
}

size_t gpt2_cut_after(std::string_view text, size_t wanted) {
  size_t at = wanted;
  while (at < text.size() && (uint8_t(text[at]) & 0xC0u) == 0x80u) ++at;
  bool after_word = false;
  while (at < text.size()) {
    const Character next = character_at(text, at);
    const bool space = next.kind == CharacterClass::space;
    if (space && after_word) return at;
    after_word = !space;
    at += next.bytes;
  }
  return text.size();
}

}  // namespace reverie
