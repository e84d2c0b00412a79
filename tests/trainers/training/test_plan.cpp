// What `reverie plan` foretells, beside what training then takes.

#include "trainers/training/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/cuda.h"
#include "core/error.h"
#include "core/signals.h"
#include "core/storage.h"
#include "layers/kept_weights.h"
#include "layers/pretrained/gguf_model_writer.h"
#include "layers/pretrained/load.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"
#include "trainers/distributed/ranks.h"
#include "trainers/optimizers/flat_parameters.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

// The most bytes of tensors in use during the steps of a run, evaluations and samples left out.
class PeakOfSteps final : public Callback {
 public:
  explicit PeakOfSteps(Device device) : memory_(allocator(device)) {}
  void on_start(const RunView&, int64_t) override { memory_.reset_peak(); }
  void on_step(const RunView&, const StepInfo&) override { peak = memory_.stats().peak; }
  size_t peak = 0;

 private:
  Allocator& memory_;
};

class PlannedMemory : public ::testing::TestWithParam<std::string> {
 protected:
  PlannedMemory() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 200; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  ExperimentOptions experiment(const std::string& device) {
    Config c = Config::parse(
        R"({"train": {"steps": 2, "batch_size": 8, "micro_batches": 2},
      "evaluation": {"interval": 0, "windows": 1, "prefix_only_windows": 1, "final_windows": 1, "final_prefix_only_windows": 1},
      "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 0, "keep": 0}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    c.set("data.prepared_directory=" + (directory_ / "tokens"));
    c.merge(Config::parse(GetParam(), "patch"));
    ExperimentOptions o = read_experiment(c, ".");
    o.device = device;
    return o;
  }
  // Planned over measured.
  void expect_foretold(const std::string& device, double tolerance) {
    const ExperimentOptions o = experiment(device);
    const Plan plan = plan_run(o);
    EXPECT_DOUBLE_EQ(plan.kept_bytes + plan.activation_bytes, plan.peak_bytes);
    // Each padded a little.
    EXPECT_NEAR(plan.kept_bytes / (plan.weight_bytes + plan.gradient_bytes + plan.rounded_bytes +
                                   plan.optimizer_bytes + plan.carried_bytes),
                1, 0.1);
    Allocator& memory = allocator(o.tensor_device());
    const size_t before = memory.stats().in_use;
    PeakOfSteps peak(o.tensor_device());
    RunControl control;
    control.run_directory = directory_ / device;
    control.callbacks = {&peak};
    MonitoredTrainer trainer(o, control);
    ASSERT_EQ(trainer.run(), RunEnd::finished);
    ASSERT_GT(peak.peak, before);
    // On the CPU, frozen weights stay in their file.
    const double taken = double(peak.peak - before) + (device == "cpu" ? plan.frozen_bytes : 0.0);
    EXPECT_NEAR(plan.peak_bytes / taken, 1, tolerance)
        << plan.peak_bytes << " bytes planned, " << taken << " taken";
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_P(PlannedMemory, IsWhatTrainingTakesOnTheCpu) {
  expect_foretold("cpu", 0.05);
}

TEST_P(PlannedMemory, IsWhatTrainingTakesOnTheDevice) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  expect_foretold("cuda", 0.1);
}

constexpr const char* kNames[] = {"gpt2",
                                  "gpt2_bf16",
                                  "llama_rematerialized",
                                  "delta_rule",
                                  "muon",
                                  "coprocessor",
                                  "low_rank",
                                  "coprocessor_rematerialized",
                                  "delta_rule_rematerialized"};
const std::string kBase = "\"" + testing::test_directory() + "/golden/pretrained/llama\"";
INSTANTIATE_TEST_SUITE_P(
    Models, PlannedMemory,
    ::testing::Values(
        R"({"model": {"type": "gpt2", "block_size": 32, "n_layer": 3, "n_head": 2, "n_embd": 48, "dropout": 0.1}})",
        R"({"precision": "bf16", "model": {"type": "gpt2", "block_size": 32, "n_layer": 3, "n_head": 2, "n_embd": 48}})",
        R"({"model": {"type": "llama", "block_size": 32, "n_layer": 3, "n_head": 2, "n_kv_head": 1, "n_embd": 48, "rematerialize": true}})",
        R"({"train": {"windows": 2}, "model": {"type": "llama", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 48,
            "memory": {"type": "delta_rule", "heads": 2, "carry_state": true}}})",
        R"({"optimizer": {"type": "muon"}, "model": {"type": "llama", "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 48}})",
        R"({"model": {"type": "augmented", "latents": {"type": "coprocessor", "count": 4}, "block_size": 24, "groups": 6, "ahead": 4, "base": )" +
            kBase + "}}",
        R"({"model": {"type": "pretrained", "block_size": 32, "rank": 4, "path": )" + kBase + "}}",
        R"({"model": {"type": "augmented", "rematerialize": true, "latents": {"type": "coprocessor", "count": 4}, "block_size": 24, "groups": 6, "ahead": 4, "base": )" +
            kBase + "}}",
        R"({"train": {"windows": 2}, "model": {"type": "llama", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 48, "rematerialize": true,
            "memory": {"type": "delta_rule", "heads": 2, "carry_state": true}}})"),
    [](const auto& info) { return kNames[info.index]; });

ExperimentOptions planned(const std::string& patch) {
  Config c = Config::parse(
      R"({"data": {"path": "none.txt"}, "train": {"steps": 1000, "batch_size": 16}})", "test");
  c.merge(Config::parse(patch, "patch"));
  return read_experiment(c, ".");
}

// Each rank has its sequences, and with a sharded optimizer its share of the moments.
TEST(Plan, RanksShareActivationsAndMoments) {
  const std::string model =
      R"({"model": {"type": "llama", "vocab_size": 96, "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 48}, "distributed": {"shard_optimizer": true}})";
  const Plan one = plan_run(planned(model)), four = plan_run(planned(model), 4);
  EXPECT_NEAR(four.step_flops / one.step_flops, 1, 0.02);
  EXPECT_EQ(four.gradient_bytes, one.gradient_bytes);
  EXPECT_NEAR(four.optimizer_bytes / one.optimizer_bytes, 0.25, 0.1);
  EXPECT_NEAR(four.activation_bytes / one.activation_bytes, 0.25, 0.05);
  EXPECT_EQ(four.tokens_per_step, 16 * 32);
  const GpuRates& gpu = find_gpu("h100");
  EXPECT_DOUBLE_EQ(one.seconds_on(gpu, 0.5, true), 1000 * one.step_flops / (0.5 * gpu.bf16));
  EXPECT_DOUBLE_EQ(four.seconds_on(gpu, 0.5, false), 250 * four.step_flops / (0.5 * gpu.f32));
  EXPECT_THROW(plan_run(planned(model), 17), ConfigError);
  EXPECT_THROW(find_gpu("abacus"), UserError);
}

// Ranks in bf16 keep the f32 values of their own share of the matrices alone.
TEST(Plan, RanksShareMastersInBf16) {
  const auto plan = [](bool shard, bool rematerialize, int ranks) {
    return plan_run(
        planned(fmt::format(
            R"({{"precision": "bf16", "distributed": {{"shard_optimizer": {}}}, "model": {{"type": "llama",
          "vocab_size": 64, "block_size": 32, "n_layer": 8, "n_head": 2, "n_embd": 96, "rematerialize": {}}}}})",
            shard, rematerialize)),
        ranks);
  };
  const Plan one = plan(true, false, 1), all = plan(false, false, 4), shared = plan(true, false, 4);
  EXPECT_EQ(one.weight_bytes, all.weight_bytes);
  EXPECT_EQ(all.gradient_bytes, all.weight_bytes);
  EXPECT_NEAR(shared.weight_bytes / all.weight_bytes, 0.25, 0.03);
  EXPECT_EQ(shared.gradient_bytes, all.gradient_bytes);
  EXPECT_EQ(shared.rounded_bytes, all.rounded_bytes);
  EXPECT_NEAR(shared.optimizer_bytes / all.optimizer_bytes, 0.25, 0.03);
  EXPECT_NEAR(
      shared.kept_bytes,
      shared.weight_bytes + shared.gradient_bytes + shared.rounded_bytes + shared.optimizer_bytes,
      0.1 * shared.kept_bytes);  // each padded a little
  // What evaluations gather lies where gradients do.
  EXPECT_LT(shared.evaluation_peak_bytes, 0.8 * all.evaluation_peak_bytes);
  // Copies take the place of f32 values, so that they are worth their memory here.
  EXPECT_EQ(plan(false, true, 4).rounded_bytes, 0);
  const Plan again = plan(true, true, 4);
  EXPECT_EQ(again.rounded_bytes, all.rounded_bytes);
  EXPECT_LT(again.weight_bytes + again.rounded_bytes, 0.8 * all.weight_bytes);
}

// Shares end between matrices: the plan is of a rank that has a large one, or reads it in f32
// besides its share.
TEST(Plan, IsOfTheRankThatKeepsTheMost) {
  for (const std::string precision : {"f32", "bf16"})
    for (const auto& [vocabulary, layers, ranks] :
         {std::tuple(4096, 2, 8), std::tuple(1500, 3, 2)}) {
      SCOPED_TRACE(fmt::format("{}, {} tokens", precision, vocabulary));
      const ExperimentOptions o = planned(fmt::format(
          R"({{"precision": "{}", "distributed": {{"shard_optimizer": true}}, "model": {{"type": "llama",
            "vocab_size": {}, "block_size": 16, "n_layer": {}, "n_head": 2, "n_embd": 32, "tie_weights": true}}}})",
          precision, vocabulary, layers));
      const Plan plan = plan_run(o, ranks);
      const auto communicators = make_local_communicators(ranks);
      double most = 0;
      for (size_t rank = 0; rank < communicators.size(); ++rank) {
        Generator random(1);
        const auto model = ModelRegistry::instance().make(o.model, Build{random});
        const FlatParameters flat(*model, *communicators[rank], true, precision == "bf16");
        double bytes = double(flat.value_bytes());
        for (const auto& bucket : flat.buckets())
          bytes += 8 * double(bucket.begin[rank + 1] - bucket.begin[rank]);
        most = std::max(most, bytes);
      }
      EXPECT_EQ(plan.weight_bytes + plan.optimizer_bytes, most);
      if (ranks == 8) {
        EXPECT_GE(plan.optimizer_bytes, plan_run(o).optimizer_bytes / 8);
        EXPECT_GE(plan.optimizer_bytes, 8.0 * vocabulary * 32) << "moments of the embedding";
      }
    }
}

// Before the first step, gradients stand beside the parameters as they were made: more than a small
// step takes, where many ranks share the rest.
TEST(Plan, CountsThePeakBeforeTheFirstStep) {
  const auto plan = [](bool shard) {
    return plan_run(
        planned(fmt::format(
            R"({{"precision": "bf16", "distributed": {{"shard_optimizer": {}}}, "train": {{"batch_size": 8}}, "evaluation": {{"batch_size": 1}},
          "model": {{"type": "llama", "vocab_size": 64, "block_size": 8, "n_layer": 8, "n_head": 2, "n_embd": 96, "rematerialize": true}}}})",
            shard)),
        8);
  };
  const Plan shared = plan(true), whole = plan(false);
  EXPECT_GT(shared.start_peak_bytes, shared.peak_bytes);
  EXPECT_EQ(shared.most_bytes(), shared.start_peak_bytes);
  EXPECT_NEAR(shared.start_peak_bytes / double(shared.parameters), 8 + 4.0 / 8, 0.4);
  EXPECT_EQ(shared.json().at("start_peak_bytes"), shared.start_peak_bytes);
  EXPECT_LE(whole.start_peak_bytes, whole.peak_bytes);
  EXPECT_EQ(whole.most_bytes(), std::max(whole.peak_bytes, whole.evaluation_peak_bytes));
}

// Two ranks between steps, beside the plan for one of them.
TEST(Plan, IsWhatRanksWithShardedMastersKeep) {
  struct Kept final : Callback {
    void on_step(const RunView& t, const StepInfo& s) override {
      t.communicator().barrier();
      if (t.communicator().first() && s.step == 2) bytes = allocator({}).stats().in_use;
      t.communicator().barrier();
    }
    size_t bytes = 0;
  };
  const testing::Experiments experiments;
  const std::string patch =
      R"({"precision": "bf16", "train": {"steps": 2}, "model": {"n_layer": 4, "n_embd": 48}, "distributed": {"shard_optimizer": )";
  const ExperimentOptions options = experiments.options(patch + "true}}");
  const size_t before = allocator({}).stats().in_use;
  size_t taken = 0;
  const auto errors = testing::run_ranks(2, [&](Communicator& communicator) {
    Kept kept;
    RunControl c = experiments.control("run", communicator);
    c.callbacks.push_back(&kept);
    MonitoredTrainer(options, c).run();
    if (communicator.first()) taken = kept.bytes - before;
  });
  ASSERT_EQ(errors, std::vector<std::string>(2));
  EXPECT_NEAR(2 * plan_run(options, 2).kept_bytes / double(taken), 1, 0.05);
  EXPECT_GT(2 * plan_run(experiments.options(patch + "false}}"), 2).kept_bytes,
            1.3 * double(taken));
}

// A dry run of the real step knows what rematerialisation spares, and what it costs.
TEST(Plan, ShowsWhatRematerialisationChanges) {
  const std::string before =
      R"({"model": {"type": "augmented", "latents": {"type": "coprocessor", "count": 8}, "block_size": 40, "groups": 16, "ahead": 8, "base": )" +
      kBase;
  const Plan plain = plan_run(planned(before + "}}")),
             again = plan_run(planned(before + R"(, "rematerialize": true}})"));
  EXPECT_EQ(again.kept_bytes, plain.kept_bytes);
  EXPECT_LT(again.activation_bytes, 0.8 * plain.activation_bytes);
  EXPECT_GT(again.step_flops, 1.1 * plain.step_flops);
}

// In bf16, what backward reads again is kept in 16 bits (autograd/precision.h).
TEST(Plan, ActivationsAreKeptInBf16) {
  const std::string llama =
      R"({"train": {"batch_size": 4}, "model": {"type": "llama", "vocab_size": 64, "block_size": 64, "n_layer": 12, "n_head": 2, "n_embd": 96}, "precision": ")";
  const Plan f32 = plan_run(planned(llama + "f32\"}")), bf16 = plan_run(planned(llama + "bf16\"}"));
  EXPECT_EQ(f32.rounded_bytes, 0);
  EXPECT_NEAR(bf16.rounded_bytes / bf16.weight_bytes, 0.5, 0.01);  // vectors have no copy
  EXPECT_NEAR(bf16.kept_bytes, f32.kept_bytes + bf16.rounded_bytes, 0.01 * f32.kept_bytes);
  EXPECT_LT(bf16.activation_bytes, 0.75 * f32.activation_bytes);
  const Plan again = plan_run(planned(
      R"({"train": {"batch_size": 4}, "model": {"type": "llama", "vocab_size": 64, "block_size": 64, "n_layer": 12, "n_head": 2, "n_embd": 96, "rematerialize": true}, "precision": "bf16"})"));
  EXPECT_EQ(again.rounded_bytes, 0);
  EXPECT_EQ(again.kept_bytes, f32.kept_bytes);
}

// A base takes what its file takes, on the CPU and on a GPU.
TEST(Plan, CompactWeightsTakeWhatTheirFileTakes) {
  const TemporaryDirectory directory;
  const std::string sizes =
      R"("vocab_size": 96, "block_size": 40, "n_layer": 2, "n_head": 2, "n_embd": 64})";
  const std::string models[] = {
      R"({"type": "llama", )" + sizes,
      R"({"type": "gpt2", "bias": true, "activation": "gelu_tanh", )" + sizes};
  for (const std::string& component : models)
    for (const auto type : {GgufTensorType::q8_0, GgufTensorType::f16, GgufTensorType::bf16}) {
      const std::string file = directory / "model.gguf";
      GgufWriter out;
      write_gguf_model(out,
                       plain_model(*testing::make_model(component, DType::f32),
                                   testing::model_component(component)),
                       type);
      out.text("tokenizer.ggml.model", "no_vocab");
      out.save(file);
      ExperimentOptions o = planned(
          R"({"precision": "bf16", "model": {"type": "augmented", "latents": {"type": "coprocessor", "count": 4}, "block_size": 24, "groups": 4, "ahead": 4, "base": ")" +
          file + "\"}}");
      const Plan on_cpu = plan_run(o);
      const LoadedModel base = load_pretrained(file);
      const KeptWeights kept = kept_weights(*base.model);
      EXPECT_EQ(on_cpu.frozen_bytes, double(kept.bytes));
      EXPECT_LT(kept.bytes, 0.6 * double(kept.wide));
      o.device = "cuda";
      const Plan on_gpu = plan_run(o);
      EXPECT_EQ(on_gpu.frozen_bytes, double(kept.bytes));
      EXPECT_EQ(on_gpu.kept_bytes, on_cpu.kept_bytes);
      EXPECT_EQ(on_gpu.trained_parameters, on_cpu.trained_parameters);
      // There, products round weights themselves.
      EXPECT_LE(on_gpu.activation_bytes, on_cpu.activation_bytes);
    }
}

// A machine without a GPU plans for one.
TEST(Plan, CountsForADeviceThatIsNotHere) {
  const std::string on_gpu =
      R"({"device": "cuda", "model": {"type": "gpt2", "vocab_size": 96, "block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 16}})";
  if (!cuda::status().usable) {
    EXPECT_THROW(planned(on_gpu), ConfigError);
  }
  {
    const AbsentDevicesAllowed planning;
    const Plan p = plan_run(planned(on_gpu));
    EXPECT_EQ(p.json().at("device"), "cuda");
    EXPECT_GT(p.peak_bytes, p.kept_bytes);
  }
  if (!cuda::status().usable) {
    EXPECT_THROW(planned(on_gpu), ConfigError);
  }
}

// The data's vocabulary is not known, and the base has fewer rows than most have tokens.
TEST(Plan, TakesNewTokensOfASmallBaseWithoutTheData) {
  const auto parameters = [](const std::string& options) {
    return plan_run(
               planned(R"({"model": {"type": "pretrained", "path": )" + kBase + options + "}}"))
        .parameters;
  };
  const int64_t own = parameters("");
  EXPECT_EQ(parameters(R"(, "vocab_size": 0)"), own);
  EXPECT_EQ(parameters(R"(, "vocab_size": 0, "new_tokens": 5)"), own);
}

TEST(Plan, CountsTheOperationsOfTheKernels) {
  const ExperimentOptions o = planned(
      R"({"model": {"type": "gpt2", "vocab_size": 256, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 64}})");
  Generator random(1);
  const auto model = ModelRegistry::instance().make(o.model, Build{random});
  EXPECT_NEAR(plan_run(o).step_flops / (3 * model->forward_flops_per_token(64) * 16 * 64), 1, 0.1);
}

// A model that this machine could not hold is planned at once, on no more than the shapes.
TEST(Plan, TakesNeitherTheMemoryNorTheWeights) {
  const Plan large = plan_run(planned(
      R"({"precision": "bf16", "train": {"batch_size": 64}, "model": {"type": "llama", "vocab_size": 32000, "block_size": 4096, "n_layer": 32, "n_head": 32, "n_embd": 4096, "n_hidden": 11008}})"));
  EXPECT_EQ(large.parameters, 6738415616);  // Llama 2 7B
  EXPECT_GT(large.kept_bytes, 4 * 4 * 6.7e9);
  EXPECT_GT(large.peak_bytes, 1e12);
  EXPECT_LT(allocator({}).stats().in_use, size_t(1) << 30) << "nothing of it is left";

  const TemporaryDirectory directory;
  const std::string golden = testing::test_directory() + "/golden/pretrained/llama";
  std::filesystem::copy(golden + "/config.json", directory / "config.json");
  const auto beside = [&](const std::string& base) {
    return plan_run(planned(
        R"({"model": {"type": "augmented", "latents": {"type": "coprocessor"}, "block_size": 24, "groups": 4, "ahead": 4, "base": ")" +
        base + "\"}}"));
  };
  EXPECT_EQ(beside(directory.path()).json(), beside(golden).json());
  EXPECT_EQ(beside(golden).frozen_bytes, 26560);
  EXPECT_THROW(load_pretrained(directory.path()), UserError);
}

}  // namespace
}  // namespace reverie
