#pragma once
/// The elementwise functions and their derivatives, as functors over float and double that every
/// device shares.

#include "core/host_device.h"
#include "kernels/elementwise.h"
#include "kernels/fmath.h"

namespace reverie::functional {

template <class T>
REVERIE_INLINE T sigmoid_of(T x) {
  return T(1) / (T(1) + fmath::exp(-x));
}

/// Each has value(x) and derivative(x).
struct Sigmoid {
  template <class T>
  static REVERIE_INLINE T value(T x) {
    return sigmoid_of(x);
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    const T s = sigmoid_of(x);
    return s * (T(1) - s);
  }
};
struct Tanh {
  template <class T>
  static REVERIE_INLINE T value(T x) {
    return fmath::tanh(x);
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    const T t = fmath::tanh(x);
    return T(1) - t * t;
  }
};
/// The derivative at 0 is 0. NaN stays NaN.
struct Relu {
  template <class T>
  static REVERIE_INLINE T value(T x) {
    return x < T(0) ? T(0) : x;
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    return x > T(0) ? T(1) : T(0);
  }
};
struct Silu {
  template <class T>
  static REVERIE_INLINE T value(T x) {
    return x * sigmoid_of(x);
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    const T s = sigmoid_of(x);
    return s + x * s * (T(1) - s);
  }
};
/// x Phi(x) (Hendrycks & Gimpel 2016).
struct Gelu {
  template <class T>
  static REVERIE_INLINE T value(T x) {
    return x * fmath::normal(x).cdf;
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    const fmath::Normal<T> n = fmath::normal(x);
    return n.cdf + x * (T(0.39894228040143267794) * n.exponential);
  }
};
/// The same by 0.5 x (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2 / pi) (x + 0.044715 x^3).
struct GeluTanh {
  template <class T>
  static REVERIE_INLINE T gate(T x) {
    return sigmoid_of(T(1.59576912160573071176) * (x + T(0.044715) * (x * x * x)));
  }
  template <class T>
  static REVERIE_INLINE T value(T x) {
    return x * gate(x);
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    const T s = gate(x);
    const T slope = T(1.59576912160573071176) * (T(1) + T(0.134145) * (x * x));
    return s + x * s * (T(1) - s) * slope;
  }
};
struct Exp {
  template <class T>
  static REVERIE_INLINE T value(T x) {
    return fmath::exp(x);
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    return fmath::exp(x);
  }
};
/// log(1 + exp(x)), without overflow; its derivative is the sigmoid.
struct Softplus {
  template <class T>
  static REVERIE_INLINE T value(T x) {
    const T size = x < T(0) ? -x : x;
    return (x > T(0) ? x : T(0)) + fmath::log1p(fmath::exp(-size));
  }
  template <class T>
  static REVERIE_INLINE T derivative(T x) {
    return sigmoid_of(x);
  }
};
struct Add {
  template <class T>
  static REVERIE_INLINE T value(T a, T b) {
    return a + b;
  }
};
struct Subtract {
  template <class T>
  static REVERIE_INLINE T value(T a, T b) {
    return a - b;
  }
};
struct Multiply {
  template <class T>
  static REVERIE_INLINE T value(T a, T b) {
    return a * b;
  }
};

/// Calls f(Functor{}) for the functor that `which` names. For the host, whose lambdas nvcc lets no
/// device function call. InternalError for a value that is no function.
#define REVERIE_CASE(name, functor) \
  case Unary::name:                 \
    return f(functor{});
template <class F>
inline __attribute__((always_inline)) void with_unary(Unary which, const F& f) {
  switch (which) { REVERIE_UNARY_FUNCTIONS(REVERIE_CASE) }
  no_case_for("unary function", int(which));
}
#undef REVERIE_CASE
#define REVERIE_CASE(name, functor) \
  case Binary::name:                \
    return f(functor{});
template <class F>
inline __attribute__((always_inline)) void with_binary(Binary which, const F& f) {
  switch (which) { REVERIE_BINARY_FUNCTIONS(REVERIE_CASE) }
  no_case_for("binary function", int(which));
}
#undef REVERIE_CASE

}  // namespace reverie::functional
