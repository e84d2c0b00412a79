// Memory that was carried to a window: decoding that window token by token from it equals the whole
// window's forward, for every registered module that decodes incrementally; rows of a state.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "layers/model_checks.h"
#include "support/registered_components.h"

namespace reverie {
namespace {

using testing::model_with_memory;
using testing::RegisteredCase;

constexpr int64_t kVocabulary = 13, kWindow = 12;

std::unique_ptr<LanguageModel> model_with(const Json& memory) {
  return testing::make_model(model_with_memory(memory).dump(), DType::f64);
}

class CarriedMemoryOf : public ::testing::TestWithParam<RegisteredCase> {};
INSTANTIATE_TEST_SUITE_P(Registered, CarriedMemoryOf,
                         ::testing::ValuesIn(testing::registered_memories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(CarriedMemoryOf, DecodingAWindowEqualsItsForward) {
  const auto model = model_with(GetParam().component);
  if (!model->incremental()) GTEST_SKIP() << "it reads whole blocks";
  NoGrad guard;
  model->train(false);
  SequenceState carried;
  for (uint64_t seed = 1; seed <= 3; ++seed)
    model->hidden(testing::random_tokens(2, kWindow, kVocabulary, seed), &carried);
  const Tensor tokens = testing::random_tokens(2, kWindow, kVocabulary, 4);

  SequenceState whole, stepwise;
  whole.memory = stepwise.memory = carried.memory;
  stepwise.use_cache = true;
  const Tensor expected = model->logits(tokens, &whole).tensor();
  for (int64_t t = 0; t < kWindow; ++t) {
    const Tensor one = model->logits(tokens.slice(1, t, t + 1).contiguous(), &stepwise).tensor();
    EXPECT_LT(testing::largest_difference(one, expected.slice(1, t, t + 1).contiguous()), 1e-9)
        << "token " << t;
  }
  // Both leave the same memory behind.
  ASSERT_EQ(whole.memory.values.size(), stepwise.memory.values.size());
  EXPECT_EQ(whole.memory.counters, stepwise.memory.counters);
  for (const auto& [name, value] : whole.memory.values)
    EXPECT_LT(testing::largest_difference(value.tensor(), stepwise.memory.values.at(name).tensor()),
              1e-9)
        << name;
}

TEST_P(CarriedMemoryOf, RowsOfAStateGoOnByThemselves) {
  const auto model = model_with(GetParam().component);
  NoGrad guard;
  model->train(false);
  const Tensor first = testing::random_tokens(3, kWindow, kVocabulary, 1),
               second = testing::random_tokens(3, kWindow, kVocabulary, 2);
  SequenceState all;
  model->hidden(first, &all);
  SequenceState some;
  some.memory = all.memory.rows({2, 0});
  const Tensor expected = model->logits(second, &all).tensor();
  Tensor chosen = Tensor::empty({2, kWindow}, DType::i32);
  for (const auto& [to, from] : {std::pair<int64_t, int64_t>(0, 2), {1, 0}}) {
    Tensor place = chosen.slice(0, to, to + 1);
    place.copy_from(second.slice(0, from, from + 1));
  }
  const Tensor got = model->logits(chosen, &some).tensor();
  for (const auto& [to, from] : {std::pair<int64_t, int64_t>(0, 2), {1, 0}})
    EXPECT_LT(testing::largest_difference(got.slice(0, to, to + 1).contiguous(),
                                          expected.slice(0, from, from + 1).contiguous()),
              1e-9);
}

}  // namespace
}  // namespace reverie
