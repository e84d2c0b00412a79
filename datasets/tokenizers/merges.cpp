#include "datasets/tokenizers/merges.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <queue>
#include <tuple>

namespace reverie {

namespace {

constexpr uint64_t kNoPair = std::numeric_limits<uint64_t>::max();
constexpr int32_t kNoRank = std::numeric_limits<int32_t>::max();
constexpr size_t kShortWord =
    128;  // tokens up to which a plain scan for the lowest rank is fastest

uint64_t pair_key(int32_t left, int32_t right) {
  return uint64_t(uint32_t(left)) << 32 | uint32_t(right);
}
uint64_t mix(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ key >> 29;
}

}  // namespace

MergeTable::MergeTable(size_t merges) {
  size_t slots = 1;
  while (slots < 2 * merges + 1) slots *= 2;
  keys_.assign(slots, kNoPair);
  values_.assign(slots, {kNoRank, -1});
}

bool MergeTable::add(const Merge& merge, int32_t rank) {
  const uint64_t key = pair_key(merge.left, merge.right);
  const size_t mask = keys_.size() - 1;
  size_t at = mix(key) & mask;
  while (keys_[at] != kNoPair && keys_[at] != key) at = (at + 1) & mask;
  if (keys_[at] == key) return false;
  keys_[at] = key;
  values_[at] = {rank, merge.result};
  return true;
}

MergeTable::Found MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  const size_t mask = keys_.size() - 1;
  for (size_t at = mix(key) & mask;; at = (at + 1) & mask) {
    if (keys_[at] == key) return values_[at];
    if (keys_[at] == kNoPair) return {kNoRank, -1};
  }
}

void MergeTable::merge(std::vector<int32_t>& tokens, size_t first) const {
  if (tokens.size() - first <= kShortWord)
    merge_short(tokens, first);
  else
    merge_long(tokens, first);
}

void MergeTable::merge_short(std::vector<int32_t>& tokens, size_t first) const {
  std::array<Found, kShortWord> pairs;  // pairs[i]: tokens[first + i] with the one after it
  int32_t* word = tokens.data() + first;
  size_t count = tokens.size() - first;
  const auto look = [&](size_t i) {
    pairs[i] = i + 1 < count ? find(word[i], word[i + 1]) : Found{kNoRank, -1};
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

// The same by a heap and a linked list.
void MergeTable::merge_long(std::vector<int32_t>& tokens, size_t first) const {
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
    if (const Found found = find(left, right); found.rank != kNoRank)
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

}  // namespace reverie
