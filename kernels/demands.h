#pragma once
/// Demands on a kernel's arguments, for the check() that stands beside them. Each throws UserError
/// unless it holds, and says where (kernel and argument), what was got and what was wanted.

#include <string_view>

#include "core/error.h"
#include "core/tensor.h"

namespace reverie {

struct Demands {
  std::string_view kernel;

  void defined(std::string_view name, const Tensor&) const;
  void contiguous(std::string_view name, const Tensor&) const;
  /// f32 or f64.
  void floating(std::string_view name, const Tensor&) const;
  /// The dtype and device must be those of `reference`.
  void alike(std::string_view name, const Tensor&, std::string_view reference_name,
             const Tensor& reference) const;
  void shape(std::string_view name, const Tensor&, const Shape& wanted) const;
  /// Floating and contiguous, with at least one dimension: seen as [rows, columns].
  void rows(std::string_view name, const Tensor&) const;
  /// Contiguous, of `count` elements in any shape, of the dtype and device of `reference`.
  void buffer(std::string_view name, const Tensor&, int64_t count, std::string_view reference_name,
              const Tensor& reference) const;
  /// The same, or bf16 where the reference is f32: an operand of a product.
  void operand_buffer(std::string_view name, const Tensor&, int64_t count,
                      std::string_view reference_name, const Tensor& reference) const;
  /// A buffer, or undefined.
  void optional_buffer(std::string_view name, const Tensor&, int64_t count,
                       std::string_view reference_name, const Tensor& reference) const;
  /// A buffer of shape [size].
  void vector(std::string_view name, const Tensor&, int64_t size, std::string_view reference_name,
              const Tensor& reference) const;
  void optional_vector(std::string_view name, const Tensor&, int64_t size,
                       std::string_view reference_name, const Tensor& reference) const;
  /// Contiguous i32 of `count` elements on the device of `reference`.
  void integers(std::string_view name, const Tensor&, int64_t count, const Tensor& reference) const;
  /// low <= element < high, of i32. Checked on the CPU only: reading a GPU's memory would wait for
  /// it.
  void within(std::string_view name, const Tensor&, int64_t low, int64_t high) const;
  /// [batch, time, heads, head_dim] with a contiguous last dimension.
  void heads(std::string_view name, const Tensor&) const;
  /// Row-major or a transposed view: one of the last two strides is 1. A stride along a dimension of
  /// one element is never used.
  void matrix(std::string_view name, const Tensor&) const;
  /// 0 <= p < 1.
  void probability(double p) const;
};

/// The sizes of a tensor seen as [rows, columns].
int64_t columns_of(const Tensor&);
int64_t count_rows(const Tensor&);

}  // namespace reverie
