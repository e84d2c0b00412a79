#pragma once
/// exp, exp2, tanh and the normal distribution without branches or calls, so that loops over them
/// vectorise. f32: polynomials (minimax fits by Remez's exchange); exp and tanh are within 2 units
/// in the last place of the true value over the whole range, denormal results and infinities
/// included, the normal cdf is within 2^-22 of it; NaN stays NaN.
/// f64: the standard library, for checks rather than speed. Right only without -ffast-math.

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
REVERIE_INLINE float absolute(float x) {
  return float_of(bits_of(x) & 0x7fffffffu);
}
REVERIE_INLINE float copy_sign(float magnitude, float sign) {
  return float_of((bits_of(magnitude) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}
/// Bit by bit: compilers turn chains of ?: into more comparisons and blends than there are choices.
REVERIE_INLINE float choose(bool condition, float yes, float no) {
  const uint32_t mask = 0u - uint32_t(condition);
  return float_of((bits_of(yes) & mask) | (bits_of(no) & ~mask));
}

/// e^x = 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2: n and e^r.
struct Exponent {
  int32_t whole;
  float mantissa;
};
REVERIE_INLINE Exponent exponent_of(float x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) +
                  n * 2.12194440e-4f;  // ln 2 in two parts; the first has few bits, n * it is exact
  float p = 0.0013814467f;
  p = p * r + 0.008368781f;
  p = p * r + 0.041668393f;
  p = p * r + 0.1666652f;
  p = p * r + 0.49999994f;
  return {int32_t(bits_of(shifted) - 0x4b400000u), (r * r) * p + r + 1.0f};
}

REVERIE_INLINE float exp(float x) {
  // Beyond these the result is 0 or infinity; `x < low` is false for NaN, which therefore passes
  // through.
  x = choose(x < -105.0f, -105.0f, x);
  x = choose(x > 90.0f, 90.0f, x);
  const Exponent e = exponent_of(x);
  // 2^n in two factors, each a normal number: the product may be denormal or infinite, as it
  // should.
  const int32_t half = e.whole >> 1;
  return e.mantissa * float_of(uint32_t(half + 127) << 23) *
         float_of(uint32_t(e.whole - half + 127) << 23);
}

/// e^x for x <= 0, as where a sum is normalised by its largest term: nothing can overflow, and what
/// is below the least normal number is 0. Half the work around the polynomial of exp.
REVERIE_INLINE float exp_falling(float x) {
  const Exponent e = exponent_of(x);
  return choose(x < -87.0f, 0.0f, e.mantissa * float_of((uint32_t(e.whole) + 127u) << 23));
}

/// 2^x for x <= 0, likewise: x = n + r with |r| <= 1/2 is exact, which saves the work on the
/// logarithm of 2.
REVERIE_INLINE float exp2_falling(float x) {
  const float shifted = x + 12582912.0f, r = x - (shifted - 12582912.0f);
  float p = 0.00015594678f;
  p = p * r + 0.0013406643f;
  p = p * r + 0.009617693f;
  p = p * r + 0.055503104f;
  p = p * r + 0.24022652f;
  p = p * r + 0.69314724f;
  p = p * r + 1.0f;
  return choose(x < -126.0f, 0.0f, p * float_of((bits_of(shifted) - 0x4b400000u + 127u) << 23));
}

/// |x| < 0.625: x + x^3 P(x^2); else 1 - 2 / (e^(2|x|) + 1).
REVERIE_INLINE float tanh(float x) {
  const float a = absolute(x), z = x * x;
  float p = -0.005704987f;
  p = p * z + 0.020639088f;
  p = p * z - 0.053739715f;
  p = p * z + 0.13331442f;
  p = p * z - 0.3333328f;
  const float small = a * (z * p) + a, large = 1.0f - 2.0f / (exp(2.0f * a) + 1.0f);
  return copy_sign(choose(a < 0.625f, small, large), x);
}

/// The normal distribution's cdf Phi(x), and e^(-x^2 / 2), which both Phi and its derivative are
/// made of.
template <class T>
struct Normal {
  T cdf, exponential;
};
/// Phi(-z) = e^(-z^2 / 2) t P(t) with t = 1 / (1 + 0.3 z), z >= 0 (after Hastings, "Approximations
/// for digital computers", 1955). P is fitted to 3e-9 of max(Phi(-z), 0.02); the rest of the error
/// is the rounding of the sum, a few units in the last place of 1/2.
REVERIE_INLINE Normal<float> normal(float x) {
  const float z = absolute(x), t = 1.0f / (0.3f * z + 1.0f),
              exponential = exp_falling(-0.5f * x * x);
  float p = 0.024327725f;
  p = p * t - 0.09697452f;
  p = p * t + 0.07118766f;
  p = p * t + 0.11256133f;
  p = p * t + 0.0075301896f;
  p = p * t + 0.15208271f;
  p = p * t + 0.10842151f;
  p = p * t + 0.12086339f;
  const float tail = exponential * (t * p);
  return {choose(x < 0.0f, tail, 1.0f - tail), exponential};
}

REVERIE_INLINE double exp(double x) {
  return ::exp(x);
}
REVERIE_INLINE double exp_falling(double x) {
  return ::exp(x);
}
REVERIE_INLINE double exp2_falling(double x) {
  return ::exp2(x);
}
REVERIE_INLINE double tanh(double x) {
  return ::tanh(x);
}
REVERIE_INLINE Normal<double> normal(double x) {
  return {0.5 * ::erfc(-0.70710678118654752440 * x), ::exp(-0.5 * x * x)};
}

REVERIE_INLINE float log(float x) {
  return ::logf(x);
}
REVERIE_INLINE double log(double x) {
  return ::log(x);
}
REVERIE_INLINE float log1p(float x) {
  return ::log1pf(x);
}
REVERIE_INLINE double log1p(double x) {
  return ::log1p(x);
}
REVERIE_INLINE float sqrt(float x) {
  return ::sqrtf(x);
}
REVERIE_INLINE double sqrt(double x) {
  return ::sqrt(x);
}

}  // namespace reverie::fmath
