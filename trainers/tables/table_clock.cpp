#include "trainers/tables/table_clock.h"

#include <algorithm>

namespace reverie {

void TableClock::finished(size_t run, double seconds) {
  known_.push_back({runs_[run].cell, runs_[run].steps, seconds});
  runs_[run].wanted = false;
}

double TableClock::seconds_after(size_t run, double seconds) const {
  std::vector<Known> known = known_;
  known.push_back({runs_[run].cell, runs_[run].steps, seconds});
  double all_seconds = 0, all_steps = 0;
  for (const Known& k : known) {
    all_seconds += k.seconds;
    all_steps += double(std::max<int64_t>(1, k.steps));
  }
  double left = 0;
  for (size_t i = run + 1; i < runs_.size(); ++i) {
    if (!runs_[i].wanted) continue;
    const auto same = std::find_if(known.begin(), known.end(), [&](const Known& k) {
      return k.cell == runs_[i].cell && k.steps == runs_[i].steps;
    });
    left += same != known.end()
                ? same->seconds
                : all_seconds / all_steps * double(std::max<int64_t>(1, runs_[i].steps));
  }
  return left;
}

}  // namespace reverie
