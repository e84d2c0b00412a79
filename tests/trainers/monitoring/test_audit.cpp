// The audit of a run: every trainable tensor is reached, no frozen one changes.

#include "core/json.h"
#include "trainers/monitoring/audit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/files.h"
#include "core/signals.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

class AuditTest : public ::testing::Test {
 protected:
  AuditTest() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  ExperimentOptions experiment(const std::string& model) {
    Config c = Config::parse(
        R"({"train": {"steps": 4, "batch_size": 2}, "evaluation": {"interval": 0, "windows": 2,
        "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
        "sample": {"tokens": 0}, "checkpoint": {"interval": 2}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    c.set("model=" + model);
    return read_experiment(c, ".");
  }
  RunControl control(std::vector<Callback*> callbacks = {}) {
    RunControl c;
    c.run_directory = directory_ / "run";
    c.resume = true;
    c.callbacks = std::move(callbacks);
    return c;
  }
  Json audit() { return parse_json(read_file(directory_ / "run/audit.json")); }

  const std::string beside_ = R"({"type": "augmented", "base": ")" + testing::test_directory() +
                              R"(/golden/pretrained/llama", "latents": {"type": "coprocessor",
    "count": 2}, "block_size": 16, "groups": 4, "ahead": 4})";
  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(AuditTest, SaysWhatIsTrainedAndWhatIsNot) {
  MonitoredTrainer trainer(experiment(beside_), control());
  const std::string before = frozen_hash(trainer.model());
  EXPECT_EQ(trainer.run(), RunEnd::finished);
  const Json a = audit();
  size_t trainable = 0, frozen = 0;
  for (const auto& [name, parameter] : trainer.model().parameters()) {
    EXPECT_EQ(parameter.requires_grad(), !name.starts_with("base.")) << name;
    (parameter.requires_grad() ? trainable : frozen) += 1;
  }
  EXPECT_EQ(a["trainable_tensors"], trainable);
  EXPECT_EQ(a["frozen_tensors"], frozen);
  EXPECT_EQ(a["without_gradient"], Json::array());
  EXPECT_EQ(a["frozen_hash"], before);
  EXPECT_EQ(frozen_hash(trainer.model()), before);
}

TEST_F(AuditTest, WhatLiesBehindZerosIsReachedInTheSecondStep) {
  std::string lora = beside_;
  lora.insert(lora.find("\"count\""), "\"initial\": \"lora\", \"rank\": 2, ");
  MonitoredTrainer trainer(experiment(lora), control());
  int64_t behind = 0, frozen = 0;
  for (const auto& [name, parameter] : trainer.model().parameters()) {
    EXPECT_EQ(parameter.requires_grad(), !name.starts_with("base.")) << name;
    behind += name.ends_with(".lora_a");
    frozen += name.starts_with("base.");
  }
  EXPECT_GT(behind, 0);
  EXPECT_EQ(trainer.run(), RunEnd::finished);
  const Json a = audit();
  EXPECT_EQ(a["without_gradient"], Json::array());
  EXPECT_EQ(a["reached_in_second_step"].size(), behind);
  EXPECT_EQ(a["trainable_tensors"], 2 * behind + 1);  // A, B and the soft tokens
  EXPECT_EQ(a["frozen_tensors"], frozen);
  // What was saved is the base and the updates, and opens as what was trained.
  const LoadedRun run = load_run(directory_ / "run");
  const auto text = Tensor::from<int32_t>({1, 12}, {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8});
  const auto loss = [&](LanguageModel& m) {
    NoGrad no_grad;
    m.train(false);
    return m.loss(text, text, 1.0).tensor().item();
  };
  EXPECT_EQ(loss(*run.model), loss(trainer.model()));
}

TEST_F(AuditTest, LatentsInTheCacheAreTrainedAndTheirIdlePartsAreNot) {
  std::string cache = beside_;
  cache.insert(cache.find("\"count\""), "\"writes\": \"cache\", ");
  MonitoredTrainer trainer(experiment(cache), control());
  EXPECT_EQ(trainer.run(), RunEnd::finished);
  EXPECT_EQ(audit()["without_gradient"], Json::array());
  EXPECT_EQ(audit()["reached_in_second_step"], Json::array());
}

TEST_F(AuditTest, AModelWithoutFrozenPartsHasNoHash) {
  MonitoredTrainer trainer(
      experiment(R"({"type": "gpt2", "block_size": 16, "n_layer": 1, "n_head": 2,
    "n_embd": 8})"),
      control());
  EXPECT_EQ(trainer.run(), RunEnd::finished);
  EXPECT_EQ(audit()["frozen_hash"], "");
  EXPECT_EQ(audit()["frozen_tensors"], 0);
}

struct Meddler final : Callback {
  int64_t at = 0;
  void on_step(const RunView& t, const StepInfo& info) override {
    if (info.step != at) return;
    Tensor weight = t.model().parameters()[0].second.tensor();
    weight.mutable_data<float>()[0] += 1e-6f;
  }
};

TEST_F(AuditTest, ARunWhoseFrozenPartChangedDoesNotFinish) {
  Meddler meddler;
  meddler.at = 3;
  MonitoredTrainer trainer(experiment(beside_), control({&meddler}));
  EXPECT_THROW(trainer.run(), InternalError);
  EXPECT_FALSE(run_finished(directory_ / "run"));
  // Nor does it when other frozen weights meet what the run wrote of them at its start.
  Json written = audit();
  written["frozen_hash"] = std::string(32, '0');
  write_file_atomically(directory_ / "run/audit.json", json_text(written));
  MonitoredTrainer resumed(experiment(beside_), control());
  try {
    resumed.run();
    ADD_FAILURE() << "a changed base went unnoticed";
  } catch (const InternalError& e) {
    EXPECT_THAT(e.what(), HasSubstr("when this run began"));
  }
}

// Of four parameters one is used, one only times zero, one not at all, and one is frozen.
struct Parts final : Module {
  static Tensor ones() { return Tensor::full({2}, 1.0, DType::f32); }
  Variable used = parameter("used", ones()), muted = parameter("muted", ones()),
           unused = parameter("unused", ones()), frozen = parameter("frozen", ones());
};

TEST_F(AuditTest, WhatNoGradientReachesIsNamed) {
  Parts parts;
  parts.frozen.set_requires_grad(false);
  EXPECT_THAT(without_gradient(parts), ElementsAre("used", "muted", "unused"));
  backward(sum_all(concat({parts.used, affine(parts.muted, 0), parts.frozen}, 0)));
  EXPECT_THAT(without_gradient(parts), ElementsAre("muted", "unused"));
}

}  // namespace
}  // namespace reverie
