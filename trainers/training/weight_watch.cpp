#include "trainers/training/weight_watch.h"

#include <limits>

namespace reverie {

Verdict WeightWatch::ask(const std::string& during, int64_t step) const {
  Verdict verdict;
  if (noted_ && parameters_.fingerprint() != *noted_)
    verdict.add({"trained weights, which the optimizer alone may change", during,
                 std::numeric_limits<double>::infinity(), 0, step});
  return verdict;
}

}  // namespace reverie
