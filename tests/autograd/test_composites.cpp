// Each fused op against plain ones or plain loops: values and gradients in double; and f32 against
// f64.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops/attention.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

double difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape().str(), b.shape().str());
  const auto x = a.to_vector(), y = b.to_vector();
  double worst = 0, largest = 1;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = std::abs(x[i] - y[i]);
    worst = std::max(worst, std::isnan(d) ? INFINITY : d);
    largest = std::max(largest, std::abs(y[i]));
  }
  return worst / largest;
}

struct Outcome {
  std::vector<Tensor> values, grads;
};
Outcome outcome(const MultiFunction& f, const std::vector<Tensor>& inputs) {
  Variables v;
  for (const Tensor& t : inputs) v.emplace_back(t.clone(), true);
  const Variables outputs = f(v);
  Outcome o;
  std::vector<Tensor> cotangents;
  for (const Variable& y : outputs) {
    o.values.push_back(y.tensor());
    cotangents.push_back(normal(y.shape(), 70 + cotangents.size()).to(y.dtype()));
  }
  backward(outputs, cotangents);
  for (const Variable& x : v) o.grads.push_back(x.grad());
  return o;
}
void expect_close(const Outcome& a, const Outcome& b, double tolerance) {
  ASSERT_EQ(a.values.size(), b.values.size());
  for (size_t i = 0; i < a.values.size(); ++i)
    EXPECT_LE(difference(a.values[i], b.values[i]), tolerance) << "output " << i;
  for (size_t i = 0; i < a.grads.size(); ++i)
    EXPECT_LE(difference(a.grads[i], b.grads[i]), tolerance) << "gradient of input " << i;
}
void expect_same(const MultiFunction& fused, const MultiFunction& composite,
                 const std::vector<Tensor>& inputs) {
  expect_close(outcome(fused, inputs), outcome(composite, inputs), 1e-12);
}

TEST(Composite, BiasActivationAndGated) {
  for (Unary f : {Unary::gelu, Unary::gelu_tanh, Unary::silu, Unary::relu}) {
    expect_same([=](const Variables& v) { return Variables{bias_activation(f, v[0], v[1])}; },
                [=](const Variables& v) { return Variables{unary(f, add(v[0], v[1]))}; },
                {normal({2, 3, 7}), normal({7}, 2)});
    expect_same([=](const Variables& v) { return Variables{gated(f, v[0], v[1])}; },
                [=](const Variables& v) { return Variables{multiply(unary(f, v[0]), v[1])}; },
                {normal({2, 3, 7}), normal({2, 3, 7}, 2)});
  }
}

TEST(Composite, Linear) {
  for (bool out_in : {true, false}) {
    const WeightLayout layout = out_in ? WeightLayout::out_in : WeightLayout::in_out;
    expect_same([=](const Variables& v) { return Variables{linear(v[0], v[1], v[2], layout)}; },
                [=](const Variables& v) {
                  return Variables{add(matmul(v[0], out_in ? transpose(v[1], 0, 1) : v[1]), v[2])};
                },
                {normal({2, 3, 4}), normal(out_in ? Shape{5, 4} : Shape{4, 5}, 2), normal({5}, 3)});
  }
}

TEST(Composite, MatmulTransposesAndShares) {
  const Tensor a = normal({2, 4, 3}), b = normal({2, 5, 4}, 2);
  expect_same([](const Variables& v) { return Variables{matmul(v[0], v[1], true, true, 0.5)}; },
              [](const Variables& v) {
                return Variables{scale(matmul(transpose(v[0], 1, 2), transpose(v[1], 1, 2)), 0.5)};
              },
              {a, b});
  // Against plain loops, once.
  const Tensor c = matmul(Variable(a), Variable(b), true, true).tensor();
  const auto x = a.to_vector(), y = b.to_vector(), z = c.to_vector();
  for (size_t n = 0; n < 2; ++n)
    for (size_t i = 0; i < 3; ++i)
      for (size_t j = 0; j < 5; ++j) {
        double sum = 0;
        for (size_t k = 0; k < 4; ++k) sum += x[n * 12 + k * 3 + i] * y[n * 20 + j * 4 + k];
        EXPECT_NEAR(z[n * 15 + i * 5 + j], sum, 1e-12);
      }
  expect_same([](const Variables& v) { return Variables{matmul(v[0], v[1])}; },
              [](const Variables& v) {
                return Variables{
                    matmul(v[0], concat({reshape(v[1], {1, 3, 5}), reshape(v[1], {1, 3, 5})}, 0))};
              },
              {normal({2, 4, 3}), normal({3, 5}, 2)});
}

// 1 / sqrt(x), of positive x [.., 1], from ops that exist: exp(-0.5 log x) needs a log; Newton's
// iteration does not.
Variable inverse_root(const Variable& x) {
  Variable y = affine(x, 0, 0.5);
  for (int i = 0; i < 60; ++i) y = multiply(y, affine(multiply(multiply(y, y), x), -0.5, 1.5));
  return y;
}
Variable plain_norm(Norm kind, const Variable& x, const Variable& weight, const Variable& bias,
                    double eps) {
  const Shape column{x.size(0), 1};
  const Variable centred = kind == Norm::layer ? subtract(x, reshape(mean(x, -1), column)) : x;
  const Variable spread = reshape(mean(multiply(centred, centred), -1), column);
  Variable y = multiply(centred, inverse_root(affine(spread, 1, eps)));
  if (weight) y = multiply(y, weight);
  return bias ? add(y, bias) : y;
}
TEST(Composite, Norms) {
  const std::vector<Tensor> inputs = {normal({5, 9}), normal({9}, 2), normal({9}, 3)};
  expect_same(
      [](const Variables& v) { return Variables{layer_norm(v[0], v[1], v[2], 1e-3)}; },
      [](const Variables& v) { return Variables{plain_norm(Norm::layer, v[0], v[1], v[2], 1e-3)}; },
      inputs);
  expect_same(
      [](const Variables& v) { return Variables{rms_norm(v[0], v[1], 1e-3)}; },
      [](const Variables& v) { return Variables{plain_norm(Norm::rms, v[0], v[1], {}, 1e-3)}; },
      {inputs[0], inputs[1]});
  for (Norm kind : {Norm::layer, Norm::rms}) {
    expect_same(
        [=](const Variables& v) {
          const ResidualNorm r = residual_norm(kind, v[0], v[1], v[2], {}, 1e-3);
          return Variables{r.sum, r.normed};
        },
        [=](const Variables& v) {
          const Variable sum = add(v[0], v[1]);
          return Variables{sum, plain_norm(kind, sum, v[2], {}, 1e-3)};
        },
        {inputs[0], normal({5, 9}, 4), inputs[1]});
  }
}

// query [B, Tq, H * D], key and value [B, Tk, Hkv * D], one head at a time.
Variable plain_attention(const Variable& query, const Variable& key, const Variable& value,
                         const AttentionSpec& spec) {
  const int64_t dim = query.size(2) / spec.heads, queries = query.size(1);
  const int64_t keys = key.size(1);
  Tensor mask = Tensor::zeros({queries, keys}, DType::f64);
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t behind = spec.first_position + i - j;
      if (behind < 0 || (spec.window > 0 && behind >= spec.window))
        mask.mutable_data<double>()[i * keys + j] = -1e30;
    }
  Variables heads;
  for (int64_t h = 0; h < spec.heads; ++h) {
    const int64_t kv = h / (spec.heads / spec.kv_heads);
    Variable scores =
        matmul(slice(query, 2, h * dim, (h + 1) * dim), slice(key, 2, kv * dim, (kv + 1) * dim),
               false, true, spec.scale != 0 ? spec.scale : 1 / std::sqrt(double(dim)));
    if (spec.softcap > 0)
      scores = scale(unary(Unary::tanh, scale(scores, 1 / spec.softcap)), spec.softcap);
    const Variable weights = softmax(add(scores, Variable(mask)));
    heads.push_back(matmul(weights, slice(value, 2, kv * dim, (kv + 1) * dim)));
  }
  return concat(heads, 2);
}
TEST(Composite, Attention) {
  for (const auto& [heads, kv_heads] :
       {std::pair{1, 1}, std::pair{4, 4}, std::pair{4, 2}, std::pair{6, 1}}) {
    for (int64_t time : {1, 7, 33, 130}) {
      AttentionSpec spec;
      spec.heads = heads;
      spec.kv_heads = kv_heads;
      const int64_t dim = 6, q = heads * dim, k = kv_heads * dim;
      expect_same([=](const Variables& v) { return Variables{packed_attention(v[0], spec)}; },
                  [=](const Variables& v) {
                    return Variables{plain_attention(slice(v[0], 2, 0, q), slice(v[0], 2, q, q + k),
                                                     slice(v[0], 2, q + k, q + 2 * k), spec)};
                  },
                  {normal({2, time, q + 2 * k})});
      AttentionSpec later = spec;
      later.first_position = 5;
      later.scale = 0.2;
      expect_same(
          [=](const Variables& v) { return Variables{attention(v[0], v[1], v[2], later)}; },
          [=](const Variables& v) { return Variables{plain_attention(v[0], v[1], v[2], later)}; },
          {normal({2, time, q}), normal({2, time + 8, k}, 2), normal({2, time + 8, k}, 3)});
      later.softcap = 0.8;
      later.window = 6;
      expect_same(
          [=](const Variables& v) { return Variables{attention(v[0], v[1], v[2], later)}; },
          [=](const Variables& v) { return Variables{plain_attention(v[0], v[1], v[2], later)}; },
          {normal({2, time, q}), normal({2, time + 8, k}, 2), normal({2, time + 8, k}, 3)});
    }
  }
}

TEST(Composite, AttentionDropoutDropsTheShareItShould) {
  // With value = ones, an output is the sum of the kept, rescaled probabilities: 1 on average, and
  // not always.
  AttentionSpec spec;
  spec.dropout = 0.3;
  default_generator() = Generator(3);
  const Variable q{normal({4, 64, 4})}, k{normal({4, 64, 4}, 2)},
      ones{Tensor::full({4, 64, 4}, 1, DType::f64)};
  const auto y = attention(q, k, ones, spec).tensor().to_vector();
  double total = 0, spread = 0;
  for (double v : y) total += v, spread += (v - 1) * (v - 1);
  EXPECT_NEAR(total / double(y.size()), 1, 0.05);
  EXPECT_GT(spread / double(y.size()), 1e-3);
}

TEST(Composite, Rope) {
  const int64_t heads = 3, dim = 4, time = 5, first = 7;
  const Tensor x = normal({2, time, heads * dim});
  const auto in = x.to_vector(), out = rope(Variable(x), heads, 100, first).tensor().to_vector();
  for (size_t row = 0; row < 2 * time * heads; ++row) {
    const double position = double(first + int64_t(row) / heads % time);
    for (size_t d = 0; d < dim / 2; ++d) {
      const double angle = position * std::pow(100, -2 * double(d) / dim);
      const double a = in[row * dim + d], b = in[row * dim + d + dim / 2];
      EXPECT_NEAR(out[row * dim + d], a * std::cos(angle) - b * std::sin(angle), 1e-12);
      EXPECT_NEAR(out[row * dim + d + dim / 2], b * std::cos(angle) + a * std::sin(angle), 1e-12);
    }
  }
}

TEST(Composite, Embedding) {
  const Tensor tokens = Tensor::from<int32_t>({2, 3}, {1, 0, 1, 3, 1, 2});
  const Tensor table = normal({4, 5}), positions = normal({6, 5}, 2);
  const auto y = embedding(tokens, Variable(table), Variable(positions), 2).tensor().to_vector();
  const auto t = table.to_vector(), p = positions.to_vector();
  const int32_t* token = tokens.data<int32_t>();
  for (size_t i = 0; i < 6; ++i)
    for (size_t c = 0; c < 5; ++c)
      EXPECT_DOUBLE_EQ(y[i * 5 + c], t[size_t(token[i]) * 5 + c] + p[(2 + i % 3) * 5 + c]);
  EXPECT_THROW(embedding(tokens, Variable(table), Variable(positions), 4), UserError)
      << "positions run out";
  EXPECT_THROW(embedding(tokens, Variable(normal({3, 5}))), UserError) << "token 3 of 3";
  EXPECT_THROW(embedding(table, Variable(table)), UserError) << "tokens are i32";
}

TEST(Composite, CrossEntropy) {
  const Tensor logits = normal({2, 3, 5}),
               targets = Tensor::from<int32_t>({2, 3}, {4, -1, 0, 2, 2, -1});
  const auto z = logits.to_vector(),
             loss = cross_entropy(Variable(logits), targets).tensor().to_vector();
  for (size_t row = 0; row < 6; ++row) {
    double total = 0;
    for (size_t c = 0; c < 5; ++c) total += std::exp(z[row * 5 + c]);
    const int32_t t = targets.data<int32_t>()[row];
    EXPECT_NEAR(loss[row], t < 0 ? 0 : std::log(total) - z[row * 5 + size_t(t)], 1e-12);
  }
  EXPECT_THROW(cross_entropy(Variable(logits), Tensor::from<int32_t>({2, 3}, {5, 0, 0, 0, 0, 0})),
               UserError);
  EXPECT_THROW(cross_entropy(Variable(logits), Tensor::from<int32_t>({3}, {0, 0, 0})), UserError);
}

TEST(Composite, LinearCrossEntropyInAnyNumberOfChunks) {
  // f64: 16 MiB of logits are 2,097,152 elements, and a chunk has at least 64 rows.
  for (const auto& [rows, vocabulary] :
       {std::pair<int64_t, int64_t>{6, 5}, {64, 40000}, {65, 40000}, {150, 40000}}) {
    Tensor targets = Tensor::empty({rows}, DType::i32);
    for (int64_t i = 0; i < rows; ++i)
      targets.mutable_data<int32_t>()[i] = int32_t(i % 7 == 3 ? -1 : (i * 271) % vocabulary);
    const double weight = 1.0 / double(rows);
    for (const double cap : {0.0, 1.3})
      expect_same(
          [=](const Variables& v) {
            return Variables{linear_cross_entropy(v[0], v[1], targets, weight, cap)};
          },
          [=](const Variables& v) {
            const Variable logits = softcap(linear(v[0], v[1]), cap);
            return Variables{scale(sum_all(cross_entropy(logits, targets)), weight)};
          },
          {normal({rows, 3}), normal({vocabulary, 3}, 2)});
  }
  EXPECT_THROW(linear_cross_entropy(Variable(normal({1, 2})), Variable(normal({3, 2})),
                                    Tensor::from<int32_t>({1}, {0}), 1, -1),
               UserError);
}

TEST(Composite, LinearCrossEntropyUnderNoGradIsTheSameNumber) {
  const Tensor targets = Tensor::from<int32_t>({4}, {0, 1, 2, -1});
  const Variable h{normal({4, 3}), true}, w{normal({5, 3}, 2), true};
  const Tensor recorded = linear_cross_entropy(h, w, targets, 0.25).tensor();
  const NoGrad guard;
  EXPECT_TRUE(bit_identical(linear_cross_entropy(h, w, targets, 0.25).tensor(), recorded));
}

TEST(Composite, SumsAndShapes) {
  const Tensor x = normal({2, 3, 4});
  expect_same(
      [](const Variables& v) { return Variables{sum(v[0], 1)}; },
      [](const Variables& v) {
        return Variables{reshape(
            add(add(slice(v[0], 1, 0, 1), slice(v[0], 1, 1, 2)), slice(v[0], 1, 2, 3)), {2, 4})};
      },
      {x});
  expect_same(
      [](const Variables& v) {
        return Variables{mean(v[0], -1), sum_all(v[0])};
      },
      [](const Variables& v) {
        return Variables{scale(sum(v[0], 2), 0.25), reshape(sum(reshape(v[0], {24}), 0), {1})};
      },
      {x});
  expect_same([](const Variables& v) { return Variables{expand(v[0], 1, 3)}; },
              [](const Variables& v) {
                return Variables{concat({v[0], v[0], v[0]}, 1)};
              },
              {normal({2, 1, 4})});
  expect_same([](const Variables& v) { return Variables{cumulative_sum(v[0], 1, v[1])}; },
              [](const Variables& v) {
                const Variable first = add(reshape(v[1], {2, 1, 4}), slice(v[0], 1, 0, 1));
                const Variable second = add(first, slice(v[0], 1, 1, 2));
                return Variables{concat({first, second, add(second, slice(v[0], 1, 2, 3))}, 1)};
              },
              {x, normal({2, 4}, 2)});
}

TEST(Composite, WrongShapesSayWhatWasWanted) {
  const Variable a{normal({2, 3, 4})};
  EXPECT_THROW(add(a, Variable(normal({2, 1, 4}))), UserError)
      << "a gap between the sizes that repeat";
  EXPECT_THROW(add(a, Variable(normal({2}))), UserError);
  EXPECT_THROW(add(Variable(normal({4})), a), UserError);
  EXPECT_THROW(add(a, Variable(normal({4}, 1, DType::f32))), UserError);
  EXPECT_THROW(bias_activation(Unary::gelu, a, Variable(normal({1, 4}))), UserError);
  EXPECT_THROW(gated(Unary::silu, a, Variable(normal({2, 4, 3}))), UserError);
  EXPECT_THROW(linear(a, Variable(normal({5, 3}))), UserError);
  EXPECT_THROW(linear(a, Variable(normal({5, 4})), Variable(normal({4}))), UserError);
  EXPECT_THROW(matmul(a, Variable(normal({3, 4, 5}))), UserError);
  EXPECT_THROW(layer_norm(a, Variable(normal({3})), {}, 1e-5), UserError);
  EXPECT_THROW(dropout(a, 1), UserError);
  EXPECT_THROW(slice(a, 1, 2, 4), UserError);
  EXPECT_THROW(concat({a, Variable(normal({2, 3, 5}))}, 1), UserError);
  EXPECT_THROW(concat({}, 0), UserError);
  EXPECT_THROW(expand(a, 1, 2), UserError);
  EXPECT_THROW(sum(a, 3), UserError);
  EXPECT_THROW(reshape(a, {5, -1}), UserError);
  for (const auto& [heads, kv] :
       {std::pair{0, 1}, std::pair{1, 0}, std::pair{3, 2}, std::pair{-1, 1}}) {
    AttentionSpec spec;
    spec.heads = heads;
    spec.kv_heads = kv;
    EXPECT_THROW(packed_attention(a, spec), UserError);
    EXPECT_THROW(attention(a, a, a, spec), UserError);
  }
  EXPECT_THROW(rope(a, 0, 10000, 0), UserError);
  EXPECT_THROW(rope(a, 4, 10000, 0), UserError) << "one number a head has no pair";
  EXPECT_THROW(rope(a, 2, 10000, -1), UserError);
  EXPECT_THROW(rope(a, 2, 0, 0), UserError);
  EXPECT_THROW(rope(a, 2, 10000, (int64_t(1) << 31) - 2), UserError);
}

// A block of attention, two linear layers and a loss: f32 stays close to f64.
TEST(Precision, F32IsCloseToF64) {
  const Tensor targets = Tensor::from<int32_t>({2, 5}, {1, 2, 3, 4, 5, 6, -1, 0, 1, 2});
  const MultiFunction model = [=](const Variables& v) {
    AttentionSpec spec;
    spec.heads = 4;
    spec.kv_heads = 2;
    const Variable y = packed_attention(linear(layer_norm(v[0], v[1], v[2], 1e-5), v[3]), spec);
    const Variable h = add(v[0], linear(y, v[4]));
    const Variable m =
        linear(bias_activation(Unary::gelu, linear(rms_norm(h, v[1], 1e-5), v[5]), v[6]), v[5], {},
               WeightLayout::in_out);
    return Variables{linear_cross_entropy(add(h, m), v[7], targets, 0.1)};
  };
  std::vector<Tensor> inputs;
  for (const Shape& s : {Shape{2, 5, 16}, Shape{16}, Shape{16}, Shape{32, 16}, Shape{16, 16},
                         Shape{64, 16}, Shape{64}, Shape{9, 16}}) {
    Generator random(30 + inputs.size());
    inputs.push_back(random.normal(s, 0, s.rank() == 2 ? 0.25 : 1, DType::f64));
  }
  std::vector<Tensor> singles;
  for (Tensor& t : inputs) {
    singles.push_back(t.to(DType::f32));
    t = singles.back().to(DType::f64);  // both start from the same numbers
  }
  expect_close(outcome(model, singles), outcome(model, inputs), 1e-5);
}

}  // namespace
}  // namespace reverie::testing
