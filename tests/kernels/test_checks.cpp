// Arguments that a row must refuse, and the words in which it does: one fault at a time in
// otherwise good arguments.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/attention.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"

namespace reverie {
namespace {

using testing::HasSubstr;

Tensor f32(const Shape& s) {
  return Tensor::zeros(s, DType::f32);
}
Tensor f64(const Shape& s) {
  return Tensor::zeros(s, DType::f64);
}
Tensor none() {
  return {};
}
Tensor i32(std::initializer_list<int32_t> values) {
  return Tensor::from<int32_t>({int64_t(values.size())}, values);
}

template <class Args>
void refuses(const Args& args, const std::string& words) {
  try {
    check(args);
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), HasSubstr(words));
    return;
  }
  ADD_FAILURE() << "was accepted; wanted: " << words;
}

TEST(Checks, Elementwise) {
  Tensor x = f32({3, 4}), y = f32({3, 4}), wrong = f64({3, 4}), short_ = f32({3, 3}),
         bias = f32({4}), turned = f32({4, 3}).transpose(0, 1);
  Tensor undefined = none(), integers = i32({1, 2});
  EXPECT_NO_THROW(check(UnaryForward{Unary::exp, x, y}));
  refuses(UnaryForward{Unary::exp, undefined, y}, "unary_forward: x is undefined");
  refuses(UnaryForward{Unary::exp, x, undefined}, "unary_forward: y is undefined");
  refuses(UnaryForward{Unary::exp, x, wrong},
          "unary_forward: y is f64[3, 4] cpu but x is f32[3, 4] cpu; wanted one dtype");
  refuses(UnaryForward{Unary::exp, x, short_}, "wanted 12 elements");
  refuses(UnaryForward{Unary::exp, turned, y}, "must be contiguous");
  refuses(UnaryForward{Unary::exp, integers, integers}, "wanted f32 or f64");
  refuses(UnaryBackward{Unary::exp, x, short_, y}, "grad_y");
  EXPECT_NO_THROW(check(BinaryForward{Binary::add, x, bias, y, 3, 1}));
  refuses(BinaryForward{Binary::add, x, bias, y, 1, 1}, "binary_forward: b is");
  refuses(BinaryForward{Binary::add, x, bias, y, 0, 1}, "outer 0");
  refuses(BinaryForward{Binary::add, x, f32({5}), y, 2, 1}, "binary_forward");
  refuses(Affine{x, 1, 0, wrong}, "affine: y");
  refuses(Accumulate{x, 1, short_}, "accumulate: y");
  refuses(BiasActivationForward{Unary::gelu, x, f32({3}), y}, "bias_activation_forward: bias");
  refuses(BiasActivationForward{Unary::gelu, x, bias, y, &short_}, "slope");
  refuses(BiasActivationBackward{x, y, short_}, "grad_x");
  refuses(GatedForward{Unary::silu, x, short_, y}, "gated_forward: up");
  refuses(GatedBackward{Unary::silu, x, x, x, y, short_}, "grad_up");
  refuses(Dropout{x, 1.0, 1, 0, y}, "p is 1; wanted 0 <= p < 1");
  refuses(Dropout{x, -0.1, 1, 0, y}, "p is -0.1");
}

TEST(Checks, Reductions) {
  Tensor x = f32({2, 3, 4}), y = f32({2, 4}), z = f32({2, 3, 4}), initial = f32({2, 4}), none_,
         result = f64({1}), small = f32({1});
  EXPECT_NO_THROW(check(SumForward{x, 2, 3, 4, 1, false, y}));
  refuses(SumForward{x, 2, 2, 4, 1, false, y}, "sum_forward: x");
  refuses(SumForward{x, 2, 3, 4, 1, false, z}, "sum_forward: y");
  refuses(Repeat{y, 2, 3, 5, 1, z}, "repeat: grad_y");
  refuses(CumulativeSum{x, 2, 3, 4, true, initial, z}, "reverse");
  refuses(CumulativeSum{x, 2, 3, 4, false, x, z}, "initial");
  refuses(SumSquares{x, small}, "wanted f64[1]");
  EXPECT_NO_THROW(check(SumSquares{x, result}));
}

TEST(Checks, SoftmaxAndLoss) {
  Tensor x = f32({2, 3}), y = f32({2, 3}), loss = f32({2}), sums = f32({2}), none_,
         narrow = f32({3});
  refuses(SoftmaxForward{x, 1, i32({1, 2, 3}), y}, "valid");
  refuses(SoftmaxForward{x, 1, f32({2}), y}, "wanted i32");
  refuses(SoftmaxBackward{x, narrow, 1, y}, "grad_y");
  EXPECT_NO_THROW(check(CrossEntropyForward{x, i32({-1, 2}), loss, sums}));
  refuses(CrossEntropyForward{x, i32({0, 3}), loss, sums},
          "targets[1] is 3; wanted -1 <= index < 3");
  refuses(CrossEntropyForward{x, i32({-2, 0}), loss, sums}, "targets[0] is -2");
  refuses(CrossEntropyBackward{x, i32({0, 0}), sums, narrow, y}, "grad_loss");
}

TEST(Checks, Norms) {
  Tensor x = f32({2, 3}), w = f32({3}), y = f32({2, 3}), rows = f32({2}), sum = f32({2, 3}),
         undefined = none();
  EXPECT_NO_THROW(check(
      NormForward{Norm::rms, x, undefined, w, undefined, 1e-5, undefined, y, undefined, rows}));
  refuses(NormForward{Norm::layer, x, undefined, w, undefined, 1e-5, undefined, y, undefined, rows},
          "mean is undefined");
  refuses(NormForward{Norm::rms, x, x, w, undefined, 1e-5, undefined, y, undefined, rows},
          "sum is undefined");
  refuses(
      NormForward{Norm::rms, x, undefined, rows, undefined, 1e-5, undefined, y, undefined, rows},
      "weight");
  refuses(NormBackward{Norm::rms, x, w, undefined, rows, x, undefined, y, rows, undefined},
          "grad_weight");
  EXPECT_NO_THROW(
      check(NormBackward{Norm::rms, x, w, undefined, rows, x, undefined, undefined, w, undefined}));
}

TEST(Checks, Matmul) {
  Tensor a = f32({2, 3}), b = f32({3, 4}), c = f32({2, 4});
  EXPECT_NO_THROW(check(Matmul{a, b, 1, false, c}));
  refuses(Matmul{a, f32({4, 4}), 1, false, c}, "has 3 columns but b");
  refuses(Matmul{a, f64({3, 4}), 1, false, c}, "one dtype");
  Tensor tall = f32({3, 4}), turned = f32({4, 2}).transpose(0, 1), cube = f32({2, 2, 4});
  refuses(Matmul{a, b, 1, false, tall}, "c is");
  refuses(Matmul{a, b, 1, false, turned}, "must be row-major");
  refuses(Matmul{a, b, 1, false, cube}, "differ in rank");
  refuses(Matmul{f32({3, 2, 3}), f32({2, 3, 4}), 1, false, cube}, "batches");
  const Tensor skipping = f32({2, 3, 2}).select(2, 0);
  refuses(Matmul{skipping, b, 1, false, c}, "neither row-major nor transposed");
}

TEST(Checks, Linear) {
  const Tensor x = f32({2, 3}), weight = f32({3, 4}), bias = f32({4}), grad_y = f32({2, 4});
  Tensor y = f32({2, 4}), wide = f32({2, 6}), gapped = wide.slice(1, 0, 4), grad_bias = f32({4});
  EXPECT_NO_THROW(check(LinearForward{x, weight, bias, y}));
  refuses(LinearForward{x, f32({4, 4}), bias, y}, "has 3 columns but b");
  refuses(LinearForward{x, weight, f32({3}), y}, "linear_forward: bias is");
  refuses(LinearForward{x, weight, f64({4}), y}, "one dtype");
  refuses(LinearForward{x, weight, bias, gapped}, "linear_forward: y");
  Tensor grad_weight = f32({3, 4}), grad_x = f32({2, 3}), short_ = f32({3});
  const Tensor x_transposed = x.transpose(0, 1), weight_transposed = weight.transpose(0, 1);
  const Matmul product{x_transposed, grad_y, 1, false, grad_weight},
      input{grad_y, weight_transposed, 1, false, grad_x},
      wrong_input{grad_y, weight, 1, false, grad_x};
  EXPECT_NO_THROW(check(LinearBackward{grad_y, product, &input, false, grad_bias}));
  EXPECT_NO_THROW(check(LinearBackward{grad_y, product, nullptr, true, grad_bias}));
  refuses(LinearBackward{grad_y, product, &wrong_input, false, grad_bias}, "has 4 columns but b");
  refuses(LinearBackward{grad_y, product, nullptr, false, short_}, "linear_backward: grad_bias is");
  refuses(LinearBackward{f32({5, 4}), product, nullptr, false, grad_bias},
          "sums over 2 rows of f32[3, 2] cpu; wanted the 5 of grad_y");
}

TEST(Checks, Attention) {
  Tensor q = f32({2, 3, 4, 8}), k = f32({2, 5, 2, 8}), out = f32({2, 3, 4, 8}),
         lse = f32({2, 4, 3}), gk = f32({2, 5, 2, 8});
  EXPECT_NO_THROW(check(AttentionForward{q, k, k, {1, 2}, out, lse}));
  refuses(AttentionForward{q, k, k, {1, 3}, out, lse},
          "queries at positions 3..5 need as many keys, got 5");
  refuses(AttentionForward{q, f32({2, 5, 3, 8}), f32({2, 5, 3, 8}), {}, out, lse},
          "not a multiple");
  refuses(AttentionForward{q, k, f32({2, 4, 2, 8}), {}, out, lse}, "value");
  refuses(AttentionForward{q, k, k, {1, 0, 1.5}, out, lse}, "p is 1.5");
  refuses(AttentionForward{q.transpose(2, 3), k, k, {}, out, lse}, "the last dimension of query");
  refuses(AttentionBackward{q, k, k, out, lse, out, {}, out, gk, q}, "grad_value");
  refuses(AttentionForward{q, k, k, {1, 2, 0, 0, 0, -1}, out, lse}, "softcap is -1");
  refuses(AttentionForward{q, k, k, {1, 2, 0, 0, 0, 0, -4}, out, lse}, "window is -4");
  Tensor odd = f32({1, 2, 1, 3}), frequencies = f64({4});
  refuses(Rope{odd, i32({0, 1}), frequencies, false, odd}, "odd");
  EXPECT_NO_THROW(check(Rope{q, i32({0, 1, 2}), frequencies, false, q}));
  refuses(Rope{q, i32({0, 1, -2}), frequencies, false, q}, "positions[2] is -2");
  refuses(Rope{q, i32({0, 1, 2, 3}), frequencies, false, q}, "wanted [3] or [2, 3]");
  refuses(Rope{q, i32({0, 1, 2}).view({3, 1}), frequencies, false, q}, "wanted [3] or [2, 3]");
  refuses(Rope{q, i32({0, 1, 2}), f64({8}), false, q}, "frequencies is f64[8] cpu; wanted f64[4]");
  refuses(Rope{q, i32({0, 1, 2}), f32({4}), false, q}, "wanted f64[4]");
  refuses(Rope{q, f32({3}), frequencies, false, q}, "wanted i32");
}

TEST(Checks, GroupedAttention) {
  Tensor q = f32({2, 6, 4, 8}), k = f32({2, 6, 2, 8}), context = f32({2, 5, 2, 8}),
         out = f32({2, 6, 4, 8}), lse = f32({2, 4, 6}), undefined;
  const Tensor limits = i32({0, 1, 5, 2, 2, 3}).view({2, 3});
  const auto forward = [&](const Tensor& key, const Tensor& ck, const Tensor& cv, const Tensor& l,
                           const AttentionOptions& options = {}) {
    return GroupedAttentionForward{q, key, key, ck, cv, l, options, out, lse};
  };
  EXPECT_NO_THROW(check(forward(k, context, context, limits)));
  refuses(forward(k, context, context, i32({0, 1, 6, 2, 2, 3}).view({2, 3})),
          "limits[2] is 6; wanted 0 <= index < 6");
  refuses(forward(k, context, context, i32({0, 1, -1, 2, 2, 3}).view({2, 3})), "limits[2] is -1");
  refuses(forward(k, context, context, i32({0, 1, 1, 2, 2, 3})), "wanted [2, groups]");
  refuses(forward(k, context, context, i32({0, 1, 1, 2, 2, 3, 3, 3}).view({2, 4})),
          "where the groups share 6 queries and 6 keys evenly");
  refuses(forward(k, context, context, f32({2, 3})), "wanted i32");
  refuses(forward(f32({2, 6, 3, 8}), context, context, limits), "not a multiple");
  refuses(forward(f32({2, 5, 2, 8}), context, context, limits), "differ in batch or head_dim");
  refuses(forward(k, f32({1, 5, 2, 8}), context, limits), "context_key");
  refuses(forward(k, context, f32({2, 4, 2, 8}), limits), "context_value");
  refuses(forward(k, f64({2, 5, 2, 8}), context, limits), "one dtype");
  refuses(forward(k, context, context, limits, {1, 3}), "no first position (3)");
  refuses(forward(k, context, context, limits, {1, 0, 0.5}), "no dropout (0.5)");
  refuses(forward(k, context, context, limits, {1, 0, 0, 0, 0, 0, -1}), "window is -1");
  const auto backward = [&](Tensor& grad_key, Tensor& grad_context) {
    return GroupedAttentionBackward{q,   k,  k,   context,  context, limits,       out,    lse,
                                    out, {}, out, grad_key, k,       grad_context, context};
  };
  EXPECT_NO_THROW(check(backward(k, context)));
  EXPECT_NO_THROW(check(backward(undefined, undefined)));
  refuses(backward(context, context), "grad_key");
  refuses(backward(k, k), "grad_context_key");
}

TEST(Checks, Embeddings) {
  Tensor table = f32({5, 2}), y = f32({3, 2}), undefined = none(), positions = f32({4, 2});
  EXPECT_NO_THROW(check(EmbeddingForward{i32({0, 4, 2}), table, positions, 0, 4, y}));
  refuses(EmbeddingForward{i32({0, 5, 2}), table, undefined, 0, 1, y},
          "indices[1] is 5; wanted 0 <= index < 5");
  refuses(EmbeddingForward{i32({0, -1, 2}), table, undefined, 0, 1, y}, "indices[1] is -1");
  refuses(EmbeddingForward{i32({0, 1, 2}), table, positions, 2, 3, y},
          "positions 2..4 are outside the table of 4");
  refuses(EmbeddingBackward{i32({0, 1}), y, 0, 1, table, undefined}, "indices");
  refuses(EmbeddingBackward{i32({0, 1, 7}), y, 0, 1, table, undefined}, "indices[2] is 7");
  refuses(EmbeddingBackward{i32({0, 1, 2}), y, 0, 9, undefined, positions}, "outside the table");
}

TEST(Checks, OptimizerAndCopy) {
  Tensor p = f32({4}), short_ = f32({3}), turned = f32({2, 3}), wrong = f64({4});
  refuses(AdamW{p, p, p, short_, 1, 0.9, 0.9, 1e-8, 0, 1, 1}, "adamw: v");
  refuses(AdamW{p, p, p, p, 1, 0.9, 0.9, 1e-8, 0, 0, 1}, "step 0");
  refuses(StridedCopy{p, false, short_}, "strided_copy: y");
  refuses(StridedCopy{p, false, wrong}, "one dtype");
  Tensor integers = i32({1, 2});
  refuses(StridedCopy{integers, true, integers}, "wanted f32 or f64");
  EXPECT_NO_THROW(check(StridedCopy{integers, false, integers}));
}

}  // namespace
}  // namespace reverie
