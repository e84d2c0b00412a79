#include "layers/weights_hash.h"

#include "core/compact_weights.h"
#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"

namespace reverie {

std::string hash_of_weights(const NamedTensors& weights) {
  if (dry_run()) return "";  // of no values
  std::string all;
  for (const auto& [name, tensor] : weights) {
    const Tensor bytes =
        compact_rows(tensor) ? compact_on(tensor, Device{}) : tensor.to(Device{}).contiguous();
    all += fmt::format("{} {} {}\n", name, bytes.str(), hash_elements(bytes));
  }
  return hash_bytes(all.data(), all.size());
}

}  // namespace reverie
