#include "trainers/tables/table_clock.h"

#include <algorithm>
#include <optional>

namespace reverie {

void TableClock::finished(size_t run, double seconds) {
  known_.push_back({runs_[run].cell, runs_[run].steps, seconds});
  runs_[run].wanted = false;
}

double TableClock::seconds_after(size_t run, double seconds) const {
  std::vector<Known> known = known_;
  known.push_back({runs_[run].cell, runs_[run].steps, seconds});
  // Mean seconds of a step: of a cell's runs (nothing where it has none), or of all.
  const auto a_step = [&](const std::string* cell) {
    double seconds = 0, steps = 0;
    for (const Known& k : known) {
      if (cell && k.cell != *cell) continue;
      seconds += k.seconds;
      steps += double(std::max<int64_t>(1, k.steps));
    }
    return steps > 0 ? std::optional(seconds / steps) : std::nullopt;
  };
  double left = 0;
  for (size_t i = run + 1; i < runs_.size(); ++i) {
    const Run& r = runs_[i];
    if (!r.wanted) continue;
    const auto same = std::find_if(known.begin(), known.end(), [&](const Known& k) {
      return k.cell == r.cell && k.steps == r.steps;
    });
    left += same != known.end() ? same->seconds
                                : a_step(&r.cell).value_or(*a_step(nullptr)) *
                                      double(std::max<int64_t>(1, r.steps));
  }
  return left;
}

}  // namespace reverie
