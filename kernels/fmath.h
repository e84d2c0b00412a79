#pragma once
// exp, tanh and erf without branches or calls, so that loops over them vectorise. f32: polynomials (minimax fits by Remez's
// exchange), within 2 units in the last place of the true value, over the whole range, denormal results and infinities
// included; NaN stays NaN. f64: the standard library, for checks rather than speed. Right only without -ffast-math.

#include <cmath>
#include <cstdint>

#include "core/host_device.h"

namespace reverie::fmath {

REVERIE_INLINE uint32_t bits_of(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  return __builtin_bit_cast(uint32_t, x);
#endif
}
REVERIE_INLINE float float_of(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return __builtin_bit_cast(float, bits);
#endif
}
REVERIE_INLINE float absolute(float x) { return float_of(bits_of(x) & 0x7fffffffu); }
REVERIE_INLINE float copy_sign(float magnitude, float sign) {
  return float_of((bits_of(magnitude) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}

// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2.
REVERIE_INLINE float exp(float x) {
  // Beyond these the result is 0 or infinity; `x < low` is false for NaN, which therefore passes through.
  x = x < -105.0f ? -105.0f : x;
  x = x > 90.0f ? 90.0f : x;
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts; the first has few bits, n * it is exact
  float p = 0.0013814467f;
  p = p * r + 0.008368781f;
  p = p * r + 0.041668393f;
  p = p * r + 0.1666652f;
  p = p * r + 0.49999994f;
  p = (r * r) * p + r + 1.0f;
  // 2^n in two factors, each a normal number: the product may be denormal or infinite, as it should.
  const int32_t whole = int32_t(bits_of(shifted) - 0x4b400000u);
  const int32_t half = whole >> 1;
  return p * float_of(uint32_t(half + 127) << 23) * float_of(uint32_t(whole - half + 127) << 23);
}

// |x| < 0.625: x + x^3 P(x^2); else 1 - 2 / (e^(2|x|) + 1).
REVERIE_INLINE float tanh(float x) {
  const float a = absolute(x), z = x * x;
  float p = -0.005704987f;
  p = p * z + 0.020639088f;
  p = p * z - 0.053739715f;
  p = p * z + 0.13331442f;
  p = p * z - 0.3333328f;
  const float small = x * (z * p) + x;
  const float large = copy_sign(1.0f - 2.0f / (exp(2.0f * a) + 1.0f), x);
  return a < 0.625f ? small : large;
}

// |x| < 0.9: x P(x^2); else 1 - e^(-Q(|x|)), which is 1 in f32 from 4 on.
REVERIE_INLINE float erf(float x) {
  const float z = x * x;
  float p = 8.513104e-05f;
  p = p * z - 0.0008175639f;
  p = p * z + 0.005203859f;
  p = p * z - 0.026860509f;
  p = p * z + 0.11283715f;
  p = p * z - 0.37612635f;
  p = p * z + 1.1283792f;
  float a = absolute(x);
  const float small = x * p;
  const bool is_small = a < 0.9f;
  a = a > 4.0f ? 4.0f : a;
  float q = 2.0828564e-05f;
  q = q * a - 0.00043139298f;
  q = q * a + 0.0041562524f;
  q = q * a - 0.02508061f;
  q = q * a + 0.108220376f;
  q = q * a + 0.63340086f;
  q = q * a + 1.1294883f;
  q = q * a - 0.00016920448f;
  const float large = copy_sign(1.0f - exp(-q), x);
  return is_small ? small : large;
}

REVERIE_INLINE double exp(double x) { return ::exp(x); }
REVERIE_INLINE double tanh(double x) { return ::tanh(x); }
REVERIE_INLINE double erf(double x) { return ::erf(x); }

REVERIE_INLINE float log(float x) { return ::logf(x); }
REVERIE_INLINE double log(double x) { return ::log(x); }
REVERIE_INLINE float sqrt(float x) { return ::sqrtf(x); }
REVERIE_INLINE double sqrt(double x) { return ::sqrt(x); }

}  // namespace reverie::fmath
