#include "datasets/tasks/schedule.h"

#include <algorithm>

#include "core/error.h"

namespace reverie {
namespace {

template <class T>
T take_one(std::vector<T>& from, Generator& random) {
  const auto at = from.begin() + int64_t(random.below(from.size()));
  const T taken = *at;
  from.erase(at);
  return taken;
}

}  // namespace

std::vector<std::vector<TaskQuestion>> draw_questions(const TaskOptions& options,
                                                      int64_t facts_per_window, int64_t questions,
                                                      Generator& random) {
  std::vector<std::vector<TaskQuestion>> drawn(static_cast<size_t>(options.windows));
  for (int64_t window = 0; window < options.windows; ++window) {
    std::vector<int64_t> offered;
    for (const int64_t d : options.distances)
      if (window + d < options.windows) offered.push_back(d);
    if (offered.empty()) continue;
    for (int64_t fact = 0; fact < facts_per_window; ++fact) {
      const int64_t distance = offered[random.below(offered.size())];
      drawn[size_t(window + distance)].push_back({distance, fact});
    }
  }
  std::vector<std::vector<TaskQuestion>> asked;
  for (auto& of_window : drawn) {
    asked.emplace_back();
    while (!of_window.empty() && int64_t(asked.back().size()) < questions)
      asked.back().push_back(take_one(of_window, random));
  }
  return asked;
}

std::vector<int64_t> draw_apart(int64_t count, int64_t below, const std::vector<int64_t>& taken,
                                Generator& random) {
  std::vector<int64_t> free;
  for (int64_t i = 0; i < below; ++i)
    if (std::find(taken.begin(), taken.end(), i) == taken.end()) free.push_back(i);
  if (int64_t(free.size()) < count)
    throw InternalError(fmt::format("{} different numbers below {}, of which {} are taken", count,
                                    below, below - int64_t(free.size())));
  std::vector<int64_t> drawn;
  for (int64_t i = 0; i < count; ++i) drawn.push_back(take_one(free, random));
  return drawn;
}

int64_t furthest_distance(const TaskOptions& options) {
  return *std::max_element(options.distances.begin(), options.distances.end());
}

}  // namespace reverie
