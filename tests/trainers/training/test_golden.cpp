// Our models against PyTorch's: logits, loss, every gradient, and ten AdamW steps
// (tests/golden/README.md).

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/safetensors.h"
#include "layers/language_model.h"
#include "support/tests_directory.h"
#include "trainers/optimizers/optimizer_support.h"

namespace reverie {
namespace {

const char* const kCases[] = {
    "gpt2_hf",         "gpt_nano",    "llama_hf",  "imm_as_published",      "imm_full_rank",
    "imm_causal_mean", "imm_segment", "imm_slots", "imm_segment_overwrite", "imm_slots_overwrite"};

// |a - b| / |b|, Euclidean; NaN where a or b holds one.
double relative_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.shape().str(), b.shape().str());
  const auto x = a.to_vector(), y = b.to_vector();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    difference += (x[i] - y[i]) * (x[i] - y[i]);
    norm += y[i] * y[i];
  }
  return std::sqrt(difference / norm);
}

// One golden state and the model that its configuration describes, with its parameters loaded.
struct Golden {
  explicit Golden(const std::string& name, DType dtype = DType::f32)
      : file(read_safetensors(testing::test_directory() + "/golden/" + name + ".safetensors")) {
    Generator random(1);
    const Component component = resolve_component(ModelRegistry::instance(),
                                                  Config::parse(file.metadata.at("config"), name));
    model = ModelRegistry::instance().make(component, Build{random, dtype});
    NamedTensors parameters;
    for (const auto& [key, tensor] : file.tensors)
      if (key.starts_with("param.")) parameters.emplace_back(key.substr(6), tensor);
    model->load(parameters);
    for (int32_t t : targets_of(file)) target_count += t >= 0;
  }
  static std::vector<int32_t> targets_of(const SafetensorsFile& f) {
    const auto v = f.at("targets").to_vector();
    return {v.begin(), v.end()};
  }
  Variable loss() const {
    return model->loss(file.at("tokens"), file.at("targets"), 1 / double(target_count));
  }
  // Largest relative difference of a gradient tensor; `worst` names it.
  double gradient_difference(std::string& worst) const {
    backward(loss());
    double largest = -1;
    for (const auto& [name, parameter] : model->parameters()) {
      EXPECT_TRUE(parameter.grad().defined()) << name;
      if (!parameter.grad().defined()) continue;
      const double difference = relative_difference(parameter.grad(), file.at("grad." + name));
      if (!(difference <= largest)) {
        largest = difference;
        worst = name;
      }
    }
    return largest;
  }

  SafetensorsFile file;
  std::unique_ptr<LanguageModel> model;
  int64_t target_count = 0;
};

// The largest relative difference from the stored losses over ten updates.
double training_difference(const Golden& golden) {
  FlatParameters parameters(*golden.model);
  const auto optimizer = testing::make_optimizer({{"type", "adamw"},
                                                  {"beta1", 0.9},
                                                  {"beta2", 0.95},
                                                  {"eps", 1e-8},
                                                  {"weight_decay", 0.1},
                                                  {"gradient_clip", 1.0}},
                                                 parameters);
  const auto wanted = golden.file.at("losses").to_vector();
  EXPECT_EQ(wanted.size(), 10u);
  double largest = 0;
  for (double w : wanted) {
    parameters.clear_gradients();
    const Variable loss = golden.loss();
    const double difference = std::abs(loss.tensor().item() - w) / w;
    if (!(difference <= largest)) largest = difference;
    backward(loss);
    optimizer->step(1e-2, parameters.gradient_norm());
  }
  return largest;
}

class GoldenStates : public ::testing::TestWithParam<const char*> {};

TEST_P(GoldenStates, LogitsAndLoss) {
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::f32, 1e-5}, std::pair{DType::f64, 1e-6}}) {
    const Golden golden(GetParam(), dtype);
    NoGrad guard;
    EXPECT_LT(relative_difference(golden.model->logits(golden.file.at("tokens")).tensor(),
                                  golden.file.at("logits")),
              tolerance);
    const double wanted = golden.file.at("loss").item();
    EXPECT_NEAR(golden.loss().tensor().item(), wanted,
                wanted * (dtype == DType::f32 ? 1e-6 : 1e-13));
  }
}

TEST_P(GoldenStates, EveryGradient) {
  std::string worst;
  EXPECT_LT(Golden(GetParam(), DType::f32).gradient_difference(worst), 1e-5) << worst;
  EXPECT_LT(Golden(GetParam(), DType::f64).gradient_difference(worst), 1e-6)
      << worst;  // stored in f32
}

// In f64 the losses agree to 1e-9. In f32 rounding grows with the steps: 1e-5, but for one case
// whose training is so sensitive that PyTorch's own f32 run leaves its f64 run by 1.4e-5 (every
// other case: by 2e-6 at most).
TEST_P(GoldenStates, TenAdamWSteps) {
  const double f32_tolerance = std::string(GetParam()) == "imm_segment_overwrite" ? 5e-5 : 1e-5;
  EXPECT_LT(training_difference(Golden(GetParam(), DType::f32)), f32_tolerance);
  EXPECT_LT(training_difference(Golden(GetParam(), DType::f64)), 1e-9);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenStates, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param); });

// The comparison itself must be able to fail: one weight off by a hundredth.
TEST(GoldenSelfTest, OnePerturbedWeightIsSeen) {
  const Golden golden("gpt_nano", DType::f64);
  for (auto& [name, parameter] : golden.model->parameters())
    if (name == "transformer.h.1.mlp.c_fc.weight") {
      Tensor weight = parameter.tensor();
      weight.mutable_data<double>()[77] += 0.01;
    }
  std::string worst;
  {
    NoGrad guard;
    EXPECT_GT(relative_difference(golden.model->logits(golden.file.at("tokens")).tensor(),
                                  golden.file.at("logits")),
              1e-5);
    EXPECT_GT(std::abs(golden.loss().tensor().item() / golden.file.at("loss").item() - 1), 1e-9);
  }
  EXPECT_GT(golden.gradient_difference(worst), 1e-5);
  for (auto& [name, parameter] : golden.model->parameters()) {
    Variable p = parameter;
    p.clear_grad();
  }
  EXPECT_GT(training_difference(golden), 1e-5);
}

}  // namespace
}  // namespace reverie
