#include "datasets/tokenizers/train_bpe.h"

#include <omp.h>

#include <algorithm>
#include <exception>
#include <nlohmann/json.hpp>
#include <queue>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "datasets/tokenizers/byte_alphabet.h"
#include "datasets/tokenizers/gpt2_split.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";
constexpr size_t kPieceBytes = size_t(1) << 22;

using WordCounts = std::unordered_map<std::string_view, int64_t>;

void count_words(std::string_view text, WordCounts& counts) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = gpt2_word_end(text, at, 0);
    ++counts[text.substr(at, end - at)];
    at = end;
  }
}

// Pieces of the texts whose words are the texts' words.
std::vector<std::string_view> pieces_of(std::span<const std::string_view> texts,
                                        bool special_tokens) {
  std::vector<std::string_view> pieces;
  for (std::string_view text : texts)
    while (!text.empty()) {
      const size_t special = special_tokens ? text.find(kEndOfText) : text.npos;
      std::string_view part = text.substr(0, special);
      text.remove_prefix(special == text.npos ? text.size() : special + kEndOfText.size());
      while (!part.empty()) {
        const size_t end = gpt2_cut_after(part, std::min(kPieceBytes, part.size()));
        pieces.push_back(part.substr(0, end));
        part.remove_prefix(end);
      }
    }
  return pieces;
}

WordCounts count_words(std::span<const std::string_view> texts, bool special_tokens) {
  const std::vector<std::string_view> pieces = pieces_of(texts, special_tokens);
  // One count a thread: neighbouring pieces share most of their words.
  const auto threads = int64_t(std::max(1, omp_get_max_threads()));
  std::vector<WordCounts> counts(static_cast<size_t>(threads));
  std::vector<std::exception_ptr> errors(counts.size());  // none may leave the parallel loop
  share_out(threads, threads > 1, [&](int64_t t) {
    try {
      for (size_t i = size_t(t); i < pieces.size(); i += size_t(threads)) {
        require_utf8(pieces[i]);
        count_words(pieces[i], counts[size_t(t)]);
      }
    } catch (...) {
      errors[size_t(t)] = std::current_exception();
    }
  });
  for (size_t t = 0; t < counts.size(); ++t) {
    if (errors[t]) std::rethrow_exception(errors[t]);
    if (t > 0)
      for (const auto& [word, count] : counts[t]) counts[0][word] += count;
  }
  return std::move(counts[0]);
}

using Pair = std::pair<int32_t, int32_t>;
struct PairHash {
  size_t operator()(const Pair& p) const {
    return std::hash<uint64_t>()(uint64_t(uint32_t(p.first)) << 32 | uint32_t(p.second)) *
           0x9E3779B97F4A7C15u;
  }
};

// Joins the pairs of the commonest words first.
class Trainer {
 public:
  Trainer(const WordCounts& words, SubwordSpec& spec) : spec_(spec) {
    std::array<int32_t, 256> ids;
    add_alphabet(ids);
    words_.reserve(words.size());
    for (const auto& [word, count] : words) {
      std::vector<int32_t> tokens;
      for (const char byte : word) tokens.push_back(ids[uint8_t(byte)]);
      for (size_t i = 0; i + 1 < tokens.size(); ++i)
        change({tokens[i], tokens[i + 1]}, count, words_.size());
      words_.push_back({std::move(tokens), count});
    }
    enqueue_changed();
  }

  void train(int64_t vocabulary_size) {
    while (int64_t(spec_.tokens.size()) < vocabulary_size && !queue_.empty()) {
      Candidate best = std::move(const_cast<Candidate&>(queue_.top()));
      queue_.pop();
      // Counts fall while a pair waits; it is put back with its new one.
      if (const int64_t now = counts_[best.pair]; best.count != now) {
        best.count = now;
        if (now > 0) queue_.push(std::move(best));
        continue;
      }
      merge(best);
    }
  }

 private:
  struct Word {
    std::vector<int32_t> tokens;
    int64_t count;
  };
  struct Candidate {
    Pair pair;
    int64_t count;
    std::vector<size_t> words;                      // where it occurs
    bool operator<(const Candidate& other) const {  // the largest comes first
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  // The token 0, then the bytes by the characters that stand for them.
  void add_alphabet(std::array<int32_t, 256>& ids) {
    spec_.tokens.emplace_back(kEndOfText);
    ids_.emplace(std::string(kEndOfText), 0);
    std::vector<std::pair<uint32_t, int>> characters;
    for (int byte = 0; byte < 256; ++byte)
      characters.emplace_back(byte_characters()[size_t(byte)], byte);
    std::sort(characters.begin(), characters.end());
    for (const auto& [character, byte] : characters) {
      ids[size_t(byte)] = int32_t(spec_.tokens.size());
      std::string token;
      append_code_point(token, character);
      ids_.emplace(token, int32_t(spec_.tokens.size()));
      spec_.tokens.push_back(std::move(token));
    }
  }

  void change(const Pair& pair, int64_t by, size_t word) {
    counts_[pair] += by;
    if (by > 0) {
      std::vector<size_t>& words = changed_[pair];
      if (words.empty() || words.back() != word) words.push_back(word);
    }
  }
  void enqueue_changed() {
    for (auto& [pair, words] : changed_)
      if (const int64_t count = counts_[pair]; count > 0)
        queue_.push({pair, count, std::move(words)});
    changed_.clear();
  }

  void merge(const Candidate& best) {
    const auto [left, right] = best.pair;
    std::string text = spec_.tokens[size_t(left)] + spec_.tokens[size_t(right)];
    // Two ways to the same token are two merges of one token.
    const auto [found, fresh] = ids_.emplace(text, int32_t(spec_.tokens.size()));
    const int32_t made = found->second;
    if (fresh) spec_.tokens.push_back(std::move(text));
    spec_.merges.push_back({left, right, made});
    for (const size_t word : best.words) merge_in(word, best.pair, made);
    enqueue_changed();
  }

  // Left to right; the counts of the pairs beside each merge move to those with the new token.
  void merge_in(size_t index, const Pair& pair, int32_t made) {
    Word& word = words_[index];
    std::vector<int32_t>& tokens = word.tokens;
    size_t to = 0;
    for (size_t from = 0; from < tokens.size(); ++to) {
      if (from + 1 == tokens.size() || Pair(tokens[from], tokens[from + 1]) != pair) {
        tokens[to] = tokens[from++];
        continue;
      }
      if (to > 0) {
        change({tokens[to - 1], pair.first}, -word.count, index);
        change({tokens[to - 1], made}, word.count, index);
      }
      from += 2;
      if (from < tokens.size()) {
        change({pair.second, tokens[from]}, -word.count, index);
        change({made, tokens[from]}, word.count, index);
      }
      tokens[to] = made;
    }
    tokens.resize(to);
  }

  SubwordSpec& spec_;
  std::vector<Word> words_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<Pair, int64_t, PairHash> counts_;
  std::unordered_map<Pair, std::vector<size_t>, PairHash> changed_;  // more often than before
  std::priority_queue<Candidate> queue_;
};

}  // namespace

SubwordSpec train_bpe(std::span<const std::string_view> texts, int64_t vocabulary_size,
                      bool special_tokens) {
  constexpr int64_t kLeast = 257;
  require(vocabulary_size >= kLeast && vocabulary_size <= int64_t(1) << 24,
          "a byte-level BPE vocabulary has {} tokens, wanted {} (the bytes and {}) or more",
          vocabulary_size, kLeast, kEndOfText);
  SubwordSpec spec;
  spec.name = "bpe";
  Trainer(count_words(texts, special_tokens), spec).train(vocabulary_size);
  spec.pre_tokenizer = {{"type", "ByteLevel"},
                        {"add_prefix_space", false},
                        {"trim_offsets", true},
                        {"use_regex", true}};
  spec.decoder = {{"type", "ByteLevel"}};
  spec.added = {{.id = 0, .text = std::string(kEndOfText), .special = true}};
  spec.end_of_text = 0;
  return spec;
}

}  // namespace reverie
