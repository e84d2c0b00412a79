// Every registered memory module and source of latents, with every choice of its options, without
// anybody listing it: the causality gate, and runs that are stopped and resumed. (Gradients,
// decoding and state: tests/layers. The canary on live models: evaluation/test_canary.cpp.)

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "support/registered_components.h"
#include "support/temporary_directory.h"
#include "trainers/probes/causality.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::leaks_by_definition;
using testing::missing_options;
using testing::model_with_latents;
using testing::model_with_memory;
using testing::MonitoredTrainer;
using testing::RegisteredCase;

// ---- the gate -----------------------------------------------------------------------------------

class GatedMemory : public ::testing::TestWithParam<RegisteredCase> {};
INSTANTIATE_TEST_SUITE_P(Registered, GatedMemory,
                         ::testing::ValuesIn(testing::registered_memories()),
                         [](const auto& info) { return info.param.name; });

TEST_P(GatedMemory, IsCausalUnlessItsDefinitionLeaks) {
  const Json model = model_with_memory(GetParam().component);
  ASSERT_EQ(missing_options(GetParam(), model), "");
  const CausalityReport report = gate_causality(
      resolve_component(ModelRegistry::instance(), Config(model, "$.model")), DType::f32);
  EXPECT_EQ(report.causal(), !leaks_by_definition(GetParam().component)) << report.text();
}

// ---- resumed runs -------------------------------------------------------------------------------

class Runs {
 public:
  Runs() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  // How a run that was stopped after 2 of 4 steps and resumed differs from one that was not; "": in
  // no bit.
  std::string resume_error(Json model) {
    model.erase("vocab_size");
    if (model.contains("memory")) model["block_size"] = 10;  // the gate's cost grows with it
    Config c = Config::parse(
        R"({"seed": 7, "allow_future_leak": true, "train": {"steps": 4, "batch_size": 4},
            "optimizer": {"warmup_steps": 2, "learning_rate": 0.01},
            "evaluation": {"interval": 0, "windows": 4, "prefix_only_windows": 2,
                           "final_windows": 4, "final_prefix_only_windows": 2},
            "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 2, "keep": 0}})",
        "test");
    c.merge(Config(Json{{"model", model}}, "$"));
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    const ExperimentOptions experiment = read_experiment(c, ".");
    MonitoredTrainer(experiment, control("whole")).run();
    RunControl first = control("parts");
    first.stop_after = 2;
    if (MonitoredTrainer(experiment, first).run() != RunEnd::stopped)
      return "the run was not stopped";
    MonitoredTrainer(experiment, control("parts", true)).run();
    return difference();
  }

 private:
  RunControl control(const std::string& name, bool resume = false) {
    RunControl c;
    c.run_directory = directory_ / name;
    c.resume = resume;
    return c;
  }
  NamedTensors weights(const std::string& name) {
    return read_checkpoint(latest_checkpoint(directory_ / name).value()).model;
  }
  std::string difference() {
    const NamedTensors a = weights("whole"), b = weights("parts");
    if (a.empty() || a.size() != b.size()) return "other parameters are saved";
    for (size_t i = 0; i < a.size(); ++i)
      if (a[i].first != b[i].first || !bit_identical(a[i].second, b[i].second))
        return a[i].first + " differs";
    const Json whole = read_summary(directory_ / "whole"),
               parts = read_summary(directory_ / "parts");
    return whole.at("val_loss") == parts.at("val_loss") ? "" : "val_loss differs";
  }

  testing::TemporaryDirectory directory_;
};

class ResumedComponent : public ::testing::TestWithParam<RegisteredCase> {};
INSTANTIATE_TEST_SUITE_P(Memories, ResumedComponent,
                         ::testing::ValuesIn(testing::registered_memories()),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Sources, ResumedComponent,
                         ::testing::ValuesIn(testing::registered_sources()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ResumedComponent, GoesOnToTheBit) {
  const Json& component = GetParam().component;
  const std::vector<std::string> memories = MemoryRegistry::instance().names();
  const bool memory =
      std::find(memories.begin(), memories.end(), component.at("type")) != memories.end();
  const Json model = memory ? model_with_memory(component) : model_with_latents(component);
  ASSERT_EQ(missing_options(GetParam(), model), "");
  EXPECT_EQ(Runs().resume_error(model), "");
}

// The comparison can fail: a module whose counter no checkpoint holds.
struct NoOptions final : Fieldset {
  void fields(Fields&) override {}
};
class CountingMemory final : public MemoryModule {
 public:
  CountingMemory(const NoOptions&, const MemorySite& site) {
    weight_ = parameter("weight", site.build.weights({site.features}, 0.5));
  }
  Variable after_block(const LayerView& view, MemoryState&) override {
    if (training()) ++calls_;
    return add(view.hidden,
               scale(multiply(view.hidden, weight_), training() ? 0.01 * double(calls_) : 0));
  }
  bool incremental() const override { return true; }

 private:
  Variable weight_;
  int64_t calls_ = 0;
};
REVERIE_REGISTER_MEMORY("test_counting", CountingMemory, NoOptions, "its counter is not saved");

TEST(ResumedComponentCheck, FindsStateThatIsNotSaved) {
  EXPECT_THAT(Runs().resume_error(model_with_memory({{"type", "test_counting"}})),
              HasSubstr("differs"));
}

}  // namespace
}  // namespace reverie
