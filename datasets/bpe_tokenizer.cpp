#include "datasets/bpe_tokenizer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <queue>
#include <tuple>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "datasets/gpt2_split.h"
#include "datasets/unicode_classes.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr uint64_t kNoPair = std::numeric_limits<uint64_t>::max();
constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
constexpr size_t kShortWord = 128;  // bytes up to which a plain scan for the lowest rank is fastest

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t(uint32_t(left)) << 32 | uint32_t(right);
}
uint64_t mix(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ key >> 29;
}

// GPT-2 writes bytes as printable characters in its files: itself where printable in Latin-1, else
// U+0100 and on.
std::array<uint32_t, 256> byte_characters() {
  std::array<uint32_t, 256> characters{};
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    characters[byte] = printable ? byte : next++;
  }
  return characters;
}

}  // namespace

// Words seen lately and their tokens. A word has one place; a newcomer takes it.
struct BpeTokenizer::WordCache {
  static constexpr size_t kSlots = size_t(1) << 16, kBytes = 22, kTokens = 10;
  struct alignas(64) Slot {
    char word[kBytes];
    uint8_t bytes = 0;  // 0: free
    uint8_t count = 0;
    int32_t tokens[kTokens];
  };
  std::vector<Slot> slots = std::vector<Slot>(kSlots);

  static bool fits(std::string_view word) { return word.size() <= kBytes; }
  Slot& slot(std::string_view word) {
    uint64_t parts[3] = {0, 0, word.size()};
    std::memcpy(parts, word.data(), std::min<size_t>(word.size(), 16));
    if (word.size() > 16) {
      uint64_t tail;
      std::memcpy(&tail, word.data() + word.size() - 8, 8);
      parts[2] ^= tail;
    }
    return slots[mix(mix(mix(parts[0]) + parts[1]) + parts[2]) >> 20 & (kSlots - 1)];
  }
};

BpeTokenizer::BpeTokenizer(std::array<int32_t, 256> byte_tokens, std::vector<Merge> merges,
                           int32_t end_of_text)
    : byte_tokens_(byte_tokens), merges_(std::move(merges)), end_of_text_(end_of_text) {
  const size_t size = 256 + merges_.size() + 1;
  if (merges_.size() > size_t(1) << 24)
    throw DataError(fmt::format("{} merges are too many", merges_.size()));
  pieces_.resize(size);
  const auto claim = [&](int32_t token, std::string bytes) {
    if (token < 0 || size_t(token) >= size || !pieces_[size_t(token)].empty())
      throw DataError(
          fmt::format("token {} is outside the vocabulary of {} or given twice", token, size));
    pieces_[size_t(token)] = std::move(bytes);
  };
  for (int byte = 0; byte < 256; ++byte)
    claim(byte_tokens_[size_t(byte)], std::string(1, char(byte)));
  claim(end_of_text_, std::string(kEndOfText));

  size_t slots = 1;
  while (slots < 3 * merges_.size()) slots *= 2;
  pair_keys_.assign(slots, kNoPair);
  pair_values_.assign(slots, {kNoRank, -1});
  for (size_t rank = 0; rank < merges_.size(); ++rank) {
    const Merge& merge = merges_[rank];
    // That parts come first is what makes the lowest rank first the same as GPT-2's order.
    for (const int32_t part : {merge.left, merge.right})
      if (part < 0 || size_t(part) >= size || part == end_of_text_ || pieces_[size_t(part)].empty())
        throw DataError(
            fmt::format("merge {} joins token {}, which no earlier merge makes", rank, part));
    claim(merge.result, pieces_[size_t(merge.left)] + pieces_[size_t(merge.right)]);
    const uint64_t key = pair_key(merge.left, merge.right);
    size_t at = mix(key) & (slots - 1);
    while (pair_keys_[at] != kNoPair && pair_keys_[at] != key) at = (at + 1) & (slots - 1);
    if (pair_keys_[at] == key) throw DataError(fmt::format("merge {} is given twice", rank));
    pair_keys_[at] = key;
    pair_values_[at] = {int32_t(rank), merge.result};
  }
}

BpeTokenizer::~BpeTokenizer() = default;

BpeTokenizer::Found BpeTokenizer::find_merge(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  const size_t mask = pair_keys_.size() - 1;
  for (size_t at = mix(key) & mask;; at = (at + 1) & mask) {
    if (pair_keys_[at] == key) return pair_values_[at];
    if (pair_keys_[at] == kNoPair) return {kNoRank, -1};
  }
}

// Merges tokens[first..]: the pair of lowest rank, the leftmost of equals, until none is left.
void BpeTokenizer::merge_short(std::vector<int32_t>& tokens, size_t first) const {
  std::array<Found, kShortWord> pairs;  // pairs[i]: tokens[first + i] with the one after it
  int32_t* word = tokens.data() + first;
  size_t count = tokens.size() - first;
  const auto look = [&](size_t i) {
    pairs[i] = i + 1 < count ? find_merge(word[i], word[i + 1]) : Found{kNoRank, -1};
  };
  for (size_t i = 0; i < count; ++i) look(i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == kNoRank) break;
    word[best] = pairs[best].result;
    std::copy(word + best + 2, word + count, word + best + 1);
    std::copy(pairs.begin() + long(best) + 2, pairs.begin() + long(count),
              pairs.begin() + long(best) + 1);
    --count;
    look(best);
    if (best > 0) look(best - 1);
  }
  tokens.resize(first + count);
}

// The same by a heap and a linked list: n log n, for words that would take n^2.
void BpeTokenizer::merge_long(std::vector<int32_t>& tokens, size_t first) const {
  struct Node {
    int32_t token;
    int64_t before, after;
  };
  struct Candidate {
    int32_t rank;
    int64_t at;
    int32_t left, right, result;
    bool operator>(const Candidate& o) const { return std::tie(rank, at) > std::tie(o.rank, o.at); }
  };
  const auto count = int64_t(tokens.size() - first);
  std::vector<Node> nodes(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    nodes[size_t(i)] = {tokens[first + size_t(i)], i - 1, i + 1 < count ? i + 1 : -1};
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](int64_t at) {
    if (at < 0 || nodes[size_t(at)].after < 0) return;
    const int32_t left = nodes[size_t(at)].token,
                  right = nodes[size_t(nodes[size_t(at)].after)].token;
    if (const Found found = find_merge(left, right); found.rank != kNoRank)
      heap.push({found.rank, at, left, right, found.result});
  };
  for (int64_t i = 0; i + 1 < count; ++i) offer(i);
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    Node& node = nodes[size_t(best.at)];
    // Stale unless both tokens still stand there (a merged-away node's token is -1).
    if (node.token != best.left || node.after < 0 || nodes[size_t(node.after)].token != best.right)
      continue;
    Node& gone = nodes[size_t(node.after)];
    node.token = best.result;
    node.after = gone.after;
    gone.token = -1;
    if (node.after >= 0) nodes[size_t(node.after)].before = best.at;
    offer(best.at);
    offer(node.before);
  }
  tokens.resize(first);
  for (int64_t i = 0; i >= 0; i = nodes[size_t(i)].after) tokens.push_back(nodes[size_t(i)].token);
}

void BpeTokenizer::encode_word(std::string_view word, std::vector<int32_t>& tokens) const {
  const size_t first = tokens.size();
  for (const char byte : word) tokens.push_back(byte_tokens_[uint8_t(byte)]);
  if (word.size() <= kShortWord)
    merge_short(tokens, first);
  else
    merge_long(tokens, first);
}

void BpeTokenizer::encode_ordinary(std::string_view text, size_t base, WordCache& cache,
                                   std::vector<int32_t>& tokens) const {
  for (size_t at = 0; at < text.size();) {
    const size_t end = gpt2_word_end(text, at, base);
    const std::string_view word = text.substr(at, end - at);
    at = end;
    if (!WordCache::fits(word)) {
      encode_word(word, tokens);
      continue;
    }
    WordCache::Slot& slot = cache.slot(word);
    if (std::string_view(slot.word, slot.bytes) == word) {
      tokens.insert(tokens.end(), slot.tokens, slot.tokens + slot.count);
      continue;
    }
    const size_t first = tokens.size();
    encode_word(word, tokens);
    const size_t count = tokens.size() - first;
    if (count > WordCache::kTokens) continue;
    std::copy(word.begin(), word.end(), slot.word);
    std::copy(tokens.begin() + long(first), tokens.end(), slot.tokens);
    slot.bytes = uint8_t(word.size());
    slot.count = uint8_t(count);
  }
}

std::vector<int32_t> BpeTokenizer::encode_text(std::string_view text, SpecialTokens special) const {
  std::vector<int32_t> tokens;
  tokens.reserve(text.size() / 3);
  auto cache = take_cache();
  size_t at = 0;
  while (special == SpecialTokens::read) {
    const size_t found = text.find(kEndOfText, at);
    if (found == std::string_view::npos) break;
    encode_ordinary(text.substr(at, found - at), at, *cache, tokens);
    tokens.push_back(end_of_text_);
    at = found + kEndOfText.size();
  }
  encode_ordinary(text.substr(at), at, *cache, tokens);
  return_cache(std::move(cache));
  return tokens;
}

std::unique_ptr<BpeTokenizer::WordCache> BpeTokenizer::take_cache() const {
  const std::lock_guard lock(caches_mutex_);
  if (caches_.empty()) return std::make_unique<WordCache>();
  auto cache = std::move(caches_.back());
  caches_.pop_back();
  return cache;
}

void BpeTokenizer::return_cache(std::unique_ptr<WordCache> cache) const {
  const std::lock_guard lock(caches_mutex_);
  caches_.push_back(std::move(cache));
}

std::string BpeTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    require(tokens[i] >= 0 && tokens[i] < vocabulary_size(),
            "token {} at position {} is outside the vocabulary of {}", tokens[i], i,
            vocabulary_size());
    text += pieces_[size_t(tokens[i])];
  }
  return text;
}

size_t BpeTokenizer::cut_after(std::string_view text, size_t wanted) const {
  return gpt2_cut_after(text, wanted);
}

Json BpeTokenizer::definition() const {
  Json merges = Json::array();
  for (const Merge& merge : merges_) {
    merges.push_back(merge.left);
    merges.push_back(merge.right);
    merges.push_back(merge.result);
  }
  return {{"type", "gpt2"},
          {"split", fmt::format("gpt2, Unicode {}", kUnicodeVersion)},
          {"bytes", byte_tokens_},
          {"end_of_text", end_of_text_},
          {"merges", std::move(merges)}};
}

std::shared_ptr<const BpeTokenizer> BpeTokenizer::from_definition(const Json& definition) {
  const std::string split = fmt::format("gpt2, Unicode {}", kUnicodeVersion);
  if (definition.at("split").get<std::string>() != split)
    throw DataError(fmt::format("the tokenizer splits by {}; this build splits by '{}'",
                                definition.at("split").dump(), split));
  const auto flat = definition.at("merges").get<std::vector<int32_t>>();
  if (flat.size() % 3 != 0) throw DataError("the tokenizer's merges are not whole triples");
  std::vector<Merge> merges;
  for (size_t i = 0; i < flat.size(); i += 3) merges.push_back({flat[i], flat[i + 1], flat[i + 2]});
  return std::make_shared<BpeTokenizer>(definition.at("bytes").get<std::array<int32_t, 256>>(),
                                        std::move(merges),
                                        definition.at("end_of_text").get<int32_t>());
}

std::shared_ptr<const BpeTokenizer> BpeTokenizer::from_gpt2_files(const std::string& directory) {
  const auto path = [&](const char* name) {
    return (std::filesystem::path(directory) / name).string();
  };
  const std::string encoder_path = path("encoder.json"), merges_path = path("vocab.bpe");
  std::unordered_map<std::string, int32_t> encoder;
  try {
    encoder = nlohmann::json::parse(read_file(encoder_path))
                  .get<std::unordered_map<std::string, int32_t>>();
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{} is not a table of tokens: {}", encoder_path, error.what()));
  }
  const auto token_of = [&](const std::string& characters) {
    const auto found = encoder.find(characters);
    if (found == encoder.end())
      throw DataError(fmt::format("{} lacks the token '{}'", encoder_path, characters));
    return found->second;
  };

  std::array<int32_t, 256> byte_tokens{};
  const auto characters = byte_characters();
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string character;
    append_code_point(character, characters[byte]);
    byte_tokens[byte] = token_of(character);
  }

  const std::string text = read_file(merges_path);
  std::vector<Merge> merges;
  size_t line_number = 0;
  for (size_t at = 0; at < text.size(); ++line_number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || (line_number == 0 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string::npos)
      throw DataError(fmt::format("{}, line {}: wanted two tokens with a space between, got '{}'",
                                  merges_path, line_number + 1, line));
    const std::string left = line.substr(0, space), right = line.substr(space + 1);
    merges.push_back({token_of(left), token_of(right), token_of(left + right)});
  }
  if (encoder.size() != 256 + merges.size() + 1)
    throw DataError(fmt::format("{} has {} tokens; 256 bytes, the {} merges of {} and {} make {}",
                                encoder_path, encoder.size(), merges.size(), merges_path,
                                kEndOfText, 256 + merges.size() + 1));
  return std::make_shared<BpeTokenizer>(byte_tokens, std::move(merges),
                                        token_of(std::string(kEndOfText)));
}

}  // namespace reverie
