// Associative recall (Arora et al. 2023, arXiv 2312.04927): a window shows key-value pairs, then
// names keys of this window or of earlier ones; after each key comes its value.
//   k3 v1 k7 v0 ? k3 v1
// A question shows its pair again, so that the pair may be asked for again, from there on. Were each
// asked for once, whoever knows the values shown could tell the last ones by those already given.

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "datasets/tasks/schedule.h"

namespace reverie {
namespace {

struct RecallOptions final : TaskOptions {
  int64_t pairs = 4, questions = 8, keys = 32, values = 16;
  void fields(Fields& f) override {
    TaskOptions::fields(f);
    f.integer("pairs", pairs, {1, 1 << 16}, "key-value pairs that each window shows");
    f.integer("questions", questions, {1, 1 << 16}, "most questions of a window");
    f.integer("keys", keys, {1, 1 << 20}, "different keys");
    f.integer("values", values, {2, 1 << 20}, "different values; chance is 1 / values");
    const int64_t tokens = 2 + 2 * pairs + 2 * questions;
    f.rule(tokens <= window,
           fmt::format("{} pairs and {} questions take {} tokens, and window is {}", pairs,
                       questions, tokens, window));
    if (distances.empty()) return;
    const int64_t apart = pairs * (furthest_distance(*this) + 1);
    f.rule(apart <= keys,
           fmt::format("{} pairs a window and distance {} need {} different keys, so that a "
                       "question has one answer, and keys is {}",
                       pairs, furthest_distance(*this), apart, keys));
  }
};

class Recall final : public GeneratedTask {
 public:
  explicit Recall(const RecallOptions& o) : GeneratedTask(o), o_(o) {}

  std::vector<std::string> words() const override {
    std::vector<std::string> all;
    for (int64_t i = 0; i < o_.keys; ++i) all.push_back(fmt::format("k{}", i));
    for (int64_t i = 0; i < o_.values; ++i) all.push_back(fmt::format("v{}", i));
    all.push_back("?");
    return all;
  }
  double chance(int64_t) const override { return 1 / double(o_.values); }

  std::vector<TaskWindow> document(Generator& random) const override {
    std::vector<Pair> pairs(static_cast<size_t>(o_.keys));  // by key
    std::vector<TaskWindow> windows;
    for (int64_t w = 0; w < o_.windows; ++w) {
      TaskWindow tokens;
      const auto add = [&](int64_t key, int64_t distance) {
        pairs[size_t(key)].seen = w;
        tokens.push_back({key});
        tokens.push_back({o_.keys + pairs[size_t(key)].value, distance});
      };
      for (const int64_t key : new_keys(pairs, w, random)) {
        pairs[size_t(key)].value = int64_t(random.below(uint64_t(o_.values)));
        add(key, -1);
      }
      for (int64_t i = 0; i < o_.questions; ++i) {
        const auto asked = draw_question(pairs, w, random);
        if (!asked) break;
        if (i == 0) tokens.push_back({o_.keys + o_.values});
        add(asked->key, asked->distance);
      }
      windows.push_back(std::move(tokens));
    }
    return windows;
  }

 private:
  struct Pair {
    int64_t value = 0, seen = -1;  // seen: the last window that shows it; -1: none
  };
  struct Question {
    int64_t key, distance;
  };
  // Keys that cannot be asked for any more; where these are too few, those seen longest ago.
  std::vector<int64_t> new_keys(const std::vector<Pair>& pairs, int64_t window,
                                Generator& random) const {
    std::vector<int64_t> keys = draw_apart(o_.keys, o_.keys, {}, random);
    const int64_t reach = window - furthest_distance(o_);
    const auto age = [&](int64_t key) {
      const int64_t seen = pairs[size_t(key)].seen;
      return seen < reach ? -1 : seen;
    };
    std::stable_sort(keys.begin(), keys.end(),
                     [&](int64_t a, int64_t b) { return age(a) < age(b); });
    keys.resize(size_t(o_.pairs));
    return keys;
  }
  // A distance of the options that some pair has, and one of its pairs.
  std::optional<Question> draw_question(const std::vector<Pair>& pairs, int64_t window,
                                        Generator& random) const {
    std::vector<std::vector<int64_t>> offered;  // keys by distance
    std::vector<int64_t> distances;
    for (const int64_t distance : o_.distances) {
      std::vector<int64_t> keys;
      for (size_t key = 0; key < pairs.size(); ++key)
        if (pairs[key].seen >= 0 && pairs[key].seen == window - distance)
          keys.push_back(int64_t(key));
      if (keys.empty()) continue;
      offered.push_back(keys);
      distances.push_back(distance);
    }
    if (offered.empty()) return std::nullopt;
    const size_t drawn = random.below(offered.size());
    return Question{offered[drawn][random.below(offered[drawn].size())], distances[drawn]};
  }

  RecallOptions o_;
};

REVERIE_REGISTER_TASK("recall", Recall, RecallOptions,
                      "associative recall: key-value pairs, whose keys are named windows later");

}  // namespace
}  // namespace reverie
