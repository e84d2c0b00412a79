#pragma once
// Elementwise maps. Float tensors are f32 or f64, contiguous, all of one dtype, unless said
// otherwise.

#include <string_view>

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie {

// Every function of one number and its functor in functional.h. A new one is a line here, a functor
// there, and a reference in tests/kernels/naive.h: without any of them nothing compiles. Devices,
// ops, parity cases and gradient checks follow from the list. gelu: exact, by erf.
// clang-format off
#define REVERIE_UNARY_FUNCTIONS(F) \
  F(sigmoid, Sigmoid)              \
  F(tanh, Tanh)                    \
  F(relu, Relu)                    \
  F(silu, Silu)                    \
  F(gelu, Gelu)                    \
  F(gelu_tanh, GeluTanh)           \
  F(exp, Exp)                      \
  F(softplus, Softplus)
// clang-format on
#define REVERIE_BINARY_FUNCTIONS(F) F(add, Add) F(subtract, Subtract) F(multiply, Multiply)

#define REVERIE_NAME(name, functor) name,
enum class Unary : uint8_t { REVERIE_UNARY_FUNCTIONS(REVERIE_NAME) };
enum class Binary : uint8_t { REVERIE_BINARY_FUNCTIONS(REVERIE_NAME) };
#undef REVERIE_NAME

template <class Function>
struct NamedFunction {
  Function function;
  std::string_view name;
};
#define REVERIE_ENTRY(name, functor) {Unary::name, #name},
inline constexpr NamedFunction<Unary> kUnaryFunctions[] = {REVERIE_UNARY_FUNCTIONS(REVERIE_ENTRY)};
#undef REVERIE_ENTRY
#define REVERIE_ENTRY(name, functor) {Binary::name, #name},
inline constexpr NamedFunction<Binary> kBinaryFunctions[] = {
    REVERIE_BINARY_FUNCTIONS(REVERIE_ENTRY)};
#undef REVERIE_ENTRY

// y = f(x). y may be x.
struct UnaryForward {
  Unary f;
  const Tensor& x;
  Tensor& y;
};
void check(const UnaryForward&);
profile::Work work(const UnaryForward&);
namespace kernel {
inline constinit Kernel<UnaryForward> unary_forward{"unary_forward"};
}
// grad_x = grad_y * f'(x), computed from x. grad_x may be grad_y.
struct UnaryBackward {
  Unary f;
  const Tensor& x;
  const Tensor& grad_y;
  Tensor& grad_x;
};
void check(const UnaryBackward&);
profile::Work work(const UnaryBackward&);
namespace kernel {
inline constinit Kernel<UnaryBackward> unary_backward{"unary_backward"};
}

// y = f(a, b); b is repeated: y and a are [outer, middle, inner] and b is [middle] seen as [1,
// middle, 1] (see `outer`, `inner`; same shapes: outer = inner = 1). y may be a; y may be b when
// nothing is repeated.
struct BinaryForward {
  Binary f;
  const Tensor& a;
  const Tensor& b;
  Tensor& y;
  int64_t outer;
  int64_t inner;
};
void check(const BinaryForward&);
profile::Work work(const BinaryForward&);
namespace kernel {
inline constinit Kernel<BinaryForward> binary_forward{"binary_forward"};
}

// y = scale * x + shift. y may be x.
struct Affine {
  const Tensor& x;
  double scale;
  double shift;
  Tensor& y;
};
void check(const Affine&);
profile::Work work(const Affine&);
namespace kernel {
inline constinit Kernel<Affine> affine{"affine"};
}

// y += scale * x.
struct Accumulate {
  const Tensor& x;
  double scale;
  Tensor& y;
};
void check(const Accumulate&);
profile::Work work(const Accumulate&);
namespace kernel {
inline constinit Kernel<Accumulate> accumulate{"accumulate"};
}

// x [rows, columns] (+ bias [columns], may be undefined) -> y = f(x + bias). Fused so that the sum
// is never stored. y may be bf16 where x is f32: the operand of a product. slope, where it is not
// null, becomes f'(x + bias), which costs little beside f; it may be x itself.
struct BiasActivationForward {
  Unary f;
  const Tensor& x;
  const Tensor& bias;
  Tensor& y;
  Tensor* slope = nullptr;
};
void check(const BiasActivationForward&);
profile::Work work(const BiasActivationForward&);
namespace kernel {
inline constinit Kernel<BiasActivationForward> bias_activation_forward{"bias_activation_forward"};
}
// grad_x = grad_y * slope, in bf16 on request as above. The bias gradient is column_sum of grad_x.
struct BiasActivationBackward {
  const Tensor& slope;
  const Tensor& grad_y;
  Tensor& grad_x;
};
void check(const BiasActivationBackward&);
profile::Work work(const BiasActivationBackward&);
namespace kernel {
inline constinit Kernel<BiasActivationBackward> bias_activation_backward{
    "bias_activation_backward"};
}

// Gated units (Shazeer, "GLU variants", 2020): y = f(gate) * up; all [rows, columns]. f = silu:
// SwiGLU; gelu_tanh: GeGLU.
struct GatedForward {
  Unary f;
  const Tensor& gate;
  const Tensor& up;
  Tensor& y;
};
void check(const GatedForward&);
profile::Work work(const GatedForward&);
namespace kernel {
inline constinit Kernel<GatedForward> gated_forward{"gated_forward"};
}
// A gradient may take the place of any of the inputs.
struct GatedBackward {
  Unary f;
  const Tensor& gate;
  const Tensor& up;
  const Tensor& grad_y;
  Tensor& grad_gate;
  Tensor& grad_up;
};
void check(const GatedBackward&);
profile::Work work(const GatedBackward&);
namespace kernel {
inline constinit Kernel<GatedBackward> gated_backward{"gated_backward"};
}

// y[i] = x[i] / (1 - p) where keep(i), else 0. keep(i): uniform number i of the Philox stream
// (seed, offset + i / 4) >= p, the (i % 4)th of its block. The backward pass is the same map on the
// gradient. y may be x.
struct Dropout {
  const Tensor& x;
  double p;
  uint64_t seed;
  uint64_t offset;
  Tensor& y;
};
void check(const Dropout&);
profile::Work work(const Dropout&);
namespace kernel {
inline constinit Kernel<Dropout> dropout{"dropout"};
}

}  // namespace reverie
