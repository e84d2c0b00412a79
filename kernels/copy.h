#pragma once
/// Copies between layouts and between number types.

#include "core/compact_weights.h"
#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

namespace reverie {

/// y = x, same shape and dtype, any strides on either side; accumulate: y += x (floats).
struct StridedCopy {
  const Tensor& x;
  bool accumulate;
  Tensor& y;
};
inline void check(const StridedCopy& a) {
  const Demands demand{"strided_copy"};
  demand.defined("x", a.x);
  demand.alike("y", a.y, "x", a.x);
  demand.shape("y", a.y, a.x.shape());
  if (a.accumulate) demand.floating("x", a.x);
}
inline profile::Work work(const StridedCopy& a) {
  return touched(a.x, a.y);
}
namespace kernel {
inline constinit Kernel<StridedCopy> strided_copy{"strided_copy"};
}

/// y = x in the other of f32 and bf16, rounded to nearest even; both contiguous, of one shape.
struct Cast {
  const Tensor& x;
  Tensor& y;
};
inline void check(const Cast& a) {
  const Demands demand{"cast"};
  demand.defined("x", a.x);
  demand.defined("y", a.y);
  require((a.x.dtype() == DType::f32 && a.y.dtype() == DType::bf16) ||
              (a.x.dtype() == DType::bf16 && a.y.dtype() == DType::f32),
          "cast: x is {} and y {}; wanted one in f32 and one in bf16", a.x, a.y);
  require(a.x.device() == a.y.device(), "cast: x is {} but y is {}; wanted one device", a.x, a.y);
  demand.shape("y", a.y, a.x.shape());
  demand.contiguous("x", a.x);
  demand.contiguous("y", a.y);
}
inline profile::Work work(const Cast& a) {
  return touched(a.x, a.y);
}
namespace kernel {
inline constinit Kernel<Cast> cast{"cast"};
}

/// y [rows, columns] = the elements of `weights`, whole rows that are stored otherwise
/// (core/compact_weights.h): in f32, or rounded to bf16 to nearest even. y is contiguous.
struct WidenRows {
  const Tensor& weights;
  Tensor& y;
};
inline void check(const WidenRows& a) {
  const Demands demand{"widen_rows"};
  demand.defined("weights", a.weights);
  demand.defined("y", a.y);
  require(a.weights.rank() == 2 && compact_rows(a.weights),
          "widen_rows: weights {} are no whole rows that are stored otherwise than in {}",
          a.weights, name_of(a.weights.dtype()));
  require(a.y.dtype() == DType::f32 || a.y.dtype() == DType::bf16,
          "widen_rows: y is {}; wanted f32 or bf16", a.y);
  require(a.weights.device() == a.y.device(),
          "widen_rows: weights are {} but y is {}; wanted one device", a.weights, a.y);
  demand.shape("y", a.y, a.weights.shape());
  demand.contiguous("y", a.y);
}
inline profile::Work work(const WidenRows& a) {
  return {0, double(stored_bytes(a.weights)) + touched(a.y).bytes};
}
namespace kernel {
inline constinit Kernel<WidenRows> widen_rows{"widen_rows"};
}

}  // namespace reverie
