// The tape and the walk back over it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <optional>
#include <thread>

#include "autograd/op.h"
#include "autograd/ops/attention.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "autograd/ops/tensors.h"
#include "autograd/rematerialize.h"
#include "autograd/unsaved_graph.h"
#include "core/error.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor vector(std::initializer_list<double> values) {
  return Tensor::from<double>({int64_t(values.size())}, values);
}
Variable leaf(std::initializer_list<double> values) {
  return Variable(vector(values), true);
}
std::vector<double> grad(const Variable& v) {
  return v.grad().to_vector();
}

// No test leaves a graph behind.
class Engine : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(live_nodes(), 0); }
  void TearDown() override { EXPECT_EQ(live_nodes(), 0); }
};

// ---- accumulation ---------------------------------------------------------------
TEST_F(Engine, GradientsAccumulateOverBackwardCallsUntilCleared) {
  Variable x = leaf({1, 2});
  EXPECT_FALSE(x.grad().defined());
  backward(sum_all(scale(x, 3)));
  EXPECT_THAT(grad(x), ElementsAre(3, 3));
  backward(sum_all(multiply(x, x)));
  EXPECT_THAT(grad(x), ElementsAre(5, 7));
  x.clear_grad();
  EXPECT_FALSE(x.grad().defined());
  backward(sum_all(x));
  EXPECT_THAT(grad(x), ElementsAre(1, 1));
}

TEST_F(Engine, SharedLeavesAndDiamondsAddUp) {
  const Variable x = leaf({2, -1}), y = leaf({3, 5});
  const Variable a = multiply(x, y), b = multiply(a, a), c = add(a, b);  // xy + (xy)^2
  backward(sum_all(add(c, x)));
  EXPECT_THAT(grad(x), ElementsAre(3 + 2 * 6 * 3 + 1, 5 - 2 * 5 * 5 + 1));
  EXPECT_THAT(grad(y), ElementsAre(2 + 2 * 6 * 2, -1 + 2 * 5));
}

TEST_F(Engine, LeavesNeverShareAGradient) {
  const Variable a = leaf({1, 2}), b = leaf({3, 4});
  const Variable sum = add(a, b);  // its backward hands the same tensor to both
  const Tensor cotangent = vector({1, 1});
  backward({&sum, 1}, {&cotangent, 1});
  EXPECT_FALSE(a.grad().shares_storage_with(b.grad()));
  EXPECT_FALSE(a.grad().shares_storage_with(cotangent));
  const Tensor snapshot = a.grad();
  const Variable again = add(a, b);
  backward({&again, 1}, {&cotangent, 1});
  EXPECT_THAT(grad(a), ElementsAre(2, 2));
  EXPECT_THAT(snapshot.to_vector(), ElementsAre(1, 1))
      << "a gradient that somebody holds is not written";
  EXPECT_THAT(cotangent.to_vector(), ElementsAre(1, 1));
}

TEST_F(Engine, ASliceOfABiggerGradientIsCopied) {
  const Variable a = leaf({1}), b = leaf({2, 3});
  backward(sum_all(concat({a, b}, 0)));
  EXPECT_EQ(a.grad().storage()->bytes(), a.grad().bytes())
      << "a small gradient must not keep a large buffer alive";
}

TEST_F(Engine, SeveralOutputsWithCotangents) {
  const Variable x = leaf({1, 2}), y = scale(x, 2), z = multiply(x, x), unused = scale(x, 100);
  const Variable constant{vector({1, 1})};
  const Variable outputs[] = {y, z, y, unused, constant, x};
  const Tensor cotangents[] = {vector({1, 0}), vector({0, 1}), vector({10, 0}),
                               Tensor(),       vector({1, 1}), vector({0.5, 0})};
  backward(outputs, cotangents);
  EXPECT_THAT(grad(x), ElementsAre(22.5, 4));
}

TEST_F(Engine, MultiOutputOpsWithOneOutputUnused) {
  const Variable x{normal({2, 3}, 1), true}, r{normal({2, 3}, 2), true}, w{normal({3}, 3), true};
  backward(sum_all(residual_norm(Norm::rms, x, r, w, {}, 1e-5).sum));
  EXPECT_THAT(grad(x), ::testing::Each(1));
  EXPECT_FALSE(w.grad().defined());
  backward(sum_all(residual_norm(Norm::rms, x, r, w, {}, 1e-5).normed));
  EXPECT_TRUE(w.grad().defined());
}

TEST_F(Engine, ALeafCanBeTheLoss) {
  Variable x = leaf({4});
  int calls = 0;
  x.on_grad_ready([&](const Tensor&) { ++calls; });
  backward(x);
  EXPECT_THAT(grad(x), ElementsAre(1));
  EXPECT_EQ(calls, 1);
  const Variable both[] = {x, x, scale(x, 2)};
  const Tensor cotangents[] = {vector({1}), vector({2}), vector({3})};
  backward(both, cotangents);
  EXPECT_THAT(grad(x), ElementsAre(1 + 1 + 2 + 6));
  EXPECT_EQ(calls, 2) << "one call per backward, however the leaf is reached";
}

TEST_F(Engine, ScalarsOfRankZeroAreLosses) {
  const Variable x = leaf({1, 2, 3}), loss = sum(x, 0);
  EXPECT_EQ(loss.rank(), 0);
  backward(loss);
  EXPECT_THAT(grad(x), ElementsAre(1, 1, 1));
}

// ---- what is recorded -------------------------------------------------------------
TEST_F(Engine, NoGradRecordsNothing) {
  const Variable x = leaf({1, 2});
  {
    const NoGrad outer;
    { const NoGrad inner; }
    EXPECT_FALSE(grad_enabled());
    const Variable y = scale(x, 2);
    EXPECT_FALSE(y.requires_grad());
    EXPECT_TRUE(y.is_leaf());
    EXPECT_EQ(live_nodes(), 0);
  }
  EXPECT_TRUE(grad_enabled());
}

TEST_F(Engine, BackwardWorksUnderNoGradAndLeavesItOn) {
  const Variable x = leaf({1, 2});
  const Variable loss =
      sum_all(rematerialize([](const Variables& v) { return silu(v[0]); }, {scale(x, 2)}));
  const NoGrad guard;
  backward(loss);
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(grad_enabled());
}

TEST_F(Engine, DetachCutsTheGraph) {
  const Variable x = leaf({1, 2}), y = scale(x, 2).detach();
  EXPECT_FALSE(y.requires_grad());
  EXPECT_EQ(live_nodes(), 0);
  backward(sum_all(multiply(x, y)));
  EXPECT_THAT(grad(x), ElementsAre(2, 4)) << "the factor y counts as a constant";
}

TEST_F(Engine, AnUnsavedGraphIsRecordedAndKeepsNothing) {
  const Variable x = leaf({1, 2});
  for (const bool unsaved : {false, true}) {
    std::optional<UnsavedGraph> scope;
    if (unsaved) scope.emplace();
    Variable between = multiply(x, x);
    const Tensor value = between.tensor();
    const Variable loss = sum_all(multiply(between, between));
    EXPECT_EQ(loss.tensor().to_vector(), std::vector<double>{17});
    EXPECT_TRUE(loss.requires_grad());
    EXPECT_EQ(live_nodes(), 3);
    between = {};
    EXPECT_EQ(value.unique(), unsaved) << "else the product keeps its factors";
    if (!unsaved) {
      backward(loss);
      EXPECT_THAT(grad(x), ElementsAre(4, 32));
      continue;
    }
    try {
      backward(loss);
      ADD_FAILURE() << "walked a graph that kept nothing";
    } catch (const InternalError& error) {
      EXPECT_THAT(error.what(), HasSubstr("of 0: was it recorded in an UnsavedGraph?"));
    }
  }
}

TEST_F(Engine, LayersBelowTheFirstTrainableInputRecordNothing) {
  const Variable table{normal({5, 4})}, frozen{normal({4, 4})}, bias{normal({4}), true};
  const Tensor tokens = Tensor::from<int32_t>({1, 3}, {0, 4, 2});
  const Variable hidden = linear(gelu(linear(embedding(tokens, table), frozen)), frozen);
  EXPECT_EQ(live_nodes(), 0);
  const Variable out = linear(hidden, frozen, bias);
  EXPECT_EQ(live_nodes(), 1);
  backward(sum_all(out));
  EXPECT_THAT(grad(bias), ::testing::Each(3));
}

// Notes which inputs its backward was asked for.
struct Probe {
  static constexpr std::string_view name = "probe";
  std::vector<bool>* asked;
  Tensor forward(Context&, const Tensor& a, const Tensor&, const Tensor&) { return a.clone(); }
  Grads backward(Context& ctx, const Tensor& g) {
    *asked = {ctx.needs(0), ctx.needs(1), ctx.needs(2), ctx.needs(3)};
    return {g, {}, {}};
  }
};
TEST_F(Engine, NeedsSaysWhoWantsAGradient) {
  std::vector<bool> asked;
  const Variable x = leaf({1}), frozen{vector({2})};
  backward(apply_op(Probe{&asked}, scale(x, 2), frozen, Variable()));
  EXPECT_THAT(asked, ElementsAre(true, false, false, false));
}

TEST_F(Engine, FrozenWeightsKeepNoActivationsAndTrainableOnesDo) {
  const auto saved = [](bool train_x, bool train_w) {
    const Variable x{normal({3, 4}), train_x}, w{normal({5, 4}), train_w};
    const Variable y = linear(x, w);
    const Context& context = y.impl()->producer->context;
    const std::pair result{context.saved(0).defined(), context.saved(1).defined()};
    backward(sum_all(y));
    EXPECT_EQ(x.grad().defined(), train_x);
    EXPECT_EQ(w.grad().defined(), train_w);
    return result;
  };
  EXPECT_EQ(saved(true, false), (std::pair{false, true})) << "(activation, weight)";
  EXPECT_EQ(saved(false, true), (std::pair{true, false}));
  EXPECT_EQ(saved(true, true), (std::pair{true, true}));
}

TEST_F(Engine, RequiresGradIsForFloatingLeaves) {
  EXPECT_THROW(Variable(Tensor::zeros({2}, DType::i32), true), UserError);
  Variable whole(Tensor::zeros({2}, DType::i32));
  EXPECT_THROW(whole.set_requires_grad(true), UserError);
  Variable result = scale(leaf({1}), 2);
  EXPECT_THROW(result.set_requires_grad(false), UserError);
  EXPECT_THROW(result.on_grad_ready([](const Tensor&) {}), UserError);
  EXPECT_THROW(Variable().tensor(), InternalError);
}

// ---- size ---------------------------------------------------------------------------
constexpr int kDeep = 200000;
Variable chain(Variable x) {
  for (int i = 0; i < kDeep; ++i) x = affine(x, 1, 0);
  return x;
}

TEST_F(Engine, BackwardDoesNotRecurse) {
  const Variable x = leaf({1});
  backward(chain(x));
  EXPECT_THAT(grad(x), ElementsAre(1));
}
TEST_F(Engine, FreeingAnUnusedGraphDoesNotRecurse) {
  const Variable x = leaf({1});
  {
    const Variable end = chain(x);
    EXPECT_EQ(live_nodes(), kDeep);
  }
  EXPECT_EQ(live_nodes(), 0);
}

TEST_F(Engine, TheGraphIsFreedAsItIsWalked) {
  const Variable x = leaf({1});
  Variable y = scale(x, 2);
  const Variable loss = silu(silu(y));
  EXPECT_EQ(live_nodes(), 3);
  const std::weak_ptr<Node> middle = loss.impl()->producer->edges[0].node;
  backward(loss);
  EXPECT_TRUE(middle.expired());
  EXPECT_EQ(live_nodes(), 2) << "those of loss and y, which the variables keep";
  EXPECT_THROW(loss.impl()->producer->context.saved(0), InternalError) << "saved tensors are gone";
}

// ---- errors ---------------------------------------------------------------------------
// Products add into what other readers of their input have made; not into what a caller holds.
TEST_F(Engine, LayersThatShareAnInputAddUpTheirGradients) {
  const Tensor first = normal({3, 4}, 2), second = normal({3, 4}, 3), cotangent = normal({5, 3}, 4),
               of_input = normal({5, 4}, 5), kept = of_input.clone();
  const Variable x(normal({5, 4}, 1), true), h = scale(x, 2);
  const auto read_by = [&](const Tensor& weight) { return linear(h, Variable(weight)); };
  const Variable outputs[] = {read_by(first), read_by(second), h};
  const Tensor cotangents[] = {cotangent, cotangent, of_input};
  backward(outputs, cotangents);
  EXPECT_TRUE(bit_identical(of_input, kept));
  const auto weights = [](const Tensor& w, int64_t i, int64_t j) {
    return w.data<double>()[i * 4 + j];
  };
  for (int64_t r = 0; r < 5; ++r)
    for (int64_t j = 0; j < 4; ++j) {
      double wanted = of_input.data<double>()[r * 4 + j];
      for (int64_t i = 0; i < 3; ++i)
        wanted +=
            cotangent.data<double>()[r * 3 + i] * (weights(first, i, j) + weights(second, i, j));
      EXPECT_NEAR(x.grad().data<double>()[r * 4 + j], 2 * wanted, 1e-12);
    }
}

TEST_F(Engine, WhatOthersHoldIsNotReusedForGradients) {
  const Variable x(normal({2, 3, 4}, 1), true), gate = scale(x, 2), up = scale(x, 3);
  const Variable y = rope(gated(Unary::silu, gate, up), 1, 10000, 0);
  const Tensor cotangent = normal({2, 3, 4}, 2), gate_before = gate.tensor().clone(),
               up_before = up.tensor().clone(), cotangent_before = cotangent.clone();
  backward({&y, 1}, {&cotangent, 1});
  EXPECT_TRUE(bit_identical(gate.tensor(), gate_before));
  EXPECT_TRUE(bit_identical(up.tensor(), up_before));
  EXPECT_TRUE(bit_identical(cotangent, cotangent_before));
}

TEST_F(Engine, ASavedTensorThatWasWrittenIsFound) {
  Tensor w = vector({2, 3});
  const Variable weight{w, true};
  const Variable x = leaf({1, 1});
  const Variable y = scale(x, 2);  // saves nothing
  const Variable loss = sum_all(multiply(y, weight));
  w.mutable_data<double>()[0] = 7;
  try {
    backward(loss);
    FAIL() << "the write went unnoticed";
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), HasSubstr("binary"));
    EXPECT_THAT(e.what(), HasSubstr("has been written since"));
  }
  EXPECT_EQ(live_nodes(), 2) << "those that y and loss keep, and neither holds the one between";
}

TEST_F(Engine, TokensAndTargetsAreSavedTensorsToo) {
  Tensor tokens = Tensor::from<int32_t>({1, 2}, {0, 1});
  const Variable table{normal({3, 4}), true};
  const Variable looked_up = sum_all(embedding(tokens, table));
  const Variable loss = sum_all(cross_entropy(Variable(normal({1, 2, 3}), true), tokens));
  tokens.mutable_data<int32_t>()[0] = 2;
  EXPECT_THROW(backward(looked_up), UserError);
  EXPECT_THROW(backward(loss), UserError);
}

TEST_F(Engine, BackwardTwiceIsAnError) {
  const Variable x = leaf({1, 2}), trunk = scale(x, 2), loss = sum_all(trunk),
                 other = sum_all(silu(trunk));
  backward(loss);
  EXPECT_THROW(backward(loss), InternalError);
  EXPECT_THAT(grad(x), ElementsAre(2, 2));
  // The second head's own nodes were not touched by the failed attempts.
  EXPECT_THROW(backward(other), InternalError);
  EXPECT_THAT(grad(x), ElementsAre(2, 2));
}

TEST_F(Engine, WrongLossesAndCotangentsAreRefused) {
  const Variable x = leaf({1, 2}), y = scale(x, 2);
  EXPECT_THROW(backward(y), UserError) << "two elements";
  EXPECT_THROW(backward(Variable()), UserError);
  EXPECT_THROW(backward(Variable(vector({1}))), UserError) << "nothing requires a gradient";
  const Tensor wide = vector({1, 2, 3}), wrong_type = vector({1, 1}).to(DType::f32);
  EXPECT_THROW(backward({&y, 1}, {&wide, 1}), UserError);
  EXPECT_THROW(backward({&y, 1}, {&wrong_type, 1}), UserError);
  EXPECT_THROW(backward({&y, 1}, {}), UserError);
  EXPECT_FALSE(x.grad().defined()) << "nothing was done before the refusal";
  const Tensor right = vector({1, 1});
  backward({&y, 1}, {&right, 1});
  EXPECT_THAT(grad(x), ElementsAre(2, 2));
}

struct Throws {
  static constexpr std::string_view name = "throws";
  Tensor forward(Context& ctx, const Tensor& x) {
    ctx.save({x});
    return x.clone();
  }
  Grads backward(Context&, const Tensor&) { throw MachineError("out of memory"); }
};
TEST_F(Engine, AThrowFreesTheRestOfTheGraph) {
  Tensor big = Tensor::zeros({1000}, DType::f64);
  const Variable x{Tensor::zeros({1000}, DType::f64), true};
  const Variable below = multiply(x, Variable(big));
  const Variable loss = sum_all(apply_op(Throws{}, below));
  const Node* node = below.impl()->producer.get();
  EXPECT_THROW(backward(loss), MachineError);
  EXPECT_TRUE(node->done);
  EXPECT_THAT(node->pending, ::testing::IsEmpty());
  EXPECT_THROW(node->context.saved(1), InternalError);
  EXPECT_THROW(backward(loss), InternalError) << "the same graph cannot be walked again";
  // The engine itself is unharmed.
  Variable z = leaf({1});
  int calls = 0;
  z.on_grad_ready([&](const Tensor&) { ++calls; });
  backward(scale(z, 2));
  EXPECT_EQ(calls, 1) << "the depth of backward was restored";
}

struct WrongShape {
  static constexpr std::string_view name = "wrong_shape";
  bool too_many, single;
  Tensor forward(Context&, const Tensor& x) { return x.clone(); }
  Grads backward(Context&, const Tensor& g) {
    if (too_many) return {g, g};
    return {single ? g.to(DType::f32) : g.view({1, g.numel()})};
  }
};
TEST_F(Engine, GradientsOfTheWrongShapeAreFoundBelowLeavesAndNodes) {
  for (int depth = 0; depth < 2; ++depth) {
    for (const WrongShape& op :
         {WrongShape{false, false}, WrongShape{true, false}, WrongShape{false, true}}) {
      const Variable x = leaf({1, 2});
      EXPECT_THROW(backward(sum_all(apply_op(op, depth ? scale(x, 2) : x))), InternalError);
    }
  }
}

TEST_F(Engine, AForwardThatThrowsRecordsNothing) {
  const Variable a{normal({2, 3}), true}, b{normal({2, 3}), true};
  EXPECT_THROW(matmul(a, b), UserError);
  EXPECT_EQ(live_nodes(), 0);
}

// ---- gradient buffers -------------------------------------------------------------------
TEST_F(Engine, GradientsLiveInTheBufferTheyAreGiven) {
  Tensor bucket = Tensor::full({5}, std::numeric_limits<double>::quiet_NaN(), DType::f64);
  Variable a = leaf({1, 2}), b = leaf({3, 4});
  a.set_grad_buffer(bucket.slice(0, 0, 2));
  b.set_grad_buffer(bucket.slice(0, 3, 5));
  backward(sum_all(multiply(a, b)));
  backward(sum_all(a));
  EXPECT_THAT(bucket.to_vector(), ElementsAre(4, 5, ::testing::IsNan(), 1, 2));
  EXPECT_TRUE(a.grad().shares_storage_with(bucket));
  a.clear_grad();
  EXPECT_FALSE(a.grad().defined());
  backward(sum_all(scale(a, 2)));
  EXPECT_THAT(bucket.slice(0, 0, 2).to_vector(), ElementsAre(2, 2))
      << "stale contents are overwritten";

  EXPECT_THROW(a.set_grad_buffer(bucket), UserError);
  EXPECT_THROW(a.set_grad_buffer(vector({1, 2}).to(DType::f32)), UserError);
  EXPECT_THROW(a.set_grad_buffer(Tensor()), UserError);
  Variable square{normal({2, 2}), true};
  EXPECT_THROW(square.set_grad_buffer(normal({2, 2}).transpose(0, 1)), UserError)
      << "kernels write it as contiguous";
}

TEST_F(Engine, SetTensorMovesALeafToOtherBytes) {
  Variable x = leaf({1, 2});
  Tensor bucket = vector({0, 5, 6});
  x.set_tensor(bucket.slice(0, 1, 3));
  backward(sum_all(multiply(x, x)));
  EXPECT_THAT(grad(x), ElementsAre(10, 12));
  EXPECT_THROW(x.set_tensor(bucket), UserError);
  EXPECT_THROW(x.set_tensor(vector({1, 2}).to(DType::f32)), UserError);
}

// ---- hooks ----------------------------------------------------------------------------------
TEST_F(Engine, HooksFireOnceAfterTheLastContribution) {
  Variable early = leaf({1, 2}), tied = leaf({3, 4}), late = leaf({5, 6}), idle = leaf({0, 0});
  std::vector<std::string> order;
  std::vector<double> seen;
  early.on_grad_ready([&](const Tensor&) { order.push_back("early"); });
  late.on_grad_ready([&](const Tensor&) { order.push_back("late"); });
  idle.on_grad_ready([&](const Tensor&) { order.push_back("idle"); });
  tied.on_grad_ready([&](const Tensor& g) {
    order.push_back("tied");
    seen = g.to_vector();
  });
  // `tied` at both ends, as an embedding and an output layer.
  const Variable hidden = multiply(multiply(tied, early), late);
  backward(sum_all(multiply(hidden, tied)));
  EXPECT_THAT(order, ElementsAre("late", ::testing::AnyOf("tied", "early"),
                                 ::testing::AnyOf("tied", "early")));
  EXPECT_THAT(seen, ElementsAre(2 * 3 * 1 * 5, 2 * 4 * 2 * 6)) << "the whole gradient was there";
  backward(sum_all(late));
  EXPECT_EQ(order.size(), 4u);
  EXPECT_EQ(order.back(), "late");
}

TEST_F(Engine, HooksFireEarly) {
  Variable first = leaf({1}), last = leaf({2});
  bool first_had_gradient = true;
  last.on_grad_ready([&](const Tensor&) { first_had_gradient = first.grad().defined(); });
  backward(multiply(scale(scale(first, 2), 3), last));
  EXPECT_FALSE(first_had_gradient)
      << "the last layer's gradient is announced before the walk reaches the first";
}

TEST_F(Engine, HooksFireOnceWithRematerialize) {
  for (bool buffered : {false, true}) {
    Variable w{normal({3, 3}, 1), true}, inner_only{normal({3, 3}, 2), true},
        x{normal({2, 3}, 3), true};
    std::map<std::string, int> calls;
    Tensor at_hook;
    const std::pair<Variable, const char*> all[] = {{w, "w"}, {inner_only, "inner"}, {x, "x"}};
    for (auto [v, name] : all) {
      if (buffered) v.set_grad_buffer(Tensor::full(v.shape(), 1e9, DType::f64));
      v.on_grad_ready([&calls, &at_hook, name = name](const Tensor& g) {
        ++calls[name];
        if (std::string(name) == "w") at_hook = g.clone();
      });
    }
    const auto block = [&](const Variables& v) {
      return linear(silu(linear(v[0], w)), inner_only);
    };
    const auto outer = [&](const Variables& v) {
      return linear(rematerialize(block, v), inner_only);
    };
    const Variable h = rematerialize(outer, {linear(x, w)});
    backward(sum_all(linear(rematerialize(block, {h}), w)));
    EXPECT_THAT(calls, ElementsAre(std::pair{"inner", 1}, std::pair{"w", 1}, std::pair{"x", 1}));
    EXPECT_TRUE(bit_identical(at_hook, w.grad()));
  }
}

// ---- threads ----------------------------------------------------------------------------------
TEST_F(Engine, EachThreadHasItsOwnGraph) {
  constexpr int kThreads = 4;
  std::vector<std::vector<double>> results(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const Variable w{normal({4, 4}, 9), true};
      for (int step = 0; step < 50; ++step) {
        const Variable x{normal({3, 4}, uint64_t(step))};
        backward(sum_all(silu(linear(add(gelu(linear(x, w)), x), w))));
        if (t % 2) NoGrad(), scale(w, 2);
      }
      results[size_t(t)] = w.grad().to_vector();
    });
  }
  for (auto& t : threads) t.join();
  for (int t = 1; t < kThreads; ++t) EXPECT_EQ(results[size_t(t)], results[0]);
}

TEST_F(Engine, AGraphMayGrowOnOneThreadAndGoOnAnother) {
  const Variable x = leaf({1, 2});
  Variable y;
  // The second thread has made fewer nodes than this one, and yet its nodes come later.
  for (int i = 0; i < 10; ++i) y = scale(i ? y : x, 2);
  std::thread([&] { y = sum_all(multiply(y, y)); }).join();
  backward(y);
  EXPECT_THAT(grad(x), ElementsAre(2 * 1024. * 1024, 4 * 1024. * 1024));
}

}  // namespace
}  // namespace reverie::testing
