#include "datasets/tokenizers/bpe_model.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "datasets/tokenizers/byte_alphabet.h"
#include "datasets/tokenizers/pipeline/decoder.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {

constexpr uint32_t kLowUnits = 0x300;
// Pieces that scores may make. Longer ones would cost their length squared to look into.
constexpr size_t kLongestPiece = 1024;

// The only character of `text`, or nullopt.
std::optional<uint32_t> only_character(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const CodePoint point = decode_code_point(text, 0);
  if (size_t(point.bytes) != text.size()) return std::nullopt;
  return point.value;
}

// The last character of `text` ("" has none and gives 0).
uint32_t last_character(std::string_view text) {
  size_t at = text.size();
  while (at > 0 && (uint8_t(text[--at]) & 0xC0u) == 0x80u) {
  }
  return text.empty() ? 0 : decode_code_point(text, at).value;
}

}  // namespace

BpeModel::BpeModel(const SubwordSpec& spec, bool byte_level)
    : byte_level_(byte_level),
      fuse_unknown_(spec.fuse_unknown),
      vocabulary_size_(int32_t(spec.tokens.size())),
      unknown_(spec.unknown.value_or(-1)),
      low_units_(kLowUnits, -1) {
  byte_tokens_.fill(-1);
  for (size_t id = spec.tokens.size(); id-- > 0;) {  // of equal tokens the first counts
    const std::string& token = spec.tokens[id];
    if (!spec.scores.empty() && !spec.made_by_merging[id] && !byte_of_token(token)) continue;
    if (byte_level) {
      if (const auto bytes = bytes_of_characters(token); bytes && bytes->size() == 1)
        byte_tokens_[uint8_t((*bytes)[0])] = int32_t(id);
      if (spec.ignore_merges)
        if (const auto bytes = bytes_of_characters(token)) whole_words_[*bytes] = int32_t(id);
      continue;
    }
    if (const auto byte = byte_of_token(token); byte && spec.byte_fallback)
      byte_tokens_[*byte] = int32_t(id);
    if (const auto character = only_character(token)) {
      if (*character < kLowUnits)
        low_units_[*character] = int32_t(id);
      else
        units_[*character] = int32_t(id);
    }
    if (spec.ignore_merges && !token.empty()) whole_words_[token] = int32_t(id);
  }
  if (spec.scores.empty())
    add_listed_merges(spec);
  else
    add_scored_merges(spec);
  if (!byte_level) find_space(spec);
}

void BpeModel::add_listed_merges(const SubwordSpec& spec) {
  table_ = MergeTable(spec.merges.size());
  for (size_t rank = spec.merges.size(); rank-- > 0;) {  // of equal pairs the last counts
    const Merge& merge = spec.merges[rank];
    for (const int32_t token : {merge.left, merge.right, merge.result})
      if (token < 0 || token >= vocabulary_size_)
        throw DataError(fmt::format("merge {} names token {}, outside the vocabulary of {}", rank,
                                    token, vocabulary_size_));
    table_.add(merge, int32_t(rank));
  }
}

void BpeModel::add_scored_merges(const SubwordSpec& spec) {
  std::vector<float> scores = spec.scores;
  for (const float score : scores)
    if (std::isnan(score)) throw DataError("a token's score is not a number");
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  const auto rank_of = [&](float score) {
    return int32_t(std::lower_bound(scores.begin(), scores.end(), score, std::greater<>()) -
                   scores.begin());
  };
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < spec.tokens.size(); ++id)
    if (spec.made_by_merging[id]) ids.emplace(spec.tokens[id], int32_t(id));
  const auto symbol = [&](std::string_view text) {
    if (const auto found = ids.find(text); found != ids.end()) return found->second;
    const auto character = only_character(text);
    if (!character) return -1;
    const auto next = int32_t(size_t(vocabulary_size_) + extra_units_.size());
    const auto take = [&](int32_t& unit) {
      if (unit < 0) {
        unit = next;
        extra_units_.emplace_back(text);
      }
      return unit;
    };
    if (*character < kLowUnits) return take(low_units_[*character]);
    return take(units_.emplace(*character, -1).first->second);
  };
  std::vector<std::pair<Merge, int32_t>> merges;
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    const std::string_view token = spec.tokens[id];
    if (!spec.made_by_merging[id] || ids.at(token) != int32_t(id)) continue;
    if (token.size() > kLongestPiece)
      throw DataError(fmt::format("token {} has {} bytes; at most {} are supported", id,
                                  token.size(), kLongestPiece));
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((uint8_t(token[cut]) & 0xC0u) == 0x80u) continue;
      const int32_t left = symbol(token.substr(0, cut));
      if (left < 0) continue;
      if (const int32_t right = symbol(token.substr(cut)); right >= 0)
        merges.push_back({{left, right, int32_t(id)}, rank_of(spec.scores[id])});
    }
  }
  table_ = MergeTable(merges.size());
  for (const auto& [merge, rank] : merges) table_.add(merge, rank);
}

// Learns which characters stand before a space in some token.
void BpeModel::find_space(const SubwordSpec& spec) {
  for (const std::string_view candidate : {"\xE2\x96\x81", " "})
    if (unit_of(*only_character(candidate)) >= 0) {
      space_ = candidate;
      break;
    }
  if (space_.empty()) return;
  for (const std::string& token : spec.tokens)
    for (size_t at = token.find(space_); at != std::string::npos; at = token.find(space_, at + 1))
      if (at > 0) before_space_.insert(last_character(std::string_view(token).substr(0, at)));
}

bool BpeModel::parts_before_space(std::string_view before) const {
  return byte_level_ || (!space_.empty() && !before_space_.contains(last_character(before)));
}

size_t BpeModel::part_end(std::string_view word, size_t at) const {
  if (space_.empty()) return word.size();
  for (size_t end = word.find(space_, at + 1); end != std::string_view::npos;
       end = word.find(space_, end + 1))
    if (!before_space_.contains(last_character(word.substr(at, end - at)))) return end;
  return word.size();
}

int32_t BpeModel::unit_of(uint32_t character) const {
  if (character < kLowUnits) return low_units_[character];
  const auto found = units_.find(character);
  return found == units_.end() ? -1 : found->second;
}

void BpeModel::append_without_token(std::string_view character,
                                    std::vector<int32_t>& tokens) const {
  const auto has_token = [this](char byte) { return byte_tokens_[uint8_t(byte)] >= 0; };
  if (!byte_level_ && std::all_of(character.begin(), character.end(), has_token)) {
    for (const char byte : character) tokens.push_back(byte_tokens_[uint8_t(byte)]);
    return;
  }
  if (unknown_ < 0) {
    const CodePoint point = decode_code_point(character, 0);
    throw UserError(fmt::format(
        "the vocabulary has no token for {}, no bytes to write it with and no unknown token",
        point.bytes ? describe_code_point(point.value)
                    : fmt::format("the byte 0x{:02x}", uint8_t(character[0]))));
  }
  if (!fuse_unknown_ || tokens.empty() || tokens.back() != unknown_) tokens.push_back(unknown_);
}

void BpeModel::encode_word(std::string_view word, std::vector<int32_t>& tokens) const {
  if (!whole_words_.empty())
    if (const auto found = whole_words_.find(std::string(word)); found != whole_words_.end()) {
      tokens.push_back(found->second);
      return;
    }
  // Apart from the tokens before it, so that unknown tokens fuse within the word only.
  std::vector<int32_t> units;
  units.reserve(word.size());
  for (size_t at = 0; at < word.size();) {
    const size_t bytes = byte_level_ ? 1 : size_t(require_code_point(word, at).bytes);
    const int32_t unit =
        byte_level_ ? byte_tokens_[uint8_t(word[at])] : unit_of(decode_code_point(word, at).value);
    if (unit >= 0)
      units.push_back(unit);
    else
      append_without_token(word.substr(at, bytes), units);
    at += bytes;
  }
  table_.merge(units, 0);
  for (const int32_t token : units)
    if (token < vocabulary_size_)
      tokens.push_back(token);
    else
      append_without_token(extra_units_[size_t(token - vocabulary_size_)], tokens);
}

}  // namespace reverie
