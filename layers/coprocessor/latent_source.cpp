#include "layers/coprocessor/latent_source.h"

#include "autograd/ops/shape.h"

namespace reverie {

Variable for_each_group(const Variable& rows, const Tensor& limits) {
  const int64_t batch = limits.size(0), groups = limits.size(1), count = rows.size(0),
                features = rows.size(1);
  return reshape(expand(reshape(rows, {1, count, features}), 0, batch * groups),
                 {batch, groups * count, features});
}

Variable packed_cache(const KeyValues& cache) {
  std::vector<Variable> parts;
  for (const LayerKeyValues& layer : cache.layers)
    parts.insert(parts.end(), {layer.key, layer.value});
  return concat(parts, 2);
}
KeyValues unpacked_cache(const Variable& packed, int64_t layers) {
  const int64_t width = packed.size(2) / (2 * layers);
  KeyValues cache;
  for (int64_t i = 0; i < layers; ++i)
    cache.layers.push_back({slice(packed, 2, 2 * i * width, (2 * i + 1) * width),
                            slice(packed, 2, (2 * i + 1) * width, (2 * i + 2) * width)});
  return cache;
}

template <>
LatentRegistry& LatentRegistry::instance() {
  static LatentRegistry registry("latent source");
  return registry;
}

}  // namespace reverie
