#pragma once
/// Elementwise maps. Float tensors are f32 or f64, contiguous, all of one dtype, unless said
/// otherwise.

#include <string_view>

#include "kernels/demands.h"
#include "kernels/kernel.h"
#include "kernels/work.h"

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

/// y = f(x). y may be x.
struct UnaryForward {
  Unary f;
  const Tensor& x;
  Tensor& y;
};
inline void check(const UnaryForward& a) {
  const Demands demand{"unary_forward"};
  demand.floating("x", a.x);
  demand.contiguous("x", a.x);
  demand.buffer("y", a.y, a.x.numel(), "x", a.x);
}
inline profile::Work work(const UnaryForward& a) {
  return touched(a.x, a.y);
}
namespace kernel {
inline constinit Kernel<UnaryForward> unary_forward{"unary_forward"};
}
/// grad_x = grad_y * f'(x), computed from x. grad_x may be grad_y.
struct UnaryBackward {
  Unary f;
  const Tensor& x;
  const Tensor& grad_y;
  Tensor& grad_x;
};
inline void check(const UnaryBackward& a) {
  const Demands demand{"unary_backward"};
  demand.floating("x", a.x);
  demand.contiguous("x", a.x);
  demand.buffer("grad_y", a.grad_y, a.x.numel(), "x", a.x);
  demand.buffer("grad_x", a.grad_x, a.x.numel(), "x", a.x);
}
inline profile::Work work(const UnaryBackward& a) {
  return touched(a.x, a.grad_y, a.grad_x);
}
namespace kernel {
inline constinit Kernel<UnaryBackward> unary_backward{"unary_backward"};
}

/// y = f(a, b); b is repeated: y and a are [outer, middle, inner] and b is [middle] seen as [1,
/// middle, 1] (see `outer`, `inner`; same shapes: outer = inner = 1). y may be a; y may be b when
/// nothing is repeated.
struct BinaryForward {
  Binary f;
  const Tensor& a;
  const Tensor& b;
  Tensor& y;
  int64_t outer;
  int64_t inner;
};
inline void check(const BinaryForward& a) {
  const Demands demand{"binary_forward"};
  demand.floating("a", a.a);
  demand.contiguous("a", a.a);
  require(a.outer >= 1 && a.inner >= 1, "binary_forward: outer {} and inner {} must be at least 1",
          a.outer, a.inner);
  demand.buffer("b", a.b, a.a.numel() / (a.outer * a.inner), "a", a.a);
  demand.buffer("y", a.y, a.outer * a.inner * a.b.numel(), "b", a.b);
  demand.buffer("a", a.a, a.y.numel(), "y", a.y);
}
inline profile::Work work(const BinaryForward& a) {
  return touched(a.a, a.b, a.y);
}
namespace kernel {
inline constinit Kernel<BinaryForward> binary_forward{"binary_forward"};
}

/// y = scale * x + shift. y may be x.
struct Affine {
  const Tensor& x;
  double scale;
  double shift;
  Tensor& y;
};
inline void check(const Affine& a) {
  const Demands demand{"affine"};
  demand.floating("x", a.x);
  demand.contiguous("x", a.x);
  demand.buffer("y", a.y, a.x.numel(), "x", a.x);
}
inline profile::Work work(const Affine& a) {
  return touched(a.x, a.y);
}
namespace kernel {
inline constinit Kernel<Affine> affine{"affine"};
}

/// y += scale * x.
struct Accumulate {
  const Tensor& x;
  double scale;
  Tensor& y;
};
inline void check(const Accumulate& a) {
  const Demands demand{"accumulate"};
  demand.floating("x", a.x);
  demand.contiguous("x", a.x);
  demand.buffer("y", a.y, a.x.numel(), "x", a.x);
}
inline profile::Work work(const Accumulate& a) {
  return touched(a.x, a.y);
}
namespace kernel {
inline constinit Kernel<Accumulate> accumulate{"accumulate"};
}

/// x [rows, columns] (+ bias [columns], may be undefined) -> y = f(x + bias). Fused so that the sum
/// is never stored. y may be bf16 where x is f32: the operand of a product. slope, where it is not
/// null, becomes f'(x + bias), which costs little beside f; it may be x itself.
struct BiasActivationForward {
  Unary f;
  const Tensor& x;
  const Tensor& bias;
  Tensor& y;
  Tensor* slope = nullptr;
};
inline void check(const BiasActivationForward& a) {
  const Demands demand{"bias_activation_forward"};
  demand.rows("x", a.x);
  demand.optional_vector("bias", a.bias, columns_of(a.x), "x", a.x);
  demand.operand_buffer("y", a.y, a.x.numel(), "x", a.x);
  if (a.slope) demand.buffer("slope", *a.slope, a.x.numel(), "x", a.x);
}
inline profile::Work work(const BiasActivationForward& a) {
  return a.slope ? touched(a.x, a.bias, a.y, *a.slope) : touched(a.x, a.bias, a.y);
}
namespace kernel {
inline constinit Kernel<BiasActivationForward> bias_activation_forward{"bias_activation_forward"};
}
/// grad_x = grad_y * slope, in bf16 on request as above. The bias gradient is column_sum of grad_x.
struct BiasActivationBackward {
  const Tensor& slope;
  const Tensor& grad_y;
  Tensor& grad_x;
};
inline void check(const BiasActivationBackward& a) {
  const Demands demand{"bias_activation_backward"};
  demand.floating("slope", a.slope);
  demand.contiguous("slope", a.slope);
  const int64_t count = a.slope.numel();
  demand.buffer("grad_y", a.grad_y, count, "slope", a.slope);
  demand.operand_buffer("grad_x", a.grad_x, count, "slope", a.slope);
}
inline profile::Work work(const BiasActivationBackward& a) {
  return touched(a.slope, a.grad_y, a.grad_x);
}
namespace kernel {
inline constinit Kernel<BiasActivationBackward> bias_activation_backward{
    "bias_activation_backward"};
}

/// Gated units (Shazeer, "GLU variants", 2020): y = f(gate) * up; all [rows, columns]. f = silu:
/// SwiGLU; gelu_tanh: GeGLU.
struct GatedForward {
  Unary f;
  const Tensor& gate;
  const Tensor& up;
  Tensor& y;
};
inline void check(const GatedForward& a) {
  const Demands demand{"gated_forward"};
  demand.floating("gate", a.gate);
  demand.contiguous("gate", a.gate);
  demand.buffer("up", a.up, a.gate.numel(), "gate", a.gate);
  demand.shape("up", a.up, a.gate.shape());
  demand.buffer("y", a.y, a.gate.numel(), "gate", a.gate);
}
inline profile::Work work(const GatedForward& a) {
  return touched(a.gate, a.up, a.y);
}
namespace kernel {
inline constinit Kernel<GatedForward> gated_forward{"gated_forward"};
}
/// A gradient may take the place of any of the inputs.
struct GatedBackward {
  Unary f;
  const Tensor& gate;
  const Tensor& up;
  const Tensor& grad_y;
  Tensor& grad_gate;
  Tensor& grad_up;
};
inline void check(const GatedBackward& a) {
  const Demands demand{"gated_backward"};
  demand.floating("gate", a.gate);
  demand.contiguous("gate", a.gate);
  demand.buffer("up", a.up, a.gate.numel(), "gate", a.gate);
  demand.shape("up", a.up, a.gate.shape());
  demand.buffer("grad_y", a.grad_y, a.gate.numel(), "gate", a.gate);
  demand.buffer("grad_gate", a.grad_gate, a.gate.numel(), "gate", a.gate);
  demand.buffer("grad_up", a.grad_up, a.gate.numel(), "gate", a.gate);
}
inline profile::Work work(const GatedBackward& a) {
  return touched(a.gate, a.up, a.grad_y, a.grad_gate, a.grad_up);
}
namespace kernel {
inline constinit Kernel<GatedBackward> gated_backward{"gated_backward"};
}

/// y[i] = x[i] / (1 - p) where keep(i), else 0. keep(i): uniform number i of the Philox stream
/// (seed, offset + i / 4) >= p, the (i % 4)th of its block. The backward pass is the same map on the
/// gradient. y may be x.
struct Dropout {
  const Tensor& x;
  double p;
  uint64_t seed;
  uint64_t offset;
  Tensor& y;
};
inline void check(const Dropout& a) {
  const Demands demand{"dropout"};
  demand.floating("x", a.x);
  demand.contiguous("x", a.x);
  demand.buffer("y", a.y, a.x.numel(), "x", a.x);
  demand.probability(a.p);
}
inline profile::Work work(const Dropout& a) {
  return touched(a.x, a.y);
}
namespace kernel {
inline constinit Kernel<Dropout> dropout{"dropout"};
}

}  // namespace reverie
