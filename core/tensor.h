#pragma once
/// Tensor: a value. A copy shares storage, a view shares storage, and nothing visible to users
/// writes in place.

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/storage.h"

namespace reverie {

class Tensor {
 public:
  Tensor() = default;  ///< undefined: "no tensor", e.g. no gradient
  static Tensor empty(const Shape&, DType, Device = {});
  static Tensor zeros(const Shape&, DType, Device = {});
  static Tensor full(const Shape&, double value, DType, Device = {});
  /// Copies `values` (row-major) into a new CPU tensor of shape `shape`.
  template <class T>
  static Tensor from(const Shape& shape, std::span<const T> values);
  template <class T>
  static Tensor from(const Shape& shape, std::initializer_list<T> values) {
    return from(shape, std::span<const T>(values.begin(), values.size()));
  }
  /// A tensor over storage somebody else laid out; `offset` counts elements. Row-major.
  static Tensor over(std::shared_ptr<Storage>, const Shape&, DType, int64_t offset = 0);

  bool defined() const { return storage_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }  ///< in elements
  int rank() const { return shape_.rank(); }
  int64_t size(int dim) const { return shape_[dim]; }
  int64_t numel() const { return shape_.numel(); }
  size_t bytes() const { return size_t(numel()) * size_of(dtype_); }
  DType dtype() const { return dtype_; }
  Device device() const;
  bool is_contiguous() const;

  /// First element, checked for the element type. data(): read only, any strides. mutable_data():
  /// counts as a write.
  template <class T>
  const T* data() const {
    check_dtype(dtype_of<T>);
    return static_cast<const T*>(raw());
  }
  template <class T>
  T* mutable_data() {
    check_dtype(dtype_of<T>);
    return static_cast<T*>(mutable_raw());
  }
  const void* raw() const;
  void* mutable_raw();
  /// The only element of a tensor with one element, from any device and number type.
  double item() const;
  /// All elements in row-major order as doubles (or integers): for tests, probes and printing; slow.
  std::vector<double> to_vector() const;

  /// Views share storage. view() needs a contiguous tensor; one dimension may be -1 (inferred).
  Tensor view(Shape) const;
  Tensor slice(int dim, int64_t begin, int64_t end) const;  ///< half-open, dimension kept
  Tensor select(int dim, int64_t index) const;              ///< dimension dropped
  Tensor transpose(int dim_a, int dim_b) const;
  /// Copies, unless there is nothing to do.
  Tensor contiguous() const;
  Tensor to(Device) const;
  Tensor to(DType) const;  ///< rounds to nearest even
  Tensor clone() const;    ///< always a fresh, contiguous copy
  /// Copies `source` (same shape; cast if needed) into this tensor's bytes: for loaders and
  /// optimizers, not for model code.
  void copy_from(const Tensor& source);
  void fill(double value);

  bool unique() const { return storage_.use_count() == 1; }  ///< a kernel may reuse the buffer
  uint32_t version() const { return storage_ ? storage_->version() : 0; }
  bool shares_storage_with(const Tensor& o) const { return storage_ && storage_ == o.storage_; }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  int64_t offset() const { return offset_; }
  std::string str() const;  ///< "f32[2, 3] cpu"

 private:
  void check_dtype(DType wanted) const;

  std::shared_ptr<Storage> storage_;
  Shape shape_, strides_;
  int64_t offset_ = 0;
  DType dtype_ = DType::f32;
};

extern template Tensor Tensor::from<float>(const Shape&, std::span<const float>);
extern template Tensor Tensor::from<double>(const Shape&, std::span<const double>);
extern template Tensor Tensor::from<int32_t>(const Shape&, std::span<const int32_t>);
extern template Tensor Tensor::from<int64_t>(const Shape&, std::span<const int64_t>);

/// Exact equality of dtype, shape and bits (NaNs with the same bits are equal).
bool bit_identical(const Tensor&, const Tensor&);

}  // namespace reverie

/// So that require(.., tensor) makes its text only where it throws.
template <>
struct fmt::formatter<reverie::Tensor> {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  template <class FormatContext>
  auto format(const reverie::Tensor& tensor, FormatContext& context) const {
    return fmt::format_to(context.out(), "{}", tensor.str());
  }
};
