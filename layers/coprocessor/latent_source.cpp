#include "layers/coprocessor/latent_source.h"

#include "autograd/ops/shape.h"

namespace reverie {

Variable for_each_group(const Variable& rows, const Tensor& limits) {
  const int64_t batch = limits.size(0), groups = limits.size(1), count = rows.size(0),
                features = rows.size(1);
  return reshape(expand(reshape(rows, {1, count, features}), 0, batch * groups),
                 {batch, groups * count, features});
}

template <>
LatentRegistry& LatentRegistry::instance() {
  static LatentRegistry registry("latent source");
  return registry;
}

}  // namespace reverie
