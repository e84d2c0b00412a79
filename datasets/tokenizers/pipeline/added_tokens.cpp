#include "datasets/tokenizers/pipeline/added_tokens.h"

#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"

namespace reverie {

void AddedTokenFinder::add(const AddedToken& token) {
  if (token.text.empty()) return;
  begins_[uint8_t(token.text[0])] = true;
  int32_t node = 0;
  for (const char byte : token.text) {
    const auto [found, is_new] =
        edges_.emplace(edge(node, uint8_t(byte)), int32_t(token_of_node_.size()));
    if (is_new) token_of_node_.push_back(-1);
    node = found->second;
  }
  token_of_node_[size_t(node)] = int32_t(tokens_.size());
  tokens_.push_back(token);
}

namespace {

bool space_at(std::string_view text, size_t at, size_t& bytes) {
  const CodePoint point = decode_code_point(text, at);
  bytes = size_t(point.bytes);
  return point.bytes > 0 && character_class(point.value) == CharacterClass::space;
}

}  // namespace

std::optional<AddedTokenFinder::Found> AddedTokenFinder::find(std::string_view text,
                                                              size_t from) const {
  if (tokens_.empty()) return std::nullopt;
  for (size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[uint8_t(text[begin])]) continue;
    int32_t node = 0, longest = -1;
    size_t end = begin;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto next = edges_.find(edge(node, uint8_t(text[at])));
      if (next == edges_.end()) break;
      node = next->second;
      if (const int32_t token = token_of_node_[size_t(node)]; token >= 0) {
        longest = token;
        end = at + 1;
      }
    }
    if (longest < 0) continue;
    const AddedToken& token = tokens_[size_t(longest)];
    size_t bytes;
    if (token.takes_right)
      while (end < text.size() && space_at(text, end, bytes)) end += bytes;
    if (token.takes_left)
      while (begin > from) {
        size_t before = begin - 1;
        while (before > from && (uint8_t(text[before]) & 0xC0u) == 0x80u) --before;
        if (!space_at(text, before, bytes)) break;
        begin = before;
      }
    return Found{begin, end, token.id};
  }
  return std::nullopt;
}

}  // namespace reverie
