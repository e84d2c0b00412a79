// Muon beside PyTorch's own (tests/golden/make/make_muon_golden.py).

#include <gtest/gtest.h>

#include <cmath>

#include "core/safetensors.h"
#include "support/tests_directory.h"
#include "trainers/optimizers/optimizer_support.h"

namespace reverie {
namespace {

using testing::make_optimizer;
using testing::Parameters;
using testing::set_gradients;

double largest_difference(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector(), y = b.to_vector();
  EXPECT_EQ(x.size(), y.size());
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) largest = std::max(largest, std::abs(x[i] - y[i]));
  return largest;
}

// The largest difference from PyTorch's parameters over three steps of all shapes.
double difference(const std::string& golden_case, const Json& options, DType dtype) {
  const SafetensorsFile golden =
      read_safetensors(testing::test_directory() + "/golden/muon.safetensors");
  double largest = 0;
  for (const std::string shape : {"wide", "tall", "square"}) {
    const Tensor initial = golden.at(shape + ".initial");
    Parameters parameters({{"hidden.weight", initial.shape()}}, dtype);
    FlatParameters flat(parameters);
    Tensor value = parameters.all[0].tensor();
    value.copy_from(initial);
    const auto optimizer = make_optimizer(options, flat);
    for (int step = 0; step < 3; ++step) {
      set_gradients(flat, parameters,
                    {golden.at(shape + ".gradient." + std::to_string(step)).to(dtype)});
      optimizer->step(0.02, flat.gradient_norm());
      largest = std::max(largest, largest_difference(parameters.all[0].tensor(),
                                                     golden.at(shape + "." + golden_case + "." +
                                                               std::to_string(step))));
    }
  }
  return largest;
}

Json muon(bool nesterov, const char* scale) {
  return {{"type", "muon"},
          {"nesterov", nesterov},
          {"scale", scale},
          {"weight_decay", 0.1},
          {"gradient_clip", 0}};
}

TEST(Muon, EqualsPyTorch) {
  EXPECT_LT(difference("nesterov", muon(true, "original"), DType::f64), 1e-12);
  EXPECT_LT(difference("plain", muon(false, "match_rms_adamw"), DType::f64), 1e-12);
  EXPECT_LT(difference("nesterov", muon(true, "original"), DType::f32), 1e-5);
}
TEST(Muon, TheComparisonSeesEachOption) {
  EXPECT_GT(difference("nesterov", muon(false, "original"), DType::f64), 1e-4);
  EXPECT_GT(difference("plain", muon(false, "original"), DType::f64), 1e-4);
  Json other = muon(true, "original");
  other["newton_schulz_steps"] = 4;
  EXPECT_GT(difference("nesterov", other, DType::f64), 1e-4);
}

TEST(Muon, VectorsAndNamedMatricesGoToAdamW) {
  const std::vector<std::pair<std::string, Shape>> shapes = {
      {"wte.weight", {6, 4}}, {"h.0.weight", {4, 4}}, {"h.0.bias", {4}}};
  const auto after = [&](const Json& options) {
    Parameters parameters(shapes, DType::f64), gradients(shapes, DType::f64, 2);
    FlatParameters flat(parameters);
    const auto optimizer = make_optimizer(options, flat);
    for (int step = 0; step < 2; ++step) {
      set_gradients(
          flat, parameters,
          {gradients.all[0].tensor(), gradients.all[1].tensor(), gradients.all[2].tensor()});
      optimizer->step(0.01, flat.gradient_norm());
    }
    std::vector<Tensor> values;
    for (const Variable& v : parameters.all) values.push_back(v.tensor().clone());
    return values;
  };
  const auto by_muon = after({{"type", "muon"}}), by_adamw = after({{"type", "adamw"}});
  EXPECT_TRUE(bit_identical(by_muon[0], by_adamw[0]));
  EXPECT_FALSE(bit_identical(by_muon[1], by_adamw[1]));
  EXPECT_TRUE(bit_identical(by_muon[2], by_adamw[2]));
}

}  // namespace
}  // namespace reverie
