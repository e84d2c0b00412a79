// What every registered optimizer must do, without anybody listing them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "core/rounded_copy.h"
#include "core/storage.h"
#include "support/message_of.h"
#include "trainers/distributed/ranks.h"
#include "trainers/optimizers/optimizer_support.h"

namespace reverie {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::make_optimizer;
using testing::message_of;
using testing::Parameters;
using testing::set_gradients;

const std::vector<std::pair<std::string, Shape>> kShapes = {
    {"wte.weight", {12, 8}}, {"h.0.weight", {8, 8}},  {"h.0.bias", {8}}, {"h.1.weight", {24, 8}},
    {"h.1.bias", {24}},      {"h.2.weight", {8, 24}}, {"h.2.bias", {8}}, {"norm.weight", {8}}};

// Gradients that differ from step to step.
std::vector<Tensor> gradients_of(int step, DType dtype) {
  std::vector<Tensor> gradients;
  for (const Variable& v : Parameters(kShapes, dtype, uint64_t(100 + step)).all)
    gradients.push_back(v.tensor());
  return gradients;
}
void run_steps(Optimizer& optimizer, FlatParameters& flat, Parameters& parameters, int first,
               int last) {
  for (int step = first; step < last; ++step) {
    set_gradients(flat, parameters, gradients_of(step, parameters.all[0].dtype()));
    optimizer.step(0.01, flat.gradient_norm());
  }
}
void expect_same(const Module& a, const Module& b) {
  const NamedTensors x = a.state(), y = b.state();
  ASSERT_EQ(x.size(), y.size());
  for (size_t i = 0; i < x.size(); ++i)
    EXPECT_TRUE(bit_identical(x[i].second, y[i].second)) << x[i].first;
}

class EveryOptimizer : public ::testing::TestWithParam<std::string> {
 protected:
  Json config() const { return {{"type", GetParam()}}; }
};
INSTANTIATE_TEST_SUITE_P(Registered, EveryOptimizer,
                         ::testing::ValuesIn(OptimizerRegistry::instance().names()));

TEST_P(EveryOptimizer, MovesEveryParameterAgainstItsGradient) {
  Parameters parameters(kShapes, DType::f64), before(kShapes, DType::f64);
  FlatParameters flat(parameters);
  Json options = config();
  options["weight_decay"] = 0;
  const auto optimizer = make_optimizer(options, flat);
  run_steps(*optimizer, flat, parameters, 0, 1);
  const std::vector<Tensor> gradients = gradients_of(0, DType::f64);
  for (size_t i = 0; i < kShapes.size(); ++i) {
    const auto now = parameters.all[i].tensor().to_vector(),
               then = before.all[i].tensor().to_vector(), gradient = gradients[i].to_vector();
    double along = 0;
    for (size_t j = 0; j < now.size(); ++j) along += (now[j] - then[j]) * gradient[j];
    EXPECT_LT(along, 0) << kShapes[i].first;
  }
}

// A model's own memory is not taken twice: where its parameters lay before is given back.
TEST(FlatParameters, TakeTheMemoryOfValuesAndGradients) {
  Allocator& memory = allocator({});
  memory.release_cached();
  const auto cached = [&] { return memory.stats().reserved - memory.stats().in_use; };
  const size_t before = cached();
  Parameters parameters({{"a", {1024, 1024}}, {"b", {2048, 1024}}}, DType::f32);
  const std::vector<double> value = parameters.all[1].tensor().to_vector();
  const size_t one = memory.stats().in_use;
  FlatParameters flat(parameters);
  EXPECT_NEAR(double(memory.stats().in_use), 2.0 * double(one), 0.1 * double(one));
  EXPECT_LT(cached(), before + (size_t(1) << 20));
  EXPECT_EQ(parameters.all[1].tensor().to_vector(), value);
}

TEST_P(EveryOptimizer, ResumesBitExactly) {
  Parameters whole(kShapes, DType::f32), first(kShapes, DType::f32), second(kShapes, DType::f32);
  FlatParameters flat_whole(whole), flat_first(first);
  const auto through = make_optimizer(config(), flat_whole),
             before = make_optimizer(config(), flat_first);
  run_steps(*through, flat_whole, whole, 0, 5);
  run_steps(*before, flat_first, first, 0, 3);
  second.load(first.state());
  FlatParameters flat_second(second);
  const auto after = make_optimizer(config(), flat_second);
  after->load(before->state(), before->steps());
  run_steps(*after, flat_second, second, 3, 5);
  expect_same(whole, second);
}

TEST_P(EveryOptimizer, RefusesAnotherState) {
  Parameters parameters(kShapes, DType::f32);
  FlatParameters flat(parameters);
  const auto optimizer = make_optimizer(config(), flat);
  NamedTensors state = optimizer->state();
  ASSERT_FALSE(state.empty());
  const auto missing = NamedTensors(state.begin() + 1, state.end());
  EXPECT_THAT(message_of<UserError>([&] { optimizer->load(missing, 1); }),
              HasSubstr(state[0].first));
  state.emplace_back("m.unknown", Tensor::zeros({1}, DType::f32));
  EXPECT_THAT(message_of<UserError>([&] { optimizer->load(state, 1); }), HasSubstr("m.unknown"));
}

TEST_P(EveryOptimizer, SharesChangeNoBit) {
  Parameters alone(kShapes, DType::f32);
  FlatParameters flat(alone);
  const auto optimizer = make_optimizer(config(), flat);
  run_steps(*optimizer, flat, alone, 0, 4);
  const NamedTensors wanted = optimizer->state();
  for (const int ranks : {2, 3, 12}) {  // 12: more than there are parameters
    std::mutex mutex;
    size_t bytes = 0;
    EXPECT_THAT(testing::run_ranks(ranks,
                                   [&](Communicator& communicator) {
                                     Parameters mine(kShapes, DType::f32);
                                     FlatParameters shared(mine, communicator, true);
                                     const auto own = make_optimizer(config(), shared);
                                     run_steps(*own, shared, mine, 0, 4);
                                     const NamedTensors state = own->state();
                                     const std::lock_guard lock(mutex);
                                     bytes += own->state_bytes();
                                     expect_same(alone, mine);
                                     if (!communicator.first()) return;
                                     ASSERT_EQ(state.size(), wanted.size());
                                     for (size_t i = 0; i < state.size(); ++i) {
                                       EXPECT_EQ(state[i].first, wanted[i].first);
                                       EXPECT_TRUE(bit_identical(state[i].second, wanted[i].second))
                                           << state[i].first;
                                     }
                                   }),
                Each(IsEmpty()));
    EXPECT_EQ(bytes, optimizer->state_bytes()) << ranks << " ranks";
  }
}

// Copies in bf16 change no number, on one rank and on three, and are those of the newest values.
TEST_P(EveryOptimizer, KeepsMatricesRoundedBesideThem) {
  Parameters alone(kShapes, DType::f32);
  FlatParameters flat(alone);
  const auto optimizer = make_optimizer(config(), flat);
  run_steps(*optimizer, flat, alone, 0, 3);
  for (const int ranks : {1, 3})
    EXPECT_THAT(
        testing::run_ranks(ranks,
                           [&](Communicator& communicator) {
                             Parameters mine(kShapes, DType::f32);
                             for (size_t i : {1, 3}) mine.all[i].set_read_by(ReadBy::matmul);
                             FlatParameters shared(mine, communicator, true, true);
                             const auto own = make_optimizer(config(), shared);
                             for (int step = 0; step < 3; ++step) {
                               shared.round_matrices();
                               run_steps(*own, shared, mine, step, step + 1);
                             }
                             shared.round_matrices();
                             std::vector<Tensor> kept;
                             for (const Variable& v : mine.all)
                               kept.push_back(rounded_copy(v.tensor()));
                             shared.gather_values();
                             expect_same(alone, mine);
                             for (size_t i = 0; i < kept.size(); ++i) {
                               const Variable& v = mine.all[i];
                               ASSERT_EQ(kept[i].defined(), v.rank() >= 2);
                               if (!kept[i]) continue;
                               EXPECT_TRUE(bit_identical(kept[i], v.tensor().to(DType::bf16)));
                             }
                           }),
        Each(IsEmpty()));
}

// AdamW rounds what it writes, in the same pass.
TEST(FlatParameters, AdamWLeavesNothingToRound) {
  Parameters parameters(kShapes, DType::f32);
  FlatParameters flat(parameters, single_communicator(), false, true);
  const auto optimizer = make_optimizer({{"type", "adamw"}}, flat);
  EXPECT_FALSE(rounded_copy(flat.matrices().values));
  run_steps(*optimizer, flat, parameters, 0, 1);
  const Tensor& weight = parameters.all[0].tensor();
  EXPECT_TRUE(bit_identical(rounded_copy(weight), weight.to(DType::bf16)));
  flat.matrices().values.fill(0.3);
  EXPECT_FALSE(rounded_copy(weight));
  flat.round_matrices();
  EXPECT_TRUE(bit_identical(rounded_copy(weight), weight.to(DType::bf16)));
  EXPECT_FALSE(flat.vectors().rounded);
  Parameters wide(kShapes, DType::f64);
  FlatParameters flat_wide(wide, single_communicator(), false, true);
  flat_wide.round_matrices();
  EXPECT_FALSE(flat_wide.matrices().rounded);
}

TEST(FlatParameters, SharesEndBetweenParameters) {
  testing::run_ranks(3, [&](Communicator& communicator) {
    Parameters parameters(kShapes, DType::f32);
    FlatParameters flat(parameters, communicator, true);
    for (const auto& bucket : flat.buckets())
      for (const int64_t begin : bucket.begin)
        EXPECT_TRUE(begin == bucket.values.numel() ||
                    std::any_of(bucket.members.begin(), bucket.members.end(),
                                [&](const auto& m) { return m.offset == begin; }))
            << begin;
  });
}

}  // namespace
}  // namespace reverie
