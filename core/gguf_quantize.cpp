// f32 to the types that are written, with the same roundings in the same order as the Python
// package `gguf`. This file is compiled without contraction of a * b + c into one rounding
// (CMakeLists.txt).

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/dtype.h"
#include "core/error.h"
#include "core/gguf_writer.h"

namespace reverie {
namespace {

constexpr int64_t kBlock = 32;  // values that share a scale in q8_0
constexpr double kLargestHalf = 65504, kLargestBrain = 0x1.FEp127;

float largest_of(const float* in, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(in[i]));
  return largest;
}

void q8_0(const float* in, std::byte* out) {
  const float scale = largest_of(in, kBlock) / 127.0f;
  float inverse = scale == 0 ? 0 : 1.0f / scale;
  if (!std::isfinite(inverse)) inverse = 0;  // the scale is zero in half precision
  const Float16 half(scale);
  std::memcpy(out, &half.bits, 2);
  for (int64_t i = 0; i < kBlock; ++i) out[2 + i] = std::byte(int8_t(std::round(in[i] * inverse)));
}

// Refuses what the type cannot hold.
void check(GgufTensorType type, const float* in, int64_t count, std::string_view tensor) {
  const double most = type == GgufTensorType::f16    ? kLargestHalf
                      : type == GgufTensorType::q8_0 ? 127 * kLargestHalf
                      : type == GgufTensorType::bf16 ? kLargestBrain
                                                     : HUGE_VAL;
  for (int64_t i = 0; i < count; ++i)
    require(std::isfinite(in[i]) && std::fabs(in[i]) <= most,
            "tensor {} holds {} at {}, which its type cannot represent: use --dtype f32", tensor,
            in[i], i);
}

double stored_value(GgufTensorType type, const std::byte* stored, int64_t i) {
  if (type == GgufTensorType::q8_0) {
    const std::byte* block = stored + i / kBlock * (kBlock + 2);
    Float16 scale;
    std::memcpy(&scale.bits, block, 2);
    return double(float(int8_t(block[2 + i % kBlock])) * float(scale));
  }
  uint16_t bits;
  std::memcpy(&bits, stored + 2 * i, 2);
  if (type == GgufTensorType::f16) {
    Float16 half;
    half.bits = bits;
    return double(float(half));
  }
  BFloat16 brain;
  brain.bits = bits;
  return double(float(brain));
}

}  // namespace

GgufTensorType gguf_tensor_type(std::string_view name) {
  if (name == "f32") return GgufTensorType::f32;
  if (name == "f16") return GgufTensorType::f16;
  if (name == "bf16") return GgufTensorType::bf16;
  if (name == "q8_0") return GgufTensorType::q8_0;
  throw ConfigError(
      fmt::format("GGUF type \"{}\" cannot be written; known are f32, f16, bf16 and q8_0", name));
}

void gguf_quantize(GgufTensorType type, const float* in, int64_t count, std::byte* out,
                   std::string_view tensor) {
  check(type, in, count, tensor);
  switch (type) {
    case GgufTensorType::f32:
      if (count > 0) std::memcpy(out, in, size_t(count) * 4);
      return;
    case GgufTensorType::f16:
      for (int64_t i = 0; i < count; ++i) {
        const Float16 half(in[i]);
        std::memcpy(out + 2 * i, &half.bits, 2);
      }
      return;
    case GgufTensorType::bf16:
      for (int64_t i = 0; i < count; ++i) {
        const BFloat16 brain(in[i]);
        std::memcpy(out + 2 * i, &brain.bits, 2);
      }
      return;
    case GgufTensorType::q8_0:
      for (int64_t i = 0; i < count / kBlock; ++i) q8_0(in + i * kBlock, out + i * (kBlock + 2));
      return;
  }
}

double gguf_error_bound(GgufTensorType type, double a) {
  switch (type) {
    case GgufTensorType::f32:
      return 0;
    case GgufTensorType::f16:
      return std::max(a * 0x1p-11, 0x1p-25);
    case GgufTensorType::bf16:
      return std::max(a * 0x1p-8, 0x1p-134);  // half the smallest number
    case GgufTensorType::q8_0: {
      // The last factor is for the f32 roundings of the scale, its inverse and the product.
      const double scale = a / 127, half = std::max(scale * 0x1p-11, 0x1p-25);
      return (scale / 2 + 127 * half) * (1 + 0x1p-14);
    }
  }
  throw InternalError("a GGUF type that is not written");
}

GgufErrors gguf_errors(GgufTensorType type, const float* given, int64_t count,
                       const std::byte* stored) {
  GgufErrors errors;
  if (type == GgufTensorType::f32) return errors;
  const int64_t block = type == GgufTensorType::q8_0 ? kBlock : 1;
  for (int64_t first = 0; first < count; first += block) {
    const double bound = gguf_error_bound(type, double(largest_of(given + first, block)));
    for (int64_t i = first; i < first + block; ++i) {
      const double error = std::fabs(stored_value(type, stored, i) - double(given[i]));
      errors.largest = std::max(errors.largest, error);
      if (error > 0) errors.largest_share = std::max(errors.largest_share, error / bound);
    }
  }
  return errors;
}

}  // namespace reverie
