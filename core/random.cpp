#include "core/random.h"

#include <cmath>
#include <numbers>

#include "core/dry_run.h"
#include "core/error.h"

namespace reverie {

uint32_t Generator::next_u32() {
  return philox(seed_, offset_++).v[0];
}
double Generator::uniform() {
  const Philox4 r = philox(seed_, offset_++);
  return double((uint64_t(r.v[0]) << 32 | r.v[1]) >> 11) * 0x1p-53;
}
uint64_t philox_below(uint64_t seed, uint64_t counter, uint64_t n) {
  const Philox4 random = philox(seed, counter);
  const uint64_t bits = uint64_t(random.v[1]) << 32 | random.v[0];
  return uint64_t((static_cast<unsigned __int128>(bits) * n) >> 64);
}

uint64_t Generator::below(uint64_t n) {
  require(n > 0, "a number below 0 was asked for");
  // Rejection keeps every value equally likely.
  const uint64_t limit = ~uint64_t(0) - (~uint64_t(0) % n + 1) % n;
  for (;;) {
    const Philox4 r = philox(seed_, offset_++);
    const uint64_t u = uint64_t(r.v[0]) << 32 | r.v[1];
    if (u <= limit) return u % n;
  }
}
Tensor Generator::normal(const Shape& shape, double mean, double stddev, DType dtype) {
  if (without_values(size_t(shape.numel()) * size_of(dtype), true))
    return Tensor::empty(shape, dtype);
  Tensor t = Tensor::empty(shape, DType::f64);
  double* p = t.mutable_data<double>();
  for (int64_t i = 0; i < t.numel(); i += 2) {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    const double angle = 2 * std::numbers::pi * uniform();
    p[i] = mean + stddev * radius * std::cos(angle);
    if (i + 1 < t.numel()) p[i + 1] = mean + stddev * radius * std::sin(angle);
  }
  return t.to(dtype);
}
Tensor Generator::uniform(const Shape& shape, double low, double high, DType dtype) {
  if (without_values(size_t(shape.numel()) * size_of(dtype), true))
    return Tensor::empty(shape, dtype);
  Tensor t = Tensor::empty(shape, DType::f64);
  double* p = t.mutable_data<double>();
  for (int64_t i = 0; i < t.numel(); ++i) p[i] = low + (high - low) * uniform();
  return t.to(dtype);
}

Generator& default_generator() {
  thread_local Generator generator;
  return generator;
}

uint64_t derive_seed(uint64_t seed, uint64_t stream) {
  const Philox4 r = philox(seed, ~stream);
  return uint64_t(r.v[0]) << 32 | r.v[1];
}

}  // namespace reverie
