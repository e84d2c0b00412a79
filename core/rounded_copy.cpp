#include "core/rounded_copy.h"

#include "core/error.h"

namespace reverie {

void keep_rounded_copy(const Tensor& weights, const Tensor& rounded) {
  require(
      weights.dtype() == DType::f32 && rounded.dtype() == DType::bf16 &&
          weights.numel() == rounded.numel() && weights.device() == rounded.device() &&
          weights.bytes() == weights.storage()->bytes() && rounded.is_contiguous(),
      "rounded copy: weights {} and copy {}; wanted a whole storage of f32 and as many elements of "
      "bf16 in a row, on one device",
      weights, rounded);
  weights.storage()->keep_rounded(rounded.storage(), rounded.offset());
}

Tensor rounded_copy(const Tensor& t) {
  if (!t.defined() || t.dtype() != DType::f32 || !t.is_contiguous()) return {};
  const auto copy = t.storage()->rounded();
  return copy ? Tensor::over(copy, t.shape(), DType::bf16,
                             t.storage()->rounded_offset() + t.offset())
              : Tensor();
}

Tensor only_rounded(const Tensor& rounded) {
  const auto storage = std::make_shared<Storage>(size_t(rounded.numel()) * sizeof(float),
                                                 rounded.device(), Storage::OnlyRounded{});
  const Tensor weights = Tensor::over(storage, rounded.shape(), DType::f32);
  keep_rounded_copy(weights, rounded);
  return weights;
}

}  // namespace reverie
