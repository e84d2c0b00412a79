// Steps of several windows (train.windows) and batches without answers, on a generated task.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "core/error.h"
#include "datasets/task_sampler.h"
#include "datasets/tasks/generated_task.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"
#include "trainers/evaluation/task_accuracy.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/batch_gradient.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using testing::MonitoredTrainer;

constexpr const char* kConfig =
    R"({"precision": "f64", "train": {"steps": 3, "batch_size": 4, "windows": 2},
        "data": {"generated": {"type": "recall", "window": 12, "windows": 2, "pairs": 2,
                               "questions": 2, "keys": 6, "values": 3, "distances": [1],
                               "documents": 50, "validation_documents": 8, "test_documents": 8}},
        "model": {"type": "llama", "block_size": 12, "n_layer": 2, "n_head": 2, "n_embd": 8,
                  "memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 4,
                             "chunk_length": 2, "carry_state": true}},
        "optimizer": {"warmup_steps": 1},
        "evaluation": {"interval": 2, "windows": 4, "prefix_only_windows": 2, "final_windows": 4,
                       "final_prefix_only_windows": 2},
        "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 1, "keep": 0}})";

class SilentTask final : public GeneratedTask {
 public:
  explicit SilentTask(const TaskOptions& o) : GeneratedTask(o) {}
  std::vector<std::string> words() const override { return {"a"}; }
  double chance(int64_t) const override { return 1; }
  std::vector<TaskWindow> document(Generator&) const override {
    return std::vector<TaskWindow>(size_t(options().windows), TaskWindow(3));
  }
};
REVERIE_REGISTER_TASK("test_silent", SilentTask, TaskOptions, "asks nothing");

class WindowsOfAStep : public ::testing::Test {
 protected:
  ExperimentOptions experiment(std::initializer_list<std::string> changes = {}) {
    Config c = Config::parse(kConfig, "test");
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    for (const std::string& change : changes) c.set(change);
    return read_experiment(c, ".");
  }
  std::unique_ptr<LanguageModel> model(const Dataset& data) {
    Json json = Config::parse(kConfig, "test").json().at("model");
    json["vocab_size"] = data.vocabulary_size();
    return testing::make_model(json.dump());
  }
  testing::TemporaryDirectory directory_;
};

// The gradient that a batch has, window after window.
struct Gradient {
  double loss = 0;
  std::vector<Tensor> of_parameters;
};
Gradient by_hand(LanguageModel& model, const Batch& batch, int64_t window, bool cut) {
  SequenceState state;
  Variable loss;
  for (int64_t begin = 0; begin < batch.tokens.size(1); begin += window) {
    const auto piece = [&](const Tensor& t) {
      return t.slice(1, begin, begin + window).contiguous();
    };
    const Variable own = model.loss(piece(batch.tokens), piece(batch.targets),
                                    1 / double(batch.target_count), &state);
    loss = loss ? add(loss, own) : own;
    if (cut) state.memory.detach();
  }
  Gradient out{loss.tensor().item(), {}};
  for (const auto& [name, p] : model.parameters()) Variable(p).clear_grad();
  backward(loss);
  for (const auto& [name, p] : model.parameters())
    out.of_parameters.push_back(p.grad().defined() ? p.grad().clone()
                                                   : Tensor::zeros(p.shape(), p.dtype()));
  return out;
}
double difference(const Gradient& a, const Gradient& b) {
  double largest = 0;
  for (size_t i = 0; i < a.of_parameters.size(); ++i)
    largest =
        std::max(largest, testing::largest_difference(a.of_parameters[i], b.of_parameters[i]));
  return largest;
}

// The trainer's.
Gradient of_a_step(LanguageModel& model, const Sampler& sampler, const ExperimentOptions& options) {
  FlatParameters parameters(model);
  const BatchSplit split(options, 0, 1);
  GradientReducer reducer(parameters.flat_gradients(), single_communicator(), split.tree(),
                          split.exact(), 1 << 20);
  BatchGradient gradient(model, sampler, split, reducer, single_communicator(), Device{});
  parameters.clear_gradients();
  Gradient out{gradient.compute(0, true).loss, {}};
  for (const auto& [name, p] : model.parameters()) out.of_parameters.push_back(p.grad().clone());
  return out;
}

TEST_F(WindowsOfAStep, TheGradientGoesThroughCarriedMemory) {
  const ExperimentOptions options = experiment();
  const Dataset data = prepare_and_open(options.data);
  const TaskSampler sampler(data.train, data.train_rule(), 4, 24, 5);
  const auto one = model(data), two = model(data), three = model(data);
  const Batch batch = sampler.batch(0);
  ASSERT_GT(batch.target_count, 0);
  const Gradient whole = by_hand(*one, batch, 12, false), cut = by_hand(*two, batch, 12, true),
                 step = of_a_step(*three, sampler, options);
  EXPECT_NEAR(step.loss, whole.loss, 1e-12);
  EXPECT_LT(difference(step, whole), 1e-12);
  EXPECT_GT(difference(cut, whole), 1e-4) << "what a cut leaves out would not be seen";
}

TEST_F(WindowsOfAStep, ABatchWithoutAnswersHasNoLossAndNoGradient) {
  const ExperimentOptions options = experiment({"train.windows=1"});
  const Dataset data = prepare_and_open(options.data);
  const TaskSampler sampler(data.train, data.train_rule(), 4, 12, 5);
  ASSERT_EQ(sampler.target_count(0), 0) << "first windows are never asked";
  ASSERT_GT(sampler.target_count(1), 0);
  const auto trained = model(data);
  const Gradient step = of_a_step(*trained, sampler, options);
  EXPECT_EQ(step.loss, 0);
  for (const Tensor& g : step.of_parameters)
    for (const double v : g.to_vector()) EXPECT_EQ(v, 0);
}

TEST_F(WindowsOfAStep, ARunGoesOnToTheBitWhereverItStops) {
  for (const char* windows : {"train.windows=1", "train.windows=2"}) {
    const ExperimentOptions e = experiment({windows});
    const auto control = [&](const std::string& name) {
      RunControl c;
      c.run_directory = directory_ / (name + windows);
      return c;
    };
    MonitoredTrainer(e, control("whole")).run();
    RunControl parts = control("parts");
    for (const int64_t stop : {1, 2}) {
      parts.stop_after = stop;
      ASSERT_EQ(MonitoredTrainer(e, parts).run(), RunEnd::stopped);
      parts.resume = true;
    }
    parts.stop_after.reset();
    MonitoredTrainer(e, parts).run();
    const auto weights = [&](const RunControl& c) {
      return read_checkpoint(latest_checkpoint(c.run_directory).value()).model;
    };
    const NamedTensors a = weights(control("whole")), b = weights(parts);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i)
      EXPECT_TRUE(bit_identical(a[i].second, b[i].second)) << windows << ", " << a[i].first;
    EXPECT_TRUE(
        std::isfinite(read_summary(control("whole").run_directory).at("val_loss").get<double>()));
  }
}

TEST_F(WindowsOfAStep, AStepReadsOnToABatchWithAnswers) {
  RunControl c;
  c.run_directory = directory_ / "run";
  MonitoredTrainer(experiment({"train.windows=1", "evaluation.interval=0"}), c).run();
  int64_t steps = 0;
  for (const Json& event : read_metrics(c.run_directory)) {
    if (event.at("event") != "train") continue;
    ++steps;
    EXPECT_GT(event.at("loss").get<double>(), 0);
    EXPECT_EQ(event.at("tokens"), 8 * steps) << "two answers in each of four rows";
  }
  EXPECT_EQ(steps, 3);
  const Json state = read_checkpoint(latest_checkpoint(c.run_directory).value()).state;
  EXPECT_EQ(state.at("batch"), 6) << "a first window before each of the steps";
}

TEST_F(WindowsOfAStep, DataWithoutAnswersIsAnError) {
  RunControl c;
  c.run_directory = directory_ / "run";
  const ExperimentOptions e = experiment(
      {R"(data.generated={"type": "test_silent", "window": 12, "windows": 2, "distances": [1],
                          "documents": 5, "validation_documents": 2, "test_documents": 2})",
       "model.memory=null"});
  const std::string message = testing::message_of<DataError>([&] { MonitoredTrainer(e, c).run(); });
  EXPECT_THAT(message, ::testing::HasSubstr("have nothing to learn from"));
}

// The whole way: a memory learns to carry a symbol into the next window. Without it that window has
// only chance.
TEST_F(WindowsOfAStep, AMemoryLearnsWhatAttentionCannotSee) {
  Config c = Config::parse(kConfig, "test");
  c.merge(Config::parse(
      R"({"precision": "f32", "train": {"steps": 120, "batch_size": 16},
          "data": {"generated": {"type": "copy", "window": 6, "length": 1, "symbols": 4,
                                 "pairs": null, "questions": null, "keys": null, "values": null,
                                 "documents": 500, "test_documents": 200}},
          "model": {"block_size": 6, "n_embd": 16,
                    "memory": {"type": "delta_rule", "heads": 1, "mode": null, "num_slots": null,
                               "low_rank_dim": null}},
          "optimizer": {"learning_rate": 0.01},
          "evaluation": {"interval": 0}, "checkpoint": {"interval": 0}})",
      "test"));
  c.set("data.prepared_directory=" + (directory_ / "copy"));
  const ExperimentOptions e = read_experiment(c, ".");
  RunControl control;
  control.run_directory = directory_ / "run";
  MonitoredTrainer(e, control).run();
  const LoadedRun run = load_run(control.run_directory);
  const Dataset data = prepare_and_open(e.data);
  const auto share = [&](CarriedState state) {
    return task_accuracy(*run.model, data.test, data.test_answers, *data.task, 0, 50, state)
        .at(0)
        .share();
  };
  EXPECT_GT(share(CarriedState::as_model), 0.9);
  EXPECT_NEAR(share(CarriedState::reset), 0.25, 0.13);  // four deviations of 200 answers
}

TEST_F(WindowsOfAStep, AWindowThatIsNoBlockIsRefused) {
  RunControl c;
  c.run_directory = directory_ / "run";
  const auto message = [&](std::initializer_list<std::string> changes) -> std::string {
    try {
      MonitoredTrainer(experiment(changes), c).run();
    } catch (const UserError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(message({"model.block_size=16"}),
              ::testing::HasSubstr("block_size 16 does not fit the task recall"));
  EXPECT_THAT(message({"train.windows=3"}),
              ::testing::HasSubstr("train.windows is 3, and a document of the task recall is 2"));
  EXPECT_THAT(message({"model.vocab_size=9"}), ::testing::HasSubstr("vocabulary_size 9"));
}

}  // namespace
}  // namespace reverie
