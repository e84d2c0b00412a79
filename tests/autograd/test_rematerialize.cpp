// Rematerialisation: the same bits with less memory.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/node.h"
#include "autograd/ops/attention.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "autograd/rematerialize.h"
#include "core/error.h"
#include "core/storage.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

using ::testing::HasSubstr;
using Block = std::function<Variable(const Variables&)>;

// Runs `block` plainly or rematerialised.
Variable run(bool rematerialized, const Block& block, const Variables& inputs) {
  return rematerialized ? rematerialize(block, inputs) : block(inputs);
}

// A small transformer whose blocks share one weight with each other and with the outside, read
// their input several times, and drop; `outer` wraps the whole stack, `inner` each block, `parts`
// the two halves of a block.
struct Stack {
  explicit Stack(DType dtype, bool buffered) {
    uint64_t seed = 1;
    const auto make = [&](const Shape& shape) {
      Variable v(normal(shape, seed++, dtype), true);
      if (buffered) v.set_grad_buffer(Tensor::full(shape, 1e3, dtype));
      return v;
    };
    x = make({2, 6, 8});
    qkv = make({24, 8});
    projection = make({8, 8});
    norm = make({8});
    shared = make({8, 8});
    memory = make({2, 6, 8});
    all = {x, qkv, projection, norm, shared, memory};
  }
  Variable loss(bool outer, bool inner, bool parts) const {
    AttentionSpec spec;
    spec.heads = spec.kv_heads = 2;
    spec.dropout = 0.25;
    const Block attend = [=, this](const Variables& v) {
      const Variable y = packed_attention(linear(rms_norm(v[0], norm, 1e-5), qkv), spec);
      return add(v[0], dropout(linear(add(y, v[0]), projection), 0.1));
    };
    // The state comes in twice, is used by every block, and outside.
    const Block mix = [=, this](const Variables& v) {
      const Variable a = linear(v[0], shared), b = linear(v[0], projection);
      const Variable state = add(multiply(dropout(v[1], 0.5), v[2]), multiply(silu(v[2]), v[1]));
      return add(add(v[0], multiply(gelu(a), b)), state);
    };
    const Block block = [=](const Variables& v) {
      return run(parts, mix, {run(parts, attend, {v[0]}), v[1], v[1]});
    };
    const Block stack = [=, this](const Variables& v) {
      Variable h = v[0];
      for (int i = 0; i < 3; ++i) h = add(linear(run(inner, block, {h, v[1]}), shared), h);
      return h;
    };
    default_generator() = Generator(3, 17);
    const Variable entered = linear(x, shared), state = scale(memory, 0.5);
    const Variable h = run(outer, stack, {entered, state});
    return sum_all(multiply(linear(add(h, entered), shared), add(state, h)));
  }
  Variable x, qkv, projection, norm, shared, memory;
  Variables all;
};

class Bits : public ::testing::TestWithParam<DType> {};

TEST_P(Bits, LossesAndGradientsAreIdenticalWithAndWithout) {
  for (bool buffered : {false, true}) {
    Stack plain(GetParam(), buffered);
    const auto step = [&](const Stack& s, int how) {
      const Variable loss = s.loss(how & 1, how & 2, how & 4);
      backward(loss);
      return loss.tensor();
    };
    const Tensor loss = step(plain, 0);
    const uint64_t place = default_generator().offset();
    step(plain, 0);  // accumulated
    for (int how = 1; how < 8; ++how) {
      Stack s(GetParam(), buffered);
      EXPECT_TRUE(bit_identical(step(s, how), loss)) << how;
      EXPECT_EQ(default_generator().offset(), place)
          << "backward must leave the generator where the forward pass left it";
      step(s, how);
      for (size_t i = 0; i < s.all.size(); ++i)
        EXPECT_TRUE(bit_identical(s.all[i].grad(), plain.all[i].grad()))
            << "how " << how << ", leaf " << i;
    }
  }
  EXPECT_EQ(live_nodes(), 0);
}
INSTANTIATE_TEST_SUITE_P(Types, Bits, ::testing::Values(DType::f32, DType::f64),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST(Rematerialize, TheReplayedNumbersMatter) {
  // Guards the test above: a replay with other random numbers does give other gradients.
  const auto gradient = [](uint64_t shift) {
    const Variable x{normal({64}), true};
    int runs = 0;
    default_generator() = Generator(4);
    const Block f = [&](const Variables& v) {
      if (++runs == 2) default_generator().reserve(shift);
      return dropout(v[0], 0.5);
    };
    backward(sum_all(rematerialize(f, {x})));
    EXPECT_EQ(runs, 2);
    return x.grad();
  };
  EXPECT_TRUE(bit_identical(gradient(0), gradient(0)));
  EXPECT_FALSE(bit_identical(gradient(0), gradient(4)));
}

TEST(Rematerialize, PeakMemoryIsLower) {
  const int layers = 12;
  const Variable w{normal({64, 64}, 1, DType::f32), true};
  const Tensor input = normal({512, 64}, 2, DType::f32);
  const auto peak = [&](bool rematerialized) {
    Allocator& memory = allocator(Device{});
    memory.reset_peak();
    const size_t before = memory.stats().in_use;
    Variable h{input};
    const Block block = [&](const Variables& v) {
      return silu(linear(gelu(linear(silu(linear(v[0], w)), w)), w));
    };
    for (int i = 0; i < layers; ++i) h = run(rematerialized, block, {h});
    backward(sum_all(h));
    return memory.stats().peak - before;
  };
  const size_t plain = peak(false), less = peak(true), activation = input.bytes();
  EXPECT_GE(plain, activation * layers * 5) << "about six activations a layer";
  EXPECT_LE(less, activation * (layers + 12)) << "one activation a layer, and one layer's inside";
}

TEST(Rematerialize, KeepsOneNodeAndOnlyItsInputs) {
  const Variable x{normal({4, 4}), true};
  const Variable y = rematerialize([](const Variables& v) { return silu(gelu(silu(v[0]))); }, {x});
  EXPECT_EQ(live_nodes(), 1);
  EXPECT_TRUE(y.impl()->producer->context.saved(0).shares_storage_with(x.tensor()));
}

TEST(Rematerialize, OddInputsAndOutputs) {
  const Variable x{normal({3}), true}, constant{normal({3}, 2)};
  // Undefined inputs, constants, the same input twice (as results and as leaves), and an input
  // handed back.
  const Variable y = scale(x, 2);
  const Block f = [](const Variables& v) {
    EXPECT_FALSE(v[2].defined());
    return multiply(add(v[0], v[1]), multiply(v[3], v[4]));
  };
  for (const Variable& in : {x, y}) {
    Variable copy = in;
    backward(sum_all(rematerialize(f, {in, in, Variable(), in, constant})));
    const auto g = x.grad().to_vector(), v = in.tensor().to_vector(),
               c = constant.tensor().to_vector();
    const double inner = in.is_leaf() ? 1 : 2;
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(g[i], inner * 4 * v[i] * c[i], 1e-12);
    Variable(x).clear_grad();
  }
  backward(sum_all(rematerialize([](const Variables& v) { return v[0]; }, {x})));
  EXPECT_THAT(x.grad().to_vector(), ::testing::Each(1));
  backward(sum_all(rematerialize([&](const Variables&) { return x; }, {constant})));
  EXPECT_THAT(x.grad().to_vector(), ::testing::Each(2));
  // Nothing to differentiate: nothing recorded.
  const Variable z = rematerialize([](const Variables& v) { return silu(v[0]); }, {constant});
  EXPECT_FALSE(z.requires_grad());
}

// Some results are read by others, in and after the function that made them; one by nobody.
TEST(Rematerialize, SeveralResultsHaveTheSameBits) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Variable x{normal({6, 8}, 1, dtype), true}, w{normal({8, 8}, 2, dtype), true};
    const auto gradients = [&](bool rematerialized) {
      const std::function<Variables(const Variables&)> f = [&](const Variables& v) {
        const Variable a = silu(linear(v[0], w)), b = dropout(linear(a, w), 0.3);
        return Variables{multiply(a, b), a, gelu(a), b};
      };
      default_generator() = Generator(5);
      const Variable in = linear(x, w);
      const Variables out = rematerialized ? rematerialize_all(f, {in}) : f({in});
      backward(sum_all(multiply(add(linear(out[1], w), multiply(out[3], out[1])), out[0])));
      const std::vector<Tensor> all = {x.grad(), w.grad()};
      for (Variable v : {x, w}) v.clear_grad();
      return all;
    };
    const auto plain = gradients(false), again = gradients(true);
    for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(bit_identical(plain[i], again[i])) << i;
  }
  EXPECT_EQ(live_nodes(), 0);
}

// Products add to a sum in place where nobody else has it, and of so many terms that the order of
// additions shows: of an input that is read in and outside, and of a result that is.
TEST(Rematerialize, ProductsAddToTheSumsThatTheyWouldAddTo) {
  const Shape wide{1536, 64};
  const Variable x{normal({7, 16}, 1, DType::f32), true}, w{normal({64, 16}, 2, DType::f32), true},
      a{normal(wide, 3, DType::f32), true}, b{normal(wide, 4, DType::f32), true};
  const auto gradients = [&](bool rematerialized) {
    const std::function<Variables(const Variables&)> f = [&](const Variables& v) {
      const Variable s = silu(v[0]);
      return Variables{add(multiply(linear(v[0], a), linear(v[0], b)), linear(s, b)), s};
    };
    const Variable in = linear(x, w);
    const Variables out = rematerialized ? rematerialize_all(f, {in}) : f({in});
    const Variable outside = add(linear(in, b), multiply(linear(out[1], a), linear(out[1], b)));
    backward(sum_all(multiply(out[0], outside)));
    const std::vector<Tensor> all = {x.grad(), w.grad(), a.grad(), b.grad()};
    for (Variable v : {x, w, a, b}) v.clear_grad();
    return all;
  };
  const auto plain = gradients(false), again = gradients(true);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_TRUE(bit_identical(plain[i], again[i])) << i;
}

// What is cut from the graph inside, or never was in it, is a constant outside.
TEST(Rematerialize, ConstantResultsAreConstants) {
  const Variable x{normal({3}), true}, constant{normal({3}, 2)};
  const Variables out = rematerialize_all(
      [&](const Variables& v) {
        return Variables{scale(v[0], 2), scale(v[0], 3).detach(), scale(v[1], 4), v[0], v[1]};
      },
      {scale(x, 1), constant});
  std::vector<bool> recorded;
  for (const Variable& v : out) recorded.push_back(v.requires_grad());
  EXPECT_EQ(recorded, (std::vector<bool>{true, false, false, true, false}));
  Variable sum;
  for (const Variable& v : out) sum = sum ? add(sum, v) : v;
  backward(sum_all(sum));
  EXPECT_THAT(x.grad().to_vector(), ::testing::Each(3));
}

// A NoGrad of the function's own, or one that is over, has cut what it has cut without.
TEST(Rematerialize, WhatIsMadeUnderNoGradIsAConstant) {
  const Variable x{normal({3}), true};
  Variable before;
  {
    const NoGrad guard;
    before = scale(x, 5);
  }
  const std::function<Variables(const Variables&)> f = [&](const Variables& v) {
    Variable cut;
    {
      const NoGrad guard;
      cut = scale(v[0], 3);
    }
    return Variables{scale(v[0], 2), cut, scale(cut, 2), scale(before, 2), add(cut, v[0])};
  };
  for (const bool rematerialized : {false, true}) {
    const Variable in = scale(x, 1);
    const Variables out = rematerialized ? rematerialize_all(f, {in}) : f({in});
    std::vector<bool> recorded;
    for (const Variable& v : out) recorded.push_back(v.requires_grad());
    EXPECT_EQ(recorded, (std::vector<bool>{true, false, false, false, true})) << rematerialized;
    Variable sum;
    for (const Variable& v : out) sum = sum ? add(sum, v) : v;
    backward(sum_all(sum));
    EXPECT_THAT(x.grad().to_vector(), ::testing::Each(3));
    Variable(x).clear_grad();
  }
}

// Rows of one sequence lie in a row, so that their slice is a view.
TEST(Rematerialize, AResultKeepsItsOwnRowsAlone) {
  const Variable x{normal({1, 64, 8}), true};
  const auto last_rows = [](const Variable& v) { return slice(v, 1, 60, 64); };
  EXPECT_GT(last_rows(silu(x)).tensor().storage()->bytes(), 4 * 8 * sizeof(double));
  const Variables out = rematerialize_all(
      [&](const Variables& v) {
        const Variable all = silu(v[0]);
        return Variables{all, last_rows(all), last_rows(all).detach()};
      },
      {x});
  for (const Variable& v : out)
    EXPECT_EQ(v.tensor().storage()->bytes(), v.tensor().bytes()) << v.tensor().str();
  EXPECT_TRUE(bit_identical(out[1].tensor(), last_rows(silu(x)).tensor()));
  EXPECT_TRUE(bit_identical(out[1].tensor(), out[2].tensor()));
}

TEST(Rematerialize, ReadingARecordedResultThatIsNoInputIsRefused) {
  const Variable x{normal({3}), true}, y = scale(x, 2);
  try {
    rematerialize([&](const Variables& v) { return add(v[0], y); }, {x});
    FAIL() << "the gradient through y would have been lost";
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), HasSubstr("affine"));
  }
  EXPECT_THROW(rematerialize([&](const Variables&) { return y; }, {x}), UserError);
  const Variable detached = y.detach();
  backward(sum_all(rematerialize([&](const Variables& v) { return add(v[0], detached); }, {x})));
  EXPECT_THAT(x.grad().to_vector(), ::testing::Each(1));
}

TEST(Rematerialize, AParameterChangedBeforeBackwardIsFound) {
  Tensor bytes = normal({3});
  const Variable w{bytes, true}, x{normal({3}, 2), true};
  const Variable loss =
      sum_all(rematerialize([&](const Variables& v) { return add(v[0], w); }, {x}));
  bytes.mutable_data<double>()[0] = 1;
  EXPECT_THROW(backward(loss), UserError)
      << "the inside would be computed with other numbers than before";
}

TEST(Rematerialize, AThrowInsideRestoresTheGenerator) {
  const Variable x{normal({8}), true};
  int runs = 0;
  default_generator() = Generator(21, 4);
  const Variable loss = sum_all(rematerialize(
      [&](const Variables& v) {
        if (++runs == 2) throw MachineError("out of memory");
        return dropout(v[0], 0.5);
      },
      {x}));
  const uint64_t place = default_generator().offset();
  default_generator().reserve(40);
  EXPECT_THROW(backward(loss), MachineError);
  EXPECT_EQ(default_generator().offset(), place + 10);
  EXPECT_EQ(default_generator().seed(), 21u);
  EXPECT_TRUE(grad_enabled());
}

}  // namespace
}  // namespace reverie::testing
