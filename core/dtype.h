#pragma once
/// Element types of tensors.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace reverie {

enum class DType : uint8_t { f64, f32, bf16, f16, i64, i32, u16, u8 };

/// Upper half of an f32; conversion rounds to nearest even and keeps NaN.
struct BFloat16 {
  uint16_t bits = 0;
  BFloat16() = default;
  explicit BFloat16(float value) {
    const auto u = std::bit_cast<uint32_t>(value);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? uint16_t((u >> 16) | 0x40u) : uint16_t((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(uint32_t(bits) << 16); }
};

/// IEEE 754 half precision; conversion rounds to nearest even and keeps NaN.
struct Float16 {
  uint16_t bits = 0;
  Float16() = default;
  explicit Float16(float value) {
    const auto u = std::bit_cast<uint32_t>(value);
    const uint16_t sign = uint16_t((u >> 16) & 0x8000u);
    const uint32_t magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {  // NaN, quiet
      bits = uint16_t(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    } else if (magnitude >= 0x477ff000u) {  // 65520 and above round to infinity
      bits = uint16_t(sign | 0x7c00u);
    } else if (magnitude < 0x38800000u) {  // below 2^-14: a multiple of 2^-24
      // Adding 2^-1 leaves the multiple in the lowest bits, rounded by the addition itself.
      const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
      bits = uint16_t(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u));
    } else {
      const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
      bits = uint16_t(sign | ((rounded - 0x38000000u) >> 13));
    }
  }
  explicit operator float() const {
    const uint32_t sign = uint32_t(bits & 0x8000u) << 16, exponent = (bits >> 10) & 31u,
                   fraction = bits & 0x3ffu;
    if (exponent == 0) {  // zero and subnormal: multiples of 2^-24, exact in f32
      const float magnitude = float(fraction) * 0x1p-24f;
      return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
    }
    const uint32_t wide = exponent == 31 ? 255u : exponent + 112u;
    return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
  }
};

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
    case DType::u16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}
constexpr std::string_view name_of(DType t) {
  switch (t) {
    case DType::f64:
      return "f64";
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
    case DType::i64:
      return "i64";
    case DType::i32:
      return "i32";
    case DType::u16:
      return "u16";
    case DType::u8:
      return "u8";
  }
  return "?";
}
constexpr bool is_floating(DType t) {
  return t == DType::f64 || t == DType::f32 || t == DType::bf16 || t == DType::f16;
}

template <class T>
struct dtype_of_impl;
template <>
struct dtype_of_impl<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of_impl<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of_impl<BFloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of_impl<Float16> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of_impl<int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of_impl<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of_impl<uint16_t> {
  static constexpr DType value = DType::u16;
};
template <>
struct dtype_of_impl<uint8_t> {
  static constexpr DType value = DType::u8;
};
template <class T>
inline constexpr DType dtype_of = dtype_of_impl<T>::value;

}  // namespace reverie
