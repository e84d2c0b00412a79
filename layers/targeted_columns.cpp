#include "layers/targeted_columns.h"

#include <algorithm>

namespace reverie {

Columns up_to_last_target(const Tensor& tokens, const Tensor& targets) {
  const Tensor wanted = targets.to(Device{}).contiguous();
  const int64_t time = wanted.size(1);
  int64_t last = 0;
  for (int64_t i = 0; i < wanted.numel(); ++i)
    if (wanted.data<int32_t>()[i] >= 0) last = std::max(last, i % time);
  const auto kept = [&](const Tensor& t) { return t.slice(1, 0, last + 1).contiguous(); };
  return {kept(tokens), kept(wanted)};
}

}  // namespace reverie
