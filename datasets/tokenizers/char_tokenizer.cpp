#include "datasets/tokenizers/char_tokenizer.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {
constexpr uint32_t kLowIds = 0x3000;
}

CharTokenizer::CharTokenizer(std::vector<uint32_t> characters)
    : characters_(std::move(characters)), low_ids_(kLowIds, -1) {
  require(!characters_.empty(), "a char tokenizer needs at least one character, got none");
  for (size_t i = 0; i < characters_.size(); ++i) {
    const uint32_t character = characters_[i];
    require(i == 0 || characters_[i - 1] < character,
            "a char tokenizer's characters must rise: U+{:04X} at place {} follows U+{:04X}",
            character, i, i == 0 ? 0 : characters_[i - 1]);
    require(character <= 0x10FFFF && (character < 0xD800 || character > 0xDFFF),
            "0x{:X} at place {} is not a Unicode character", character, i);
    if (character < kLowIds)
      low_ids_[character] = int32_t(i);
    else
      high_ids_[character] = int32_t(i);
  }
}

std::shared_ptr<const CharTokenizer> CharTokenizer::from_text(std::string_view text) {
  if (text.empty())
    throw DataError("the text is empty: a char tokenizer needs characters to learn");
  std::vector<bool> seen(0x110000, false);
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = require_code_point(text, at);
    seen[point.value] = true;
    at += size_t(point.bytes);
  }
  std::vector<uint32_t> characters;
  for (uint32_t value = 0; value < seen.size(); ++value)
    if (seen[value]) characters.push_back(value);
  return std::make_shared<CharTokenizer>(std::move(characters));
}

int32_t CharTokenizer::id_of(uint32_t character) const {
  if (character < kLowIds) return low_ids_[character];
  const auto found = high_ids_.find(character);
  return found == high_ids_.end() ? -1 : found->second;
}

std::vector<int32_t> CharTokenizer::encode_text(std::string_view text, SpecialTokens) const {
  std::vector<int32_t> ids;
  ids.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = require_code_point(text, at);
    const int32_t id = id_of(point.value);
    require(id >= 0,
            "character {} at position {} (byte {}) is not among the {} characters this tokenizer "
            "knows; "
            "remove it, or prepare the data from a text that has it",
            describe_code_point(point.value), ids.size(), at, characters_.size());
    ids.push_back(id);
    at += size_t(point.bytes);
  }
  return ids;
}

std::string CharTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  text.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t id = tokens[i];
    require(id >= 0 && id < vocabulary_size(),
            "token {} at position {} is outside the vocabulary of {}", id, i, vocabulary_size());
    append_code_point(text, characters_[size_t(id)]);
  }
  return text;
}

size_t CharTokenizer::cut_after(std::string_view text, size_t wanted) const {
  size_t at = wanted;
  while (at < text.size() && (uint8_t(text[at]) & 0xC0u) == 0x80u) ++at;  // not inside a code point
  return std::min(at, text.size());
}

Json CharTokenizer::definition() const {
  return {{"type", "char"}, {"characters", characters_}};
}

std::shared_ptr<const CharTokenizer> CharTokenizer::from_definition(const Json& definition) {
  return std::make_shared<CharTokenizer>(definition.at("characters").get<std::vector<uint32_t>>());
}

}  // namespace reverie
