#include "core/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/compact_weights.h"
#include "core/cuda.h"
#include "core/dry_run.h"
#include "core/error.h"

namespace reverie {
namespace {

Shape row_major(const Shape& shape) {
  Shape strides = shape;
  int64_t step = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[i] = step;
    step *= shape[i];
  }
  return strides;
}

// Calls f(pointer-typed nullptr) for the C++ type of `t`.
template <class F>
decltype(auto) visit_dtype(DType t, F&& f) {
  switch (t) {
    case DType::f64:
      return f(static_cast<double*>(nullptr));
    case DType::f32:
      return f(static_cast<float*>(nullptr));
    case DType::bf16:
      return f(static_cast<BFloat16*>(nullptr));
    case DType::i64:
      return f(static_cast<int64_t*>(nullptr));
    case DType::i32:
      return f(static_cast<int32_t*>(nullptr));
    case DType::u16:
      return f(static_cast<uint16_t*>(nullptr));
    case DType::u8:
      return f(static_cast<uint8_t*>(nullptr));
    case DType::f16:
      return f(static_cast<Float16*>(nullptr));
  }
  throw InternalError("this dtype has no C++ type");
}

template <class To, class From>
To convert(From v) {
  if constexpr (std::is_same_v<To, From>)
    return v;
  else if constexpr (std::is_same_v<From, BFloat16> || std::is_same_v<From, Float16>)
    return convert<To>(float(v));
  else if constexpr (std::is_same_v<To, BFloat16> || std::is_same_v<To, Float16>)
    return To(float(v));
  else
    return static_cast<To>(v);
}

// Calls f(linear index, element offset) for every element in row-major order.
template <class F>
void for_each_offset(const Tensor& t, F&& f) {
  const int64_t n = t.numel();
  int64_t index[kMaxRank] = {};
  int64_t offset = 0;
  for (int64_t i = 0; i < n; ++i) {
    f(i, offset);
    for (int d = t.rank() - 1; d >= 0; --d) {
      offset += t.strides()[d];
      if (++index[d] < t.shape()[d]) break;
      offset -= index[d] * t.strides()[d];
      index[d] = 0;
    }
  }
}

// Copies elements of kBytes each from one layout to another of the same shape.
template <size_t kBytes>
void copy_elements(const Tensor& source, void* to_first, const Tensor& target) {
  const auto* from = static_cast<const char*>(source.raw());
  auto* to = static_cast<char*>(to_first);
  const auto copy = [&](int64_t into, int64_t out_of) {
    std::memcpy(to + size_t(into) * kBytes, from + size_t(out_of) * kBytes, kBytes);
  };
  if (target.is_contiguous()) return for_each_offset(source, copy);
  std::vector<int64_t> offsets(static_cast<size_t>(target.numel()));
  for_each_offset(target, [&](int64_t i, int64_t o) { offsets[size_t(i)] = o; });
  for_each_offset(source, [&](int64_t i, int64_t o) { copy(offsets[size_t(i)], o); });
}
// The same for any number type; `to` is the target's first element.
void copy_layout(const Tensor& source, void* to, const Tensor& target) {
  switch (size_of(source.dtype())) {
    case 1:
      return copy_elements<1>(source, to, target);
    case 2:
      return copy_elements<2>(source, to, target);
    case 4:
      return copy_elements<4>(source, to, target);
    case 8:
      return copy_elements<8>(source, to, target);
  }
  throw InternalError(fmt::format("elements of {} bytes", size_of(source.dtype())));
}

int checked_dim(const Tensor& t, int dim, const char* what) {
  require(dim >= -t.rank() && dim < t.rank(), "{}: dimension {} of a tensor {}", what, dim, t);
  return dim < 0 ? dim + t.rank() : dim;
}

bool on_cpu(const Tensor& t) {
  return t.device().kind == DeviceKind::cpu;
}
bool has_no_values(const Tensor& t) {
  return without_values(t.bytes(), is_floating(t.dtype()));
}
void* first_byte(Storage& storage, bool for_writing) {
  void* data = storage.data();
  if (storage.only_rounded())
    throw UserError(
        "f32 elements of weights were wanted that this process has in bf16 alone, for products in "
        "bf16 (linear(), linear_cross_entropy()); another rank updates them in f32, and they come "
        "here for evaluations and checkpoints. Where a training step reads a weight otherwise, "
        "make it by parameter() with ReadBy::any, or set distributed.shard_optimizer to false");
  return data != nullptr || storage.bytes() == 0
             ? data
             : detail::elements_of_compact(storage, for_writing);
}
// The same elements on the CPU: t itself, where it lives there.
Tensor host(const Tensor& t) {
  return on_cpu(t) ? t : t.to(Device{});
}

// Whole rows of weights that are stored otherwise.
void copy_from_compact(Tensor& target, const Tensor& source) {
  if (!on_cpu(source)) return target.copy_from(compact_on(source, Device{}));
  if (target.dtype() != DType::f32 || !on_cpu(target) || !target.is_contiguous())
    return target.copy_from(widened(source));
  widen_into(source, target.mutable_data<float>());
}

}  // namespace

std::string Shape::str() const {
  std::string s = "[";
  for (int i = 0; i < rank_; ++i) s += (i ? ", " : "") + std::to_string(dims_[size_t(i)]);
  return s + "]";
}

Tensor Tensor::over(std::shared_ptr<Storage> storage, const Shape& shape, DType dtype,
                    int64_t offset) {
  int64_t extent = 1;  // as if no size were 0: strides are products of sizes, too
  for (int64_t d : shape) {
    require(d >= 0, "a tensor's sizes are not negative, got {}", shape);
    require(!__builtin_mul_overflow(extent, std::max<int64_t>(d, 1), &extent) &&
                extent < (int64_t(1) << 60),
            "a tensor of shape {} has too many elements", shape);
  }
  const int64_t elements = shape.numel();
  require(offset >= 0 && size_t(offset + elements) * size_of(dtype) <= storage->bytes(),
          "a tensor {}{} at element {} does not fit its storage of {} bytes", name_of(dtype), shape,
          offset, storage->bytes());
  Tensor t;
  t.storage_ = std::move(storage);
  t.shape_ = shape;
  t.strides_ = row_major(shape);
  t.offset_ = offset;
  t.dtype_ = dtype;
  return t;
}
Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  int64_t bytes = int64_t(size_of(dtype));
  for (int64_t d : shape)
    require(d >= 0 && !__builtin_mul_overflow(bytes, d, &bytes) && bytes < (int64_t(1) << 60),
            "cannot make a tensor of shape {}", shape);
  return over(std::make_shared<Storage>(size_t(bytes), device), shape, dtype);
}
Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  if (has_no_values(t)) return t;
  if (on_cpu(t))
    std::memset(t.mutable_raw(), 0, t.bytes());
  else
    cuda::clear(t.mutable_raw(), t.bytes());
  return t;
}
Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.fill(value);
  return t;
}
template <class T>
Tensor Tensor::from(const Shape& shape, std::span<const T> values) {
  require(int64_t(values.size()) == shape.numel(), "{} values do not fill shape {}", values.size(),
          shape);
  Tensor t = empty(shape, dtype_of<T>);
  if (!values.empty()) std::memcpy(t.mutable_raw(), values.data(), values.size_bytes());
  return t;
}
template Tensor Tensor::from<float>(const Shape&, std::span<const float>);
template Tensor Tensor::from<double>(const Shape&, std::span<const double>);
template Tensor Tensor::from<int32_t>(const Shape&, std::span<const int32_t>);
template Tensor Tensor::from<int64_t>(const Shape&, std::span<const int64_t>);

Device Tensor::device() const {
  return storage_ ? storage_->device() : Device{};
}
bool Tensor::is_contiguous() const {
  int64_t step = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] == 1) continue;
    if (strides_[i] != step) return numel() == 0;
    step *= shape_[i];
  }
  return true;
}
const void* Tensor::raw() const {
  if (!storage_) throw InternalError("an undefined tensor was read");
  return static_cast<const char*>(first_byte(*storage_, false)) + size_t(offset_) * size_of(dtype_);
}
void* Tensor::mutable_raw() {
  if (!storage_) throw InternalError("an undefined tensor was written");
  storage_->bump();
  return static_cast<char*>(first_byte(*storage_, true)) + size_t(offset_) * size_of(dtype_);
}
void Tensor::check_dtype(DType wanted) const {
  if (dtype_ != wanted)
    throw UserError(fmt::format("wanted a tensor of {}, got {}", name_of(wanted), str()));
  // Also where the device is emulated and the host could read its memory.
  if (!on_cpu(*this))
    throw InternalError(
        fmt::format("the elements of {} are not on the cpu: copy it there first", str()));
}
double Tensor::item() const {
  require(numel() == 1, "item() needs a tensor with one element, got {}", *this);
  return to_vector()[0];
}
std::vector<double> Tensor::to_vector() const {
  if (!on_cpu(*this)) return host(*this).to_vector();
  std::vector<double> out(static_cast<size_t>(numel()));
  visit_dtype(dtype_, [&]<class T>(T*) {
    const T* p = data<T>();
    for_each_offset(*this, [&](int64_t i, int64_t o) { out[size_t(i)] = convert<double>(p[o]); });
  });
  return out;
}

Tensor Tensor::view(Shape shape) const {
  require(is_contiguous(),
          "view wants a contiguous tensor, got {} with strides {}; call contiguous() first", *this,
          strides_);
  int64_t known = 1;
  int inferred = -1;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] == -1) {
      require(inferred < 0, "view {}: wanted at most one -1", shape);
      inferred = i;
    } else {
      require(shape[i] >= 0 && !__builtin_mul_overflow(known, shape[i], &known),
              "cannot view {} as {}", *this, shape);
    }
  }
  if (inferred >= 0 && known > 0) shape[inferred] = numel() / known;
  require(shape.numel() == numel(), "cannot view {} as {}", *this, shape);
  Tensor t = *this;
  t.shape_ = shape;
  t.strides_ = row_major(shape);
  return t;
}
Tensor Tensor::slice(int dim, int64_t begin, int64_t end) const {
  dim = checked_dim(*this, dim, "slice");
  require(0 <= begin && begin <= end && end <= shape_[dim], "slice [{}, {}) of dimension {} of {}",
          begin, end, dim, *this);
  Tensor t = *this;
  t.offset_ += begin * strides_[dim];
  t.shape_[dim] = end - begin;
  return t;
}
Tensor Tensor::select(int dim, int64_t index) const {
  dim = checked_dim(*this, dim, "select");
  const Tensor s = slice(dim, index, index + 1);
  Tensor t = s;
  t.shape_ = {};
  t.strides_ = {};
  for (int i = 0; i < rank(); ++i) {
    if (i == dim) continue;
    t.shape_.push_back(s.shape_[i]);
    t.strides_.push_back(s.strides_[i]);
  }
  return t;
}
Tensor Tensor::transpose(int a, int b) const {
  a = checked_dim(*this, a, "transpose");
  b = checked_dim(*this, b, "transpose");
  Tensor t = *this;
  std::swap(t.shape_[a], t.shape_[b]);
  std::swap(t.strides_[a], t.strides_[b]);
  return t;
}
Tensor Tensor::contiguous() const {
  return is_contiguous() ? *this : clone();
}
Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_, device());
  t.copy_from(*this);
  return t;
}
Tensor Tensor::to(Device device) const {
  if (device == this->device()) return *this;
  Tensor t = empty(shape_, dtype_, device);
  t.copy_from(*this);
  return t;
}
Tensor Tensor::to(DType dtype) const {
  if (dtype == dtype_) return *this;
  Tensor t = empty(shape_, dtype, device());
  t.copy_from(*this);
  return t;
}
void Tensor::copy_from(const Tensor& source) {
  require(source.shape_ == shape_, "copy_from: {} into {}", source, *this);
  if (has_no_values(*this)) return storage_->bump();
  if (is_compact(source)) {
    if (compact_rows(source)) return copy_from_compact(*this, source);
    Tensor wide = source;
    wide.storage_ = detail::host_copy_of_compact(*source.storage_);
    return copy_from(wide);
  }
  if (source.dtype_ == dtype_ && source.is_contiguous() && is_contiguous()) {
    if (bytes() == 0) return;
    if (on_cpu(*this) && on_cpu(source)) {
      std::memmove(mutable_raw(), source.raw(), bytes());
    } else {
      cuda::copy(mutable_raw(), source.raw(), bytes(),
                 on_cpu(source)  ? cuda::Direction::to_device
                 : on_cpu(*this) ? cuda::Direction::to_host
                                 : cuda::Direction::on_device);
    }
    return;
  }
  if (!on_cpu(*this) || !on_cpu(source)) {
    // Other layouts and number types go by way of the host, with all of their storage: slow, for
    // set-up and tests. Ops have kernel::strided_copy and kernel::cast.
    const auto on_host = [](const Tensor& t) {
      Tensor copy = t;
      if (on_cpu(t)) return copy;
      copy.storage_ = std::make_shared<Storage>(t.storage_->bytes(), Device{});
      cuda::copy(copy.storage_->data(), first_byte(*t.storage_, false), t.storage_->bytes(),
                 cuda::Direction::to_host);
      return copy;
    };
    Tensor mine = on_host(*this);
    mine.copy_from(on_host(source));
    if (!on_cpu(*this)) {
      storage_->bump();
      cuda::copy(first_byte(*storage_, true), mine.storage_->data(), storage_->bytes(),
                 cuda::Direction::to_device);
    }
    return;
  }
  if (source.dtype_ == dtype_) return copy_layout(source, mutable_raw(), *this);
  if (!source.is_contiguous()) return copy_from(source.contiguous());
  if (!is_contiguous()) return copy_from(source.to(dtype_));
  visit_dtype(source.dtype_, [&]<class From>(From*) {
    visit_dtype(dtype_, [&]<class To>(To*) {
      const From* from = source.data<From>();
      To* to = mutable_data<To>();
      for (int64_t i = 0, n = numel(); i < n; ++i) to[i] = convert<To>(from[i]);
    });
  });
}
void Tensor::fill(double value) {
  if (has_no_values(*this)) return storage_->bump();
  if (!on_cpu(*this)) {
    if (value == 0 && is_contiguous()) return cuda::clear(mutable_raw(), bytes());
    return copy_from(full(shape_, value, dtype_));
  }
  visit_dtype(dtype_, [&]<class T>(T*) {
    T* p = mutable_data<T>();
    const T v = convert<T>(value);
    for_each_offset(*this, [&](int64_t, int64_t o) { p[o] = v; });
  });
}
std::string Tensor::str() const {
  if (!storage_) return "undefined tensor";
  return fmt::format("{}{} {}", name_of(dtype_), shape_.str(), name_of(device().kind));
}

bool bit_identical(const Tensor& a, const Tensor& b) {
  if (a.defined() != b.defined()) return false;
  if (!a.defined()) return true;
  if (a.dtype() != b.dtype() || !(a.shape() == b.shape())) return false;
  const Tensor x = host(a).contiguous(), y = host(b).contiguous();
  return x.bytes() == 0 || std::memcmp(x.raw(), y.raw(), x.bytes()) == 0;
}

}  // namespace reverie
