// State tracking in a permutation group (the word problem of Merrill et al. 2024, arXiv 2404.08819):
// every symbol is an element of the group and multiplies the state, which is the identity at first.
// After "?" comes the state.
//   g3 g1 ? s4 g2 g2 ? s0
// An answer goes on from the state that was told before, or from the document's beginning: its
// distance is in windows from there.

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "datasets/tasks/schedule.h"

namespace reverie {
namespace {

using Permutation = std::vector<int>;

bool is_even(const Permutation& p) {
  int inversions = 0;
  for (size_t i = 0; i < p.size(); ++i)
    for (size_t j = i + 1; j < p.size(); ++j) inversions += p[i] > p[j];
  return inversions % 2 == 0;
}

// "s3": all permutations of 3 points; "a5": the even ones of 5; "z6": rotations of 6. The identity
// is the first.
std::vector<Permutation> group_elements(const std::string& name) {
  Permutation p(size_t(name[1] - '0'));
  std::iota(p.begin(), p.end(), 0);
  std::vector<Permutation> all;
  do {
    all.push_back(p);
    if (name[0] == 'z')
      std::rotate(p.begin(), p.begin() + 1, p.end());
    else
      do std::next_permutation(p.begin(), p.end());
      while (name[0] == 'a' && !is_even(p));
  } while (p != all.front());
  return all;
}

struct AutomatonOptions final : TaskOptions {
  std::string group = "s3";
  int64_t symbols = 8;
  AutomatonOptions() { distances = {1, 2}; }
  void fields(Fields& f) override {
    TaskOptions::fields(f);
    f.text(
        "group", group, {"z2", "z6", "s3", "s4", "a5", "s5"},
        "z2, z6: rotations of 2 and 6 points; s3, s4, s5: all permutations; a5: the even ones of "
        "5 points");
    f.integer("symbols", symbols, {1, 1 << 16},
              "symbols of a window before the state is asked for");
    const int64_t tokens = 1 + questions_at_most() * (symbols + 2);
    f.rule(tokens <= window,
           fmt::format("{} symbols and the question take {} tokens in all, and window is {}",
                       symbols, tokens, window));
    f.rule(distances.empty() || furthest_distance(*this) >= 1,
           "distances must name one of 1 window or more");
  }
  // A window asks one question at a distance of 1 or more, then one at 0.
  int64_t questions_at_most() const {
    return 1 + int64_t(std::find(distances.begin(), distances.end(), 0) != distances.end());
  }
};

class Automaton final : public GeneratedTask {
 public:
  explicit Automaton(const AutomatonOptions& o)
      : GeneratedTask(o), o_(o), elements_(group_elements(o.group)) {}

  std::vector<std::string> words() const override {
    std::vector<std::string> all;
    for (const char kind : {'g', 's'})
      for (size_t i = 0; i < elements_.size(); ++i) all.push_back(fmt::format("{}{}", kind, i));
    all.push_back("?");
    return all;
  }
  // Symbols are uniform over the whole group, so that after one that is not seen every state is as
  // likely, whatever is.
  double chance(int64_t) const override { return 1 / double(elements_.size()); }

  std::vector<TaskWindow> document(Generator& random) const override {
    const auto size = int64_t(elements_.size());
    Permutation state = elements_.front();
    std::vector<TaskWindow> windows;
    int64_t told = 0, next = draw_gap(random);  // windows of the last state told and of the next
    for (int64_t w = 0; w < o_.windows; ++w) {
      TaskWindow tokens;
      const int64_t questions = w == next ? o_.questions_at_most() : 0;
      for (int64_t part = 0; part < std::max<int64_t>(1, questions); ++part) {
        for (int64_t i = 0; i < o_.symbols; ++i) {
          const auto symbol = int64_t(random.below(uint64_t(size)));
          state = product(state, elements_[size_t(symbol)]);
          tokens.push_back({symbol});
        }
        if (questions == 0) continue;
        tokens.push_back({2 * size});
        tokens.push_back({size + number_of(state), w - told});
        told = w;
      }
      if (w == next) next = w + draw_gap(random);
      windows.push_back(std::move(tokens));
    }
    return windows;
  }

 private:
  int64_t draw_gap(Generator& random) const {
    std::vector<int64_t> gaps = o_.distances;
    std::erase(gaps, 0);
    return gaps[size_t(random.below(gaps.size()))];
  }
  // First a, then b.
  static Permutation product(const Permutation& a, const Permutation& b) {
    Permutation p(a.size());
    for (size_t i = 0; i < a.size(); ++i) p[i] = b[size_t(a[i])];
    return p;
  }
  int64_t number_of(const Permutation& p) const {
    return std::find(elements_.begin(), elements_.end(), p) - elements_.begin();
  }

  AutomatonOptions o_;
  std::vector<Permutation> elements_;
};

REVERIE_REGISTER_TASK("automaton", Automaton, AutomatonOptions,
                      "the state of a permutation group, told windows after it was last told");

}  // namespace
}  // namespace reverie
