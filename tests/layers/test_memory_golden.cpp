// Every registered memory module against PyTorch (tests/golden/make/make_memory_golden.py): outputs,
// gradients, and the state after three windows.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "support/registered_components.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::largest_difference;

std::string golden_directory() {
  return testing::test_directory() + "/golden/memories";
}
std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_directory()))
    names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

struct Golden {
  explicit Golden(const std::string& name)
      : file(read_safetensors(golden_directory() + "/" + name + ".safetensors")),
        memory(parse_json(file.metadata.at("memory"))) {}
  const Tensor& at(const std::string& name) const {
    for (const auto& [n, tensor] : file.tensors)
      if (n == name) return tensor;
    throw InternalError("no golden tensor " + name);
  }
  SafetensorsFile file;
  Json memory;
};

// What the module makes of the golden inputs, computed in `dtype`.
struct Result {
  std::unique_ptr<MemoryModule> module;
  std::vector<Variable> x, outputs;
  MemoryState state;
};
Result run(const Golden& golden, DType dtype) {
  Result r;
  Generator random(1);
  const Build build{random, dtype};
  const int64_t width = golden.at("x").size(-1);
  const auto& registry = MemoryRegistry::instance();
  r.module = registry.make(resolve_component(registry, Config(golden.memory, "$.memory")),
                           MemorySite{width, 1, build});
  NamedTensors parameters;
  for (const auto& [name, tensor] : golden.file.tensors)
    if (name.starts_with("param.")) parameters.emplace_back(name.substr(6), tensor);
  r.module->load(parameters);
  Variable loss;
  for (int64_t window = 0; window < golden.at("x").size(0); ++window) {
    const auto of_window = [&](const char* name) {
      return golden.at(name).select(0, window).contiguous().clone().to(dtype);
    };
    r.x.push_back(Variable(of_window("x"), true));
    if (window == 0) r.state = r.module->initial(r.x[0].size(0), dtype, {});
    const Variable front = r.module->rows_before(r.x[0].size(0), r.state),
                   rows = front ? concat({front, r.x.back()}, 1) : r.x.back();
    r.outputs.push_back(
        r.module->after_block({0, r.module->before_block({0, rows}, r.state)}, r.state));
    r.module->after_rows(r.outputs.back(), r.state);
    const Variable own = sum_all(multiply(r.outputs.back(), Variable(of_window("weight"))));
    loss = loss ? add(loss, own) : own;
  }
  EXPECT_NEAR(loss.tensor().item(), golden.at("loss").item(), dtype == DType::f64 ? 1e-6 : 1e-4);
  backward(loss);
  return r;
}
// Relative to the largest value that is wanted, where that is above 1.
double error_of(const Tensor& got, const Tensor& wanted) {
  double largest = 1;
  for (const double v : wanted.to_vector()) largest = std::max(largest, std::abs(v));
  return largest_difference(got.to(DType::f64), wanted.to(DType::f64)) / largest;
}

class MemoryGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void expect_all_near(const Result& r, const Golden& golden, double tolerance) {
    for (size_t w = 0; w < r.x.size(); ++w) {
      EXPECT_LT(error_of(r.outputs[w].tensor(), golden.at("output").select(0, int64_t(w))),
                tolerance)
          << "window " << w;
      EXPECT_LT(error_of(r.x[w].grad(), golden.at("grad_x").select(0, int64_t(w))), tolerance)
          << "window " << w;
    }
    size_t compared = 0;
    for (const auto& [name, parameter] : r.module->parameters())
      EXPECT_LT(error_of(parameter.grad(), golden.at("grad." + name)), tolerance) << name;
    for (const auto& [name, tensor] : golden.file.tensors) {
      if (!name.starts_with("state.")) continue;
      ++compared;
      const auto it = r.state.values.find(name.substr(6));
      ASSERT_NE(it, r.state.values.end()) << name;
      EXPECT_LT(error_of(it->second.tensor(), tensor), tolerance) << name;
    }
    EXPECT_EQ(compared, r.state.values.size());
  }
};
INSTANTIATE_TEST_SUITE_P(Cases, MemoryGolden, ::testing::ValuesIn(golden_cases()),
                         [](const auto& info) { return info.param; });

TEST_P(MemoryGolden, IsAsPyTorchInF32) {
  const Golden golden(GetParam());
  expect_all_near(run(golden, DType::f32), golden, 1e-5);
}
TEST_P(MemoryGolden, IsAsPyTorchInF64) {  // the golden values are rounded to f32
  const Golden golden(GetParam());
  expect_all_near(run(golden, DType::f64), golden, 2e-7);
}
TEST_P(MemoryGolden, TheComparisonCanFail) {
  const Golden golden(GetParam());
  const Result r = run(golden, DType::f64);
  const Tensor other = golden.at("output").select(0, 1);
  EXPECT_GT(error_of(r.outputs[0].tensor(), other), 1e-3);
}

// The IMM's golden states are of whole models (tests/trainers/training/test_golden.cpp).
TEST(MemoryGoldenCoverage, EveryRegisteredModuleHasACase) {
  std::set<std::string> covered = {"imm"};
  for (const std::string& name : golden_cases())
    covered.insert(Golden(name).memory.at("type").get<std::string>());
  for (const std::string& type : MemoryRegistry::instance().names())
    if (!type.starts_with("test_")) {
      EXPECT_TRUE(covered.contains(type))
          << type << " has no golden state: add a case to tests/golden/make/make_memory_golden.py";
    }
}

}  // namespace
}  // namespace reverie
