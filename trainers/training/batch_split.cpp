#include "trainers/training/batch_split.h"

#include <algorithm>

#include "core/error.h"

namespace reverie {
namespace {

std::vector<int64_t> rows_by_rank(int64_t batch, int ranks) {
  if (ranks > batch)
    throw ConfigError(
        fmt::format("{} ranks cannot share a batch of {} sequences: choose a larger "
                    "$.train.batch_size, or fewer ranks",
                    ranks, batch));
  std::vector<int64_t> first;
  for (int64_t r = 0; r <= ranks; ++r) first.push_back(r * batch / ranks);
  return first;
}

}  // namespace

BatchSplit::BatchSplit(const ExperimentOptions& options, int rank, int ranks)
    : exact_(options.exact_sums()),
      first_rows_(rows_by_rank(options.train.batch_size, ranks)),
      tree_(exact_ ? SumTree(first_rows_) : SumTree::one_term_per_rank(ranks)) {
  const int64_t most = exact_ ? 1 : options.train.batch_size / options.train.micro_batches;
  const int64_t end = first_row(rank + 1);
  for (int64_t row = first_row(rank); row < end; row += most)
    parts_.push_back({row, std::min(most, end - row)});
}

}  // namespace reverie
