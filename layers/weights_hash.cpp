#include "layers/weights_hash.h"

#include "core/compact_weights.h"
#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "kernels/copy.h"

namespace reverie {
namespace {

// Contiguous on the CPU; compact rows stay compact.
Tensor plain_on_host(const Tensor& t) {
  if (compact_rows(t)) return compact_on(t, Device{});
  if (t.rank() != 2 || !compact_rows(t.transpose(0, 1))) return t.to(Device{}).contiguous();
  const Tensor rows = widened(compact_on(t.transpose(0, 1), Device{}));
  Tensor plain = Tensor::empty(t.shape(), DType::f32);
  kernel::strided_copy({}, {rows.transpose(0, 1), false, plain});
  return plain;
}

}  // namespace

std::string hash_of_weights(const NamedTensors& weights) {
  if (dry_run()) return "";  // of no values
  std::string all;
  for (const auto& [name, tensor] : weights) {
    const Tensor bytes = plain_on_host(tensor);
    all += fmt::format("{} {} {}\n", name, bytes.str(), hash_elements(bytes));
  }
  return hash_bytes(all.data(), all.size());
}

}  // namespace reverie
