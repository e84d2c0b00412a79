// Associative recall (Arora et al. 2023, arXiv 2312.04927): a window shows key-value pairs, then
// names keys of this window or of earlier ones; after each key comes its value.
//   k3 v1 k7 v0 ? k3 v1

#include <fmt/format.h>

#include "datasets/tasks/schedule.h"

namespace reverie {
namespace {

struct RecallOptions final : TaskOptions {
  int64_t pairs = 4, questions = 8, keys = 32, values = 16;
  void fields(Fields& f) override {
    TaskOptions::fields(f);
    f.integer("pairs", pairs, {1, 1 << 16}, "key-value pairs that each window shows");
    f.integer("questions", questions, {1, 1 << 16}, "most keys that a window asks for");
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
    const auto questions = draw_questions(o_, o_.pairs, o_.questions, random);
    std::vector<std::vector<int64_t>> keys, values;  // by window
    std::vector<TaskWindow> windows;
    for (int64_t w = 0; w < o_.windows; ++w) {
      keys.push_back(draw_apart(o_.pairs, o_.keys, recent(keys), random));
      values.emplace_back();
      TaskWindow tokens;
      for (const int64_t key : keys.back()) {
        values.back().push_back(int64_t(random.below(uint64_t(o_.values))));
        tokens.push_back({key});
        tokens.push_back({o_.keys + values.back().back()});
      }
      if (!questions[size_t(w)].empty()) tokens.push_back({o_.keys + o_.values});
      for (const auto& [distance, fact] : questions[size_t(w)]) {
        tokens.push_back({keys[size_t(w - distance)][size_t(fact)]});
        tokens.push_back({o_.keys + values[size_t(w - distance)][size_t(fact)], distance});
      }
      windows.push_back(std::move(tokens));
    }
    return windows;
  }

 private:
  // Keys that may still be asked for.
  std::vector<int64_t> recent(const std::vector<std::vector<int64_t>>& keys) const {
    std::vector<int64_t> all;
    const auto first = std::max<int64_t>(0, int64_t(keys.size()) - furthest_distance(o_));
    for (size_t w = size_t(first); w < keys.size(); ++w)
      all.insert(all.end(), keys[w].begin(), keys[w].end());
    return all;
  }
  RecallOptions o_;
};

REVERIE_REGISTER_TASK("recall", Recall, RecallOptions,
                      "associative recall: key-value pairs, whose keys are named windows later");

}  // namespace
}  // namespace reverie
