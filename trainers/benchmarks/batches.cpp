#include "trainers/benchmarks/batches.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace reverie {
namespace {

// A shorter one costs less to read again than to copy into each batch.
constexpr size_t kShortestBeginning = 16;
constexpr int64_t kMostTexts = 128;  // each has keys and values of its own

}  // namespace

int64_t most_texts(int64_t tokens, int64_t new_tokens, int64_t length) {
  constexpr int64_t kept = 4;  // rows of keys and values, for each token of a forward
  return std::max<int64_t>(1, std::min(tokens / std::max<int64_t>(1, new_tokens),
                                       kept * tokens / std::max<int64_t>(1, length)));
}

ReadingPlan plan_readings(const std::vector<Reading>& readings, int64_t tokens, bool share) {
  std::map<std::string, std::vector<const Reading*>> parts;
  for (const Reading& reading : readings) parts[reading.part].push_back(&reading);
  ReadingPlan plan;
  plan.beginnings.emplace_back();
  std::map<std::string, size_t> beginning_of;
  for (const auto& [part, list] : parts) {
    if (!share || list.size() < 2) continue;
    std::vector<int32_t> common = common_beginning(list);
    if (common.size() < kShortestBeginning) continue;
    beginning_of[part] = plan.beginnings.size();
    plan.beginnings.push_back(std::move(common));
  }
  const auto beginning = [&](size_t i) {
    const auto found = beginning_of.find(readings[i].part);
    return readings[i].cut || found == beginning_of.end() ? size_t(0) : found->second;
  };
  std::vector<size_t> order(readings.size());
  std::iota(order.begin(), order.end(), size_t(0));
  const auto whole = [&](size_t i) { return share && readings[i].continuations.size() == 1; };
  const auto length = [&](size_t i) {
    return whole(i) ? size_t(readings[i].length_with_continuation()) : readings[i].context.size();
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (beginning(a) != beginning(b)) return beginning(a) < beginning(b);
    if (whole(a) != whole(b)) return whole(b);
    return length(a) > length(b);
  });
  for (size_t i = 0; i < order.size();) {
    ReadingBatch batch{beginning(order[i]), {}, whole(order[i])};
    const size_t wanted = length(order[i]),
                 new_tokens = wanted - plan.beginnings[batch.beginning].size();
    const int64_t most =
        std::min(kMostTexts, most_texts(tokens, int64_t(new_tokens), int64_t(wanted)));
    for (;
         i < order.size() && int64_t(batch.readings.size()) < most && length(order[i]) == wanted &&
         beginning(order[i]) == batch.beginning && whole(order[i]) == batch.whole;
         ++i)
      batch.readings.push_back(order[i]);
    plan.batches.push_back(std::move(batch));
  }
  return plan;
}

}  // namespace reverie
