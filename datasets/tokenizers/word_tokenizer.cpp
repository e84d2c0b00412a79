#include "datasets/tokenizers/word_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

// Without a look at the locale.
bool in_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         uint8_t(c) >= 0x80;
}

// The byte behind the word that begins at `at`.
size_t end_of_word(std::string_view text, size_t at) {
  size_t end = at + 1;
  if (!in_word(text[at]) && !(text[at] == ' ' && end < text.size() && in_word(text[end])))
    return end;
  while (end < text.size() && in_word(text[end])) ++end;
  return end;
}

}  // namespace

WordTokenizer::WordTokenizer(std::vector<std::string> words) : words_(std::move(words)) {
  require(!words_.empty(), "a word tokenizer needs at least one word, got none");
  for (size_t i = 0; i < words_.size(); ++i) {
    require(!words_[i].empty() && end_of_word(words_[i], 0) == words_[i].size(),
            "'{}' at place {} is not one word", words_[i], i);
    require(i == 0 || words_[i - 1] < words_[i],
            "a word tokenizer's words must rise: '{}' at place {} follows '{}'", words_[i], i,
            i == 0 ? "" : words_[i - 1]);
    ids_[words_[i]] = int32_t(i);
  }
}

std::shared_ptr<const WordTokenizer> WordTokenizer::from_text(std::string_view text) {
  if (text.empty()) throw DataError("the text is empty: a word tokenizer needs words to learn");
  require_utf8(text);
  std::set<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = end_of_word(text, at);
    words.emplace(text.substr(at, end - at));
    at = end;
  }
  return std::make_shared<WordTokenizer>(std::vector<std::string>(words.begin(), words.end()));
}

std::vector<int32_t> WordTokenizer::encode_text(std::string_view text, SpecialTokens) const {
  require_utf8(text);
  std::vector<int32_t> ids;
  for (size_t at = 0; at < text.size();) {
    const size_t end = end_of_word(text, at);
    const auto found = ids_.find(text.substr(at, end - at));
    require(found != ids_.end(),
            "word '{}' at byte {} is not among the {} words this tokenizer knows; prepare the data "
            "from a text that has it",
            text.substr(at, end - at), at, words_.size());
    ids.push_back(found->second);
    at = end;
  }
  return ids;
}

std::string WordTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    require(tokens[i] >= 0 && tokens[i] < vocabulary_size(),
            "token {} at position {} is outside the vocabulary of {}", tokens[i], i,
            vocabulary_size());
    text += words_[size_t(tokens[i])];
  }
  return text;
}

// A word goes on where a letter follows another, or the space that belongs to it.
size_t WordTokenizer::cut_after(std::string_view text, size_t wanted) const {
  size_t at = std::min(wanted, text.size());
  while (at > 0 && at < text.size() && in_word(text[at]) &&
         (in_word(text[at - 1]) || text[at - 1] == ' '))
    ++at;
  return at;
}

Json WordTokenizer::definition() const {
  return {{"type", "word"}, {"words", words_}};
}

std::shared_ptr<const WordTokenizer> WordTokenizer::from_definition(const Json& definition) {
  return std::make_shared<WordTokenizer>(definition.at("words").get<std::vector<std::string>>());
}

}  // namespace reverie
