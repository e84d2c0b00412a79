// Products in bf16: what is rounded, what is not, and that gradients follow what was computed.

#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops/attention.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "core/error.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

constexpr double kHalfUlp = 1.0 / 256;  // of bf16, relative, with room for f32's own rounding

Tensor f32(const Shape& shape, uint64_t seed) {
  return normal(shape, seed).to(DType::f32);
}
Tensor rounded(const Tensor& x) {
  return x.to(DType::bf16).to(DType::f32);
}
// The largest error relative to the element, or to the root mean square where that is larger.
double error(const Tensor& actual, const Tensor& wanted) {
  const auto a = actual.to_vector(), w = wanted.to_vector();
  EXPECT_EQ(a.size(), w.size());
  double squares = 0, worst = 0;
  for (double x : w) squares += x * x;
  const double typical = std::sqrt(squares / double(w.size()));
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = std::abs(a[i] - w[i]) / std::max(std::abs(w[i]), typical);
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  return worst;
}

// The root mean square of the error, relative to that of what is wanted: where many roundings meet
// in one number and no two elements have the same.
double mean_error(const Tensor& actual, const Tensor& wanted) {
  const auto a = actual.to_vector(), w = wanted.to_vector();
  EXPECT_EQ(a.size(), w.size());
  double squares = 0, errors = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    squares += w[i] * w[i];
    errors += (a[i] - w[i]) * (a[i] - w[i]);
  }
  return std::sqrt(errors / squares);
}

struct Result {
  Tensor value;
  std::vector<Tensor> grads;
};
Result run(MatmulPrecision precision, const MultiFunction& f, const std::vector<Tensor>& inputs,
           const Tensor& cotangent) {
  Variables v;
  for (const Tensor& t : inputs) v.emplace_back(t.clone(), true);
  const MatmulPrecisionScope scope(precision);
  const Variables y = f(v);
  backward(y, {&cotangent, 1});
  Result r{y[0].tensor(), {}};
  for (const Variable& x : v) r.grads.push_back(x.grad());
  return r;
}

class Layouts : public ::testing::TestWithParam<WeightLayout> {};

TEST_P(Layouts, LinearIsTheProductOfRoundedOperands) {
  const WeightLayout layout = GetParam();
  const bool out_in = layout == WeightLayout::out_in;
  const Tensor x = f32({3, 20, 48}, 1), w = f32(out_in ? Shape{33, 48} : Shape{48, 33}, 2),
               bias = f32({33}, 3), g = f32({3, 20, 33}, 4);
  const MultiFunction layer = [=](const Variables& v) {
    return Variables{linear(v[0], v[1], v[2], layout)};
  };
  const Result low = run(MatmulPrecision::bf16, layer, {x, w, bias}, g);
  EXPECT_EQ(low.value.dtype(), DType::f32);
  // The forward product of rounded operands in full, and gradients of rounded cotangents.
  const Result forward = run(MatmulPrecision::full, layer, {rounded(x), rounded(w), bias}, g);
  const Result back = run(MatmulPrecision::full, layer, {rounded(x), rounded(w), bias}, rounded(g));
  EXPECT_LT(error(low.value, forward.value), 1e-5);
  EXPECT_LT(error(low.grads[0], back.grads[0]), 1e-5);
  EXPECT_LT(error(low.grads[1], back.grads[1]), 1e-5);
  EXPECT_TRUE(bit_identical(low.grads[2], forward.grads[2])) << "a bias meets no product";
  for (const Tensor& grad : low.grads) EXPECT_EQ(grad.dtype(), DType::f32);
  // And it does round: the same in full precision is another number.
  EXPECT_GT(error(low.value, run(MatmulPrecision::full, layer, {x, w, bias}, g).value), 1e-4);
}
INSTANTIATE_TEST_SUITE_P(Both, Layouts,
                         ::testing::Values(WeightLayout::out_in, WeightLayout::in_out));

TEST(Precision, FullLeavesOperandsAlone) {
  const Tensor x = f32({7, 16}, 1), w = f32({16}, 2), up = f32({24, 16}, 3);
  const MatmulPrecisionScope outer(MatmulPrecision::full);
  EXPECT_EQ(rms_norm(Variable(x), Variable(w), 1e-5, ReadBy::matmul).dtype(), DType::f32);
  const Variable one = linear_activation(Unary::gelu, Variable(x), Variable(up), {},
                                         WeightLayout::out_in, ReadBy::matmul);
  EXPECT_EQ(one.dtype(), DType::f32);
  {
    const MatmulPrecisionScope inner(MatmulPrecision::bf16);
    EXPECT_EQ(matmul_precision(), MatmulPrecision::bf16);
    EXPECT_EQ(rms_norm(Variable(x), Variable(w), 1e-5, ReadBy::any).dtype(), DType::f32);
    EXPECT_EQ(rms_norm(Variable(x.to(DType::f64)), Variable(w.to(DType::f64)), 1e-5, ReadBy::matmul)
                  .dtype(),
              DType::f64);
  }
  EXPECT_EQ(matmul_precision(), MatmulPrecision::full);
}

TEST(Precision, OperandsAreStoredRoundedAndTheirCotangentsAreInFull) {
  const Tensor x = f32({9, 40}, 1), other = f32({9, 40}, 2), w = f32({40}, 3), b = f32({40}, 4),
               m = f32({24, 40}, 5), g = f32({9, 24}, 6);
  for (int form = 0; form < 3; ++form) {
    SCOPED_TRACE(form);
    const auto normed = [=](const Variables& v, ReadBy read_by) {
      return form == 0   ? layer_norm(v[0], v[2], v[3], 1e-5, read_by)
             : form == 1 ? rms_norm(v[0], v[2], 1e-5, read_by)
                         : residual_norm(Norm::layer, v[0], v[1], v[2], v[3], 1e-5, read_by).normed;
    };
    const MultiFunction used = [=](const Variables& v) {
      // Two readers, whose cotangents are added.
      return Variables{add(linear(normed(v, ReadBy::matmul), v[4]),
                           linear(normed(v, ReadBy::matmul), v[4], {}, WeightLayout::out_in))};
    };
    const MultiFunction plain = [=](const Variables& v) {
      return Variables{
          add(linear(normed(v, ReadBy::any), v[4]), linear(normed(v, ReadBy::any), v[4]))};
    };
    {
      const MatmulPrecisionScope scope(MatmulPrecision::bf16);
      Variables v;
      for (const Tensor& t : {x, other, w, b, m}) v.emplace_back(t);
      const Tensor y = normed(v, ReadBy::matmul).tensor();
      EXPECT_EQ(y.dtype(), DType::bf16);
      EXPECT_LT(error(y, normed(v, ReadBy::any).tensor()), kHalfUlp);
    }
    // linear() would have rounded what the norm stores rounded: the same products.
    const std::vector<Tensor> inputs{x, other, w, b, m};
    const Result stored = run(MatmulPrecision::bf16, used, inputs, g),
                 cast = run(MatmulPrecision::bf16, plain, inputs, g);
    EXPECT_LT(error(stored.value, cast.value), 1e-4);
    for (size_t i = 0; i < inputs.size(); ++i)
      if (cast.grads[i]) {
        EXPECT_LT(error(stored.grads[i], cast.grads[i]), 1e-4) << i;
      }
  }
}

TEST(Precision, LinearActivationRoundsWhatItsPartsWould) {
  const Tensor x = f32({6, 5, 32}, 1), w = f32({48, 32}, 2), bias = f32({48}, 3),
               down = f32({32, 48}, 4), g = f32({6, 5, 32}, 5);
  for (bool with_bias : {false, true}) {
    SCOPED_TRACE(with_bias);
    const MultiFunction fused = [=](const Variables& v) {
      const Variable y = linear_activation(Unary::gelu, v[0], v[1], with_bias ? v[2] : Variable(),
                                           WeightLayout::out_in, ReadBy::matmul);
      return Variables{linear(y, v[3])};
    };
    const MultiFunction parts = [=](const Variables& v) {
      const Variable y =
          bias_activation(Unary::gelu, linear(v[0], v[1]), with_bias ? v[2] : Variable());
      return Variables{linear(y, v[3])};
    };
    const std::vector<Tensor> inputs{x, w, bias, down};
    const Result a = run(MatmulPrecision::bf16, fused, inputs, g),
                 b = run(MatmulPrecision::bf16, parts, inputs, g);
    EXPECT_LT(error(a.value, b.value), 1e-4);
    for (size_t i = 0; i < inputs.size(); ++i)
      if (b.grads[i]) {
        EXPECT_LT(error(a.grads[i], b.grads[i]), 1e-4) << i;
      }
  }
}

TEST(Precision, TheClassifierRoundsItsThreeProducts) {
  const Tensor h = f32({40, 32}, 1), w = f32({65, 32}, 2);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 40; ++i) ids.push_back(i % 7 == 0 ? -1 : i);
  const Tensor targets = Tensor::from<int32_t>({40}, ids), one = Tensor::full({1}, 1, DType::f32);
  const MultiFunction loss = [=](const Variables& v) {
    return Variables{linear_cross_entropy(v[0], v[1], targets, 1.0 / 34, 0)};
  };
  const Result low = run(MatmulPrecision::bf16, loss, {h, w}, one),
               wanted = run(MatmulPrecision::full, loss, {rounded(h), rounded(w)}, one);
  EXPECT_LT(error(low.value, wanted.value), 1e-5);
  // Probabilities less one-hots are rounded before they are multiplied.
  EXPECT_LT(error(low.grads[0], wanted.grads[0]), 2 * kHalfUlp);
  EXPECT_LT(error(low.grads[1], wanted.grads[1]), 2 * kHalfUlp);
  EXPECT_GT(error(low.grads[1], wanted.grads[1]), 1e-6);
}

// Rounded are the weights (2^-9 each at most) and the gradients of scores, which also differ by
// what the rounded output does to them: single units in all, on average. f64 is never rounded.
// Element by element, tests/kernels/test_attention_bf16.cpp compares with a reference that rounds
// alike.
TEST(Precision, AttentionRoundsTheOperandsOfItsProducts) {
  const AttentionSpec spec{4, 2, 0, 0, 0, 0, 0};
  const MultiFunction packed = [=](const Variables& v) {
    return Variables{packed_attention(v[0], spec)};
  };
  const MultiFunction apart = [=](const Variables& v) {
    return Variables{attention(v[0], v[1], v[2], spec)};
  };
  const std::vector<Tensor> one{f32({2, 70, 8 * 16}, 1)},
      three{f32({2, 70, 64}, 2), f32({2, 70, 32}, 3), f32({2, 70, 32}, 4)};
  const Tensor g = rounded(f32({2, 70, 64}, 5));
  for (const auto& [f, inputs] : {std::pair{packed, one}, std::pair{apart, three}}) {
    std::vector<Tensor> narrow, wide;
    for (const Tensor& t : inputs) {
      narrow.push_back(rounded(t));
      wide.push_back(t.to(DType::f64));
    }
    const Result low = run(MatmulPrecision::bf16, f, inputs, g),
                 full = run(MatmulPrecision::full, f, narrow, g);
    EXPECT_EQ(low.value.dtype(), DType::f32);
    EXPECT_LT(mean_error(low.value, full.value), kHalfUlp);
    EXPECT_GT(mean_error(low.value, full.value), 1e-5);
    for (size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_LT(mean_error(low.grads[i], full.grads[i]), kHalfUlp) << i;
      EXPECT_GT(mean_error(low.grads[i], full.grads[i]), 1e-5) << i;
    }
    const Tensor g64 = g.to(DType::f64);
    EXPECT_TRUE(bit_identical(run(MatmulPrecision::bf16, f, wide, g64).value,
                              run(MatmulPrecision::full, f, wide, g64).value));
  }
}

}  // namespace
}  // namespace reverie::testing
