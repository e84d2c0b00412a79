#include "kernels/demands.h"

namespace reverie {

void Demands::defined(std::string_view name, const Tensor& t) const {
  require(t.defined(), "{}: {} is undefined", kernel, name);
}
void Demands::contiguous(std::string_view name, const Tensor& t) const {
  defined(name, t);
  require(t.is_contiguous(),
          "{}: {} {} with strides {} must be contiguous; call contiguous() first", kernel, name, t,
          t.strides());
}
void Demands::floating(std::string_view name, const Tensor& t) const {
  defined(name, t);
  require(t.dtype() == DType::f32 || t.dtype() == DType::f64, "{}: {} is {}; wanted f32 or f64",
          kernel, name, t);
}
void Demands::alike(std::string_view name, const Tensor& t, std::string_view reference_name,
                    const Tensor& reference) const {
  defined(name, t);
  require(t.dtype() == reference.dtype(), "{}: {} is {} but {} is {}; wanted one dtype", kernel,
          name, t, reference_name, reference);
  require(t.device() == reference.device(), "{}: {} is {} but {} is {}; wanted one device", kernel,
          name, t, reference_name, reference);
}
void Demands::shape(std::string_view name, const Tensor& t, const Shape& wanted) const {
  defined(name, t);
  require(t.shape() == wanted, "{}: {} is {}; wanted {}", kernel, name, t, wanted);
}
void Demands::rows(std::string_view name, const Tensor& t) const {
  floating(name, t);
  contiguous(name, t);
  require(t.rank() >= 1, "{}: {} is {}; wanted at least one dimension", kernel, name, t);
}

void Demands::buffer(std::string_view name, const Tensor& t, int64_t count,
                     std::string_view reference_name, const Tensor& reference) const {
  alike(name, t, reference_name, reference);
  contiguous(name, t);
  require(t.numel() == count, "{}: {} is {}; wanted {} elements to match {} {}", kernel, name, t,
          count, reference_name, reference);
}
void Demands::operand_buffer(std::string_view name, const Tensor& t, int64_t count,
                             std::string_view reference_name, const Tensor& reference) const {
  defined(name, t);
  if (t.dtype() != DType::bf16 || reference.dtype() != DType::f32)
    return buffer(name, t, count, reference_name, reference);
  buffer(name, t, count, name, t);
  require(t.device() == reference.device(), "{}: {} is {} but {} is {}; wanted one device", kernel,
          name, t, reference_name, reference);
}
void Demands::optional_buffer(std::string_view name, const Tensor& t, int64_t count,
                              std::string_view reference_name, const Tensor& reference) const {
  if (t.defined()) buffer(name, t, count, reference_name, reference);
}
void Demands::vector(std::string_view name, const Tensor& t, int64_t size,
                     std::string_view reference_name, const Tensor& reference) const {
  alike(name, t, reference_name, reference);
  contiguous(name, t);
  require(t.rank() == 1 && t.size(0) == size, "{}: {} is {}; wanted [{}] to go with {} {}", kernel,
          name, t, size, reference_name, reference);
}
void Demands::optional_vector(std::string_view name, const Tensor& t, int64_t size,
                              std::string_view reference_name, const Tensor& reference) const {
  if (t.defined()) vector(name, t, size, reference_name, reference);
}

void Demands::integers(std::string_view name, const Tensor& t, int64_t count,
                       const Tensor& reference) const {
  contiguous(name, t);
  require(t.dtype() == DType::i32, "{}: {} is {}; wanted i32", kernel, name, t);
  require(t.device() == reference.device(), "{}: {} is {} but the data is {}; wanted one device",
          kernel, name, t, reference);
  require(t.numel() == count, "{}: {} is {}; wanted {} elements", kernel, name, t, count);
}
void Demands::within(std::string_view name, const Tensor& t, int64_t low, int64_t high) const {
  if (t.device().kind != DeviceKind::cpu) return;
  const int32_t* indices = t.data<int32_t>();
  const int64_t count = t.numel();
  for (int64_t i = 0; i < count; ++i)
    require(indices[i] >= low && indices[i] < high, "{}: {}[{}] is {}; wanted {} <= index < {}",
            kernel, name, i, indices[i], low, high);
}

void Demands::heads(std::string_view name, const Tensor& t) const {
  floating(name, t);
  require(t.rank() == 4, "{}: {} is {}; wanted [batch, time, heads, head_dim]", kernel, name, t);
  require(t.strides()[3] == 1 || t.size(3) == 1,
          "{}: the last dimension of {} {} must be contiguous, its stride is {}", kernel, name, t,
          t.strides()[3]);
}
void Demands::matrix(std::string_view name, const Tensor& t) const {
  const int64_t rows = t.size(-2), columns = t.size(-1), row_stride = t.strides()[-2],
                column_stride = t.strides()[-1];
  const bool row_major =
      (column_stride == 1 || columns <= 1) && (row_stride >= columns || rows <= 1);
  const bool column_major =
      (row_stride == 1 || rows <= 1) && (column_stride >= rows || columns <= 1);
  require(row_major || column_major,
          "{}: {} {} with strides {} is neither row-major nor transposed; call contiguous() first",
          kernel, name, t, t.strides());
}
void Demands::probability(double p) const {
  require(p >= 0 && p < 1, "{}: p is {}; wanted 0 <= p < 1", kernel, p);
}

int64_t columns_of(const Tensor& t) {
  return t.size(-1);
}
int64_t count_rows(const Tensor& t) {
  return columns_of(t) == 0 ? 0 : t.numel() / columns_of(t);
}

}  // namespace reverie
