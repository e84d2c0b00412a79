// Copying (Jelassi et al. 2024, arXiv 2402.01032): a window shows a string of symbols, and gives back
// that of this window or of an earlier one.
//   a3 a0 a7 ? back2 a5 a5 a1

#include <fmt/format.h>

#include <algorithm>

#include "datasets/tasks/schedule.h"

namespace reverie {
namespace {

struct CopyOptions final : TaskOptions {
  int64_t length = 8, symbols = 16;
  void fields(Fields& f) override {
    TaskOptions::fields(f);
    f.integer("length", length, {1, 1 << 16}, "symbols of a string");
    f.integer("symbols", symbols, {2, 1 << 20}, "different symbols; chance is 1 / symbols");
    f.rule(3 + 2 * length <= window,
           fmt::format("a string of {} and its copy take {} tokens, and window is {}", length,
                       3 + 2 * length, window));
  }
};

class Copy final : public GeneratedTask {
 public:
  explicit Copy(const CopyOptions& o) : GeneratedTask(o), o_(o) {}

  std::vector<std::string> words() const override {
    std::vector<std::string> all;
    for (int64_t i = 0; i < o_.symbols; ++i) all.push_back(fmt::format("a{}", i));
    for (int64_t d = 0; d <= furthest_distance(o_); ++d) all.push_back(fmt::format("back{}", d));
    all.push_back("?");
    return all;
  }
  double chance(int64_t) const override { return 1 / double(o_.symbols); }

  std::vector<TaskWindow> document(Generator& random) const override {
    // A window shows one string, and no string is given back twice.
    const auto questions = draw_questions(o_, 1, 1, random);
    const int64_t back = o_.symbols, ask = back + furthest_distance(o_) + 1;
    std::vector<std::vector<int64_t>> strings;
    std::vector<TaskWindow> windows;
    for (int64_t w = 0; w < o_.windows; ++w) {
      strings.emplace_back();
      TaskWindow tokens;
      for (int64_t i = 0; i < o_.length; ++i) {
        strings.back().push_back(int64_t(random.below(uint64_t(o_.symbols))));
        tokens.push_back({strings.back().back()});
      }
      for (const auto& [distance, fact] : questions[size_t(w)]) {
        tokens.push_back({ask});
        tokens.push_back({back + distance});
        for (const int64_t symbol : strings[size_t(w - distance)])
          tokens.push_back({symbol, distance});
      }
      windows.push_back(std::move(tokens));
    }
    return windows;
  }

 private:
  CopyOptions o_;
};

REVERIE_REGISTER_TASK("copy", Copy, CopyOptions, "gives back the string of an earlier window");

}  // namespace
}  // namespace reverie
