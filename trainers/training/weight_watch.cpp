#include "trainers/training/weight_watch.h"

#include <cmath>

namespace reverie {

Verdict WeightWatch::ask(const std::string& during, int64_t step) const {
  Verdict verdict;
  if (!noted_) return verdict;
  const double now = parameters_.sum_of_squares();
  if (now != *noted_)
    verdict.add({"trained weights, which the optimizer alone may change", during,
                 std::abs(std::sqrt(now) - std::sqrt(*noted_)), 0, step});
  return verdict;
}

}  // namespace reverie
