#include "trainers/training/step_values.h"

#include <numeric>

namespace reverie {

StepValues exchange_step_values(Communicator& communicator, const BatchSplit& split,
                                const StepValues& mine) {
  if (communicator.size() == 1) return mine;
  // Rank r's section: its signal, its losses (one, or one per term), its flags.
  const auto flags = int64_t(mine.reached.size());
  auto losses_of = [&](int rank) { return split.tree().end(rank) - split.tree().begin(rank); };
  std::vector<int64_t> begin{0};
  for (int r = 0; r < communicator.size(); ++r)
    begin.push_back(begin.back() + 1 + losses_of(r) + flags);

  Tensor all = Tensor::zeros({begin.back()}, DType::f64);
  double* at = all.mutable_data<double>() + begin[size_t(communicator.rank())];
  *at++ = mine.signal;
  if (split.exact())
    at = std::copy(mine.losses.begin(), mine.losses.end(), at);
  else
    *at++ = std::accumulate(mine.losses.begin(), mine.losses.end(), 0.0);
  for (bool flag : mine.reached) *at++ = flag;
  communicator.all_gather(all, begin);

  StepValues gathered{{}, 0, std::vector<bool>(mine.reached.size(), false)};
  const double* from = all.data<double>();
  for (int r = 0; r < communicator.size(); ++r) {
    const int signal = int(*from++);
    if (gathered.signal == 0) gathered.signal = signal;
    for (int64_t i = 0; i < losses_of(r); ++i) gathered.losses.push_back(*from++);
    for (int64_t i = 0; i < flags; ++i)
      if (*from++ != 0) gathered.reached[size_t(i)] = true;
  }
  return gathered;
}

}  // namespace reverie
