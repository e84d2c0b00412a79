#include "core/rounded_copy.h"

#include "core/error.h"

namespace reverie {

void keep_rounded_copy(const Tensor& weights, const Tensor& rounded) {
  require(
      weights.dtype() == DType::f32 && rounded.dtype() == DType::bf16 &&
          weights.shape() == rounded.shape() && weights.device() == rounded.device() &&
          weights.bytes() == weights.storage()->bytes() &&
          rounded.bytes() == rounded.storage()->bytes(),
      "rounded copy: weights {} and copy {}; wanted whole storages of f32 and bf16, of one shape",
      weights, rounded);
  weights.storage()->keep_rounded(rounded.storage());
}

Tensor rounded_copy(const Tensor& t) {
  if (!t.defined() || t.dtype() != DType::f32 || !t.is_contiguous()) return {};
  const auto copy = t.storage()->rounded();
  return copy ? Tensor::over(copy, t.shape(), DType::bf16, t.offset()) : Tensor();
}

}  // namespace reverie
