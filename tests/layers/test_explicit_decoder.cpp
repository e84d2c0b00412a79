// The decoder of memories, and the state that memory modules expose for it.

#include "layers/memory/explicit_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "layers/model_checks.h"
#include "support/message_of.h"
#include "support/registered_components.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::random_tokens;
using testing::RegisteredCase;

constexpr DecoderShape kShape{5, 6, 11, 12};  // rows, features, vocabulary, length

ExplicitDecoder decoder_in(DType dtype, int64_t layers = 2) {
  Generator random(4);
  DecoderOptions options;
  options.n_layer = layers;
  options.n_embd = 8;
  return {options, kShape, Build{random, dtype}};
}
Variable memory_of(int64_t batch, uint64_t seed, DType dtype) {
  Generator random(seed);
  return Variable(random.normal({batch, kShape.rows, kShape.features}, 0, 1, DType::f64).to(dtype));
}

TEST(ExplicitDecoder, LaterWordsMoveNoEarlierStates) {
  const NoGrad no_grad;
  const ExplicitDecoder decoder = decoder_in(DType::f64);
  const Variable memory = memory_of(2, 1, DType::f64);
  const Tensor tokens = random_tokens(2, 9, 11);
  const Tensor whole = decoder.forward(memory, tokens).tensor();
  EXPECT_EQ(whole.shape(), (Shape{2, 9, 8}));
  for (const int64_t cut : {1, 4, 8}) {
    Tensor other = tokens.clone();
    for (int64_t r = 0; r < 2; ++r)
      for (int64_t t = cut; t < 9; ++t)
        other.mutable_data<int32_t>()[r * 9 + t] = (tokens.data<int32_t>()[r * 9 + t] + 3) % 11;
    const Tensor moved = decoder.forward(memory, other).tensor();
    const auto early = [&](const Tensor& t) { return t.slice(1, 0, cut).contiguous(); };
    EXPECT_EQ(testing::largest_difference(early(whole), early(moved)), 0) << "cut " << cut;
    EXPECT_GT(testing::largest_difference(whole, moved), 1e-6) << "cut " << cut;
  }
}

// Every row of the memory reaches every word, and no other text's does.
TEST(ExplicitDecoder, ReadsAllRowsOfItsOwnMemory) {
  const NoGrad no_grad;
  const ExplicitDecoder decoder = decoder_in(DType::f64);
  const Tensor tokens = random_tokens(2, 6, 11);
  const Variable memory = memory_of(2, 1, DType::f64);
  const Tensor base = decoder.forward(memory, tokens).tensor();
  for (int64_t row = 0; row < kShape.rows; ++row) {
    Tensor changed = memory.tensor().clone();
    for (int64_t f = 0; f < kShape.features; ++f)
      changed.mutable_data<double>()[row * kShape.features + f] += double(f % 3) - 1;
    const Tensor moved = decoder.forward(Variable(changed), tokens).tensor();
    for (int64_t t = 0; t < 6; ++t) {
      const auto at = [&](const Tensor& x, int64_t b) {
        return x.slice(0, b, b + 1).contiguous().slice(1, t, t + 1).contiguous();
      };
      EXPECT_GT(testing::largest_difference(at(base, 0), at(moved, 0)), 1e-9)
          << "row " << row << ", word " << t;
      EXPECT_EQ(testing::largest_difference(at(base, 1), at(moved, 1)), 0);
    }
  }
}

TEST(ExplicitDecoder, GradientsAreCentralDifferences) {
  ExplicitDecoder decoder = decoder_in(DType::f64);
  testing::fill_zero_parameters(decoder);
  const Variable memory = memory_of(2, 1, DType::f64);
  const Tensor tokens = random_tokens(2, 6, 11);
  Generator random(8);
  const Variable weights(random.normal({2, 6, 8}, 0, 1, DType::f64));
  const auto loss = [&] { return sum_all(multiply(decoder.forward(memory, tokens), weights)); };
  backward(loss());
  const NoGrad no_grad;
  int64_t compared = 0;
  for (const auto& [name, parameter] : decoder.parameters()) {
    if (name.ends_with("lm_head.weight")) continue;
    ASSERT_TRUE(parameter.grad().defined()) << name;
    const auto gradient = parameter.grad().to_vector();
    Tensor value = parameter.tensor();
    double* x = value.mutable_data<double>();
    for (int sample = 0; sample < 4; ++sample, ++compared) {
      const size_t i = size_t(random.below(gradient.size()));
      const double before = x[i], h = 1e-5;
      x[i] = before + h;
      const double above = loss().tensor().item();
      x[i] = before - h;
      const double below = loss().tensor().item();
      x[i] = before;
      EXPECT_NEAR(gradient[i], (above - below) / (2 * h), 2e-6 * (1 + std::abs(gradient[i])))
          << name << "[" << i << "]";
    }
  }
  EXPECT_GT(compared, 80);
}

TEST(ExplicitDecoder, AMemoryOfAnotherShapeIsRefused) {
  const ExplicitDecoder decoder = decoder_in(DType::f32);
  const Variable wrong(Tensor::zeros({1, 4, 6}, DType::f32));
  EXPECT_THAT(message_of<UserError>([&] { decoder.forward(wrong, random_tokens(1, 3, 11)); }),
              HasSubstr("a decoder of memories [1, 5, 6] got f32[1, 4, 6]"));
}

// ---- what memory modules expose -----------------------------------------------------------------

class ReadableMemory : public ::testing::TestWithParam<RegisteredCase> {};
INSTANTIATE_TEST_SUITE_P(Registered, ReadableMemory,
                         ::testing::ValuesIn(testing::registered_memories()),
                         [](const auto& info) { return info.param.name; });

std::vector<Variable> rows_after(LanguageModel& model, const Tensor& tokens, int64_t window) {
  const NoGrad no_grad;
  model.train(false);
  auto& transformer = dynamic_cast<Transformer&>(model);
  SequenceState state;
  state.memory = model.initial_memory(tokens.size(0));
  for (int64_t begin = 0; begin < tokens.size(1); begin += window)
    model.hidden(tokens.slice(1, begin, std::min(tokens.size(1), begin + window)).contiguous(),
                 &state);
  return transformer.memory()->readable(state.memory, tokens.size(0));
}

// As many rows whatever was read, of each text for itself; of those that carry, other rows after
// another text.
TEST_P(ReadableMemory, HasRowsOfOneShapeForEachText) {
  const auto model =
      testing::make_model(testing::model_with_memory(GetParam().component).dump(), DType::f64);
  const auto& transformer = dynamic_cast<const Transformer&>(*model);
  const Tensor tokens = random_tokens(2, 19, 13);
  const auto clean = transformer.memory()->readable(model->initial_memory(2), 2);
  const auto all = rows_after(*model, tokens, 19),
             few = rows_after(*model, tokens.slice(1, 0, 3).contiguous(), 19);
  if (model->carries_memory()) {
    EXPECT_FALSE(all.empty()) << "it carries a state that nobody can read";
  }
  ASSERT_EQ(all.size(), clean.size());
  ASSERT_EQ(all.size(), few.size());
  Tensor other = tokens.clone();
  for (int64_t t = 0; t < 19; ++t)
    other.mutable_data<int32_t>()[19 + t] = (tokens.data<int32_t>()[19 + t] + 5) % 13;
  const auto changed = rows_after(*model, other, 19);
  double moved = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(all[i].rank(), 3);
    EXPECT_EQ(all[i].size(0), 2);
    EXPECT_EQ(all[i].size(2), 8);
    EXPECT_EQ(all[i].shape(), clean[i].shape());
    EXPECT_EQ(all[i].shape(), few[i].shape());
    const auto row = [](const Variable& v, int64_t b) {
      return v.tensor().contiguous().slice(0, b, b + 1).contiguous();
    };
    EXPECT_EQ(testing::largest_difference(row(all[i], 0), row(changed[i], 0)), 0);
    moved = std::max(moved, testing::largest_difference(row(all[i], 1), row(changed[i], 1)));
  }
  if (!all.empty()) {
    EXPECT_GT(moved, 1e-9) << "it does not hold what was read";
  }
}

}  // namespace
}  // namespace reverie
