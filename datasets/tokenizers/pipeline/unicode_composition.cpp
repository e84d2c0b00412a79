#include "datasets/tokenizers/pipeline/unicode_composition.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "datasets/tokenizers/pipeline/unicode_composition_data.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {

using namespace unicode_data;

// Hangul syllables are consonant + vowel (+ final consonant), laid out by a formula (Unicode 3.12).
constexpr uint32_t kSyllables = 0xAC00, kLeading = 0x1100, kVowels = 0x1161, kFinals = 0x11A7;
constexpr uint32_t kLeadingCount = 19, kVowelCount = 21, kFinalCount = 28;
constexpr uint32_t kSyllableCount = kLeadingCount * kVowelCount * kFinalCount;

struct Decomposed {
  uint32_t value;
  uint8_t combining_class;
};

uint8_t combining_class(uint32_t value) {
  if (value < combining_ranges[0].first) return 0;
  const auto* end = combining_ranges + combining_range_count;
  const auto* found =
      std::lower_bound(combining_ranges, end, value,
                       [](const CombiningRange& range, uint32_t v) { return range.last < v; });
  return found != end && found->first <= value ? found->combining_class : 0;
}

void decompose(uint32_t value, std::vector<Decomposed>& out) {
  const auto put = [&](uint32_t part) { out.push_back({part, combining_class(part)}); };
  if (value - kSyllables < kSyllableCount) {
    const uint32_t index = value - kSyllables;
    put(kLeading + index / (kVowelCount * kFinalCount));
    put(kVowels + index / kFinalCount % kVowelCount);
    if (index % kFinalCount) put(kFinals + index % kFinalCount);
    return;
  }
  const auto* end = decompositions + decomposition_count;
  const auto* found = std::lower_bound(
      decompositions, end, value, [](const Decomposition& d, uint32_t v) { return d.whole < v; });
  if (found == end || found->whole != value) return put(value);
  for (const uint32_t part : found->parts)
    if (part) put(part);
}

// The character that the two make, or 0.
uint32_t composed(uint32_t first, uint32_t second) {
  if (first - kLeading < kLeadingCount && second - kVowels < kVowelCount)
    return kSyllables + ((first - kLeading) * kVowelCount + (second - kVowels)) * kFinalCount;
  if (first - kSyllables < kSyllableCount && (first - kSyllables) % kFinalCount == 0 &&
      second - kFinals - 1 < kFinalCount - 1)
    return first + (second - kFinals);
  const auto before = [](const Composition& c, std::pair<uint32_t, uint32_t> pair) {
    return std::pair(c.first, c.second) < pair;
  };
  const auto* end = compositions + composition_count;
  const auto* found = std::lower_bound(compositions, end, std::pair(first, second), before);
  return found != end && found->first == first && found->second == second ? found->whole : 0;
}

// Joins each starter with the marks behind it that are not blocked by one of the same class.
void compose(std::vector<Decomposed>& text) {
  size_t kept = 0, starter = text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    const Decomposed c = text[i];
    // Nothing may stand between but marks of lower classes.
    const bool reaches =
        starter < text.size() &&
        (kept == starter + 1 || text[kept - 1].combining_class < c.combining_class);
    if (const uint32_t whole = reaches ? composed(text[starter].value, c.value) : 0) {
      text[starter].value = whole;
      continue;
    }
    if (c.combining_class == 0) starter = kept;
    text[kept++] = c;
  }
  text.resize(kept);
}

}  // namespace

void compose_canonically(std::string& text) {
  // Characters below U+0300 are in form C already, and stay so unless a mark follows.
  const bool plain =
      std::all_of(text.begin(), text.end(), [](char c) { return uint8_t(c) < 0xCC; });
  if (plain) return;
  std::vector<Decomposed> characters;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = require_code_point(text, at);
    decompose(point.value, characters);
    at += size_t(point.bytes);
  }
  for (auto at = characters.begin(); at != characters.end();) {  // marks in order of their classes
    if (at->combining_class == 0) {
      ++at;
      continue;
    }
    const auto end =
        std::find_if(at, characters.end(), [](const Decomposed& c) { return !c.combining_class; });
    std::stable_sort(at, end, [](const Decomposed& a, const Decomposed& b) {
      return a.combining_class < b.combining_class;
    });
    at = end;
  }
  compose(characters);
  text.clear();
  for (const Decomposed& c : characters) append_code_point(text, c.value);
}

}  // namespace reverie
