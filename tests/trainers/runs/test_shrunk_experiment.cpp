// Experiments whose sizes are divided: they can be built whatever the divisor, and say so.

#include "trainers/runs/shrunk_experiment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "layers/language_model.h"
#include "layers/model_options.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/exporting/random_base.h"
#include "trainers/runs/verdict.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::message_of;
using testing::TemporaryDirectory;

const Json kModels = Json::parse(R"([
  {"type": "gpt2", "vocab_size": 50257, "block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768},
  {"type": "llama", "vocab_size": 32000, "block_size": 2048, "n_layer": 22, "n_head": 32, "n_kv_head": 4, "n_embd": 2048, "n_hidden": 5632},
  {"type": "llama", "vocab_size": 0, "block_size": 256, "n_layer": 6, "n_head": 9, "n_kv_head": 3, "n_embd": 576},
  {"type": "gemma2", "vocab_size": 256000, "block_size": 8192, "n_layer": 26, "n_head": 8, "n_kv_head": 4, "head_dim": 256, "n_embd": 2304, "n_hidden": 9216},
  {"type": "gpt2", "vocab_size": 65, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "memory": {"type": "imm", "mode": "slots", "low_rank_dim": 128}},
  {"type": "llama", "vocab_size": 65, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "memory": {"type": "delta_rule", "heads": 4}}
])");

TEST(ShrunkModel, CanBeBuiltByAnyDivisor) {
  for (const Json& model : kModels)
    for (const int64_t by : {2, 3, 5, 7, 10, 64, 1000, 1000000}) {
      SCOPED_TRACE(model.dump() + " / " + std::to_string(by));
      const Component component = with_vocabulary_of_data(
          resolve_component(ModelRegistry::instance(), Config(model, "$")), 70);
      const Json shrunk = shrunk_model(*component.resolved, {.by = by, .directory = "/none"});
      Generator random(1);
      const auto made = ModelRegistry::instance().make(
          resolve_component(ModelRegistry::instance(), Config(shrunk, "$")), Build{random});
      EXPECT_LE(shrunk["n_embd"], model["n_embd"]);
      EXPECT_LE(shrunk["n_layer"].get<int64_t>(),
                std::max<int64_t>(2, model["n_layer"].get<int64_t>() / by));
      EXPECT_EQ(shrunk.contains("memory"), component.resolved->contains("memory"));
      const Tensor tokens = Tensor::zeros({1, 4}, DType::i32);
      EXPECT_EQ(made->logits(tokens).size(2), made->vocabulary_size());
    }
}

class ShrunkExperimentTest : public ::testing::Test {
 protected:
  Shrinking by(int64_t k, bool makes = true) {
    return {.by = k, .directory = directory_ / "made", .makes = makes};
  }
  static Config config(const std::string& text) { return Config::parse(text, "test"); }
  TemporaryDirectory directory_;
};

TEST_F(ShrunkExperimentTest, DividesAndIsNotDividedTwice) {
  const Config whole = config(
      R"({"data": {"path": "no_text.txt", "tokenizer": "pretrained", "tokenizer_files": "nowhere", "document_separator": "<|endoftext|>"},
      "model": {"type": "gpt2", "block_size": 1024, "n_layer": 12, "n_head": 12, "n_embd": 768},
      "train": {"steps": 100000, "batch_size": 512, "micro_batches": 64}, "optimizer": {"warmup_steps": 1000},
      "evaluation": {"windows": 200, "final_windows": 0}})");
  const ShrunkExperiment shrunk = shrunk_experiment(whole, ".", by(10));
  const ExperimentOptions o = read_experiment(shrunk.config, ".");
  EXPECT_EQ(o.shrunk_by, 10);
  EXPECT_EQ(o.train.steps, 10000);
  EXPECT_EQ(o.train.batch_size, 51);
  EXPECT_EQ(51 % o.train.micro_batches, 0);
  EXPECT_EQ(o.evaluation.windows, 20);
  EXPECT_EQ(o.evaluation.final_windows, 20);
  EXPECT_EQ((*o.optimizer.resolved)["schedule"]["warmup_steps"], 100);
  EXPECT_EQ(configured_block_size(o.model), 102);
  EXPECT_TRUE(shrunk.base_shape.is_null());
  EXPECT_EQ(o.data.tokenizer, "bpe");
  const Dataset data = prepare_and_open(o.data);
  EXPECT_TRUE(data.documents.has_value());
  EXPECT_GT(data.validation.count(), 10000);
  EXPECT_EQ(shrunk_experiment(shrunk.config, ".", by(10)).config.json(), shrunk.config.json());
  EXPECT_THAT(message_of<ConfigError>([&] { shrunk_experiment(shrunk.config, ".", by(4)); }),
              HasSubstr("$.shrunk_by is 10"));
}

TEST_F(ShrunkExperimentTest, APlanMakesNoFile) {
  shrunk_experiment(config(R"({"data": {"path": "no_text.txt"}, "model": {"type": "gpt2"}})"), ".",
                    by(4, false));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "made"));
}

TEST_F(ShrunkExperimentTest, ABaseIsOneOfItsShapeWithRandomWeights) {
  const std::string base = testing::test_directory() + "/golden/pretrained/gemma2";
  const Config whole(
      {{"model", {{"type", "augmented"}, {"base", base}, {"latents", {{"type", "coprocessor"}}}}}},
      "$");
  const ShrunkExperiment shrunk = shrunk_experiment(whole, ".", by(2));
  EXPECT_EQ(shrunk.config.json()["model"]["base"], shrunk.base);
  EXPECT_EQ(shrunk.base_shape["n_head"], 2);
  EXPECT_EQ(shrunk.base_shape["block_size"], 64) << "latents stand behind the text";
  write_random_base(shrunk.base_shape, shrunk.base);
  EXPECT_EQ(published_shape(shrunk.base)["n_hidden"], shrunk.base_shape["n_hidden"]);
  const Config nowhere({{"model", {{"type", "pretrained"}, {"path", "nowhere"}}}}, "$");
  EXPECT_THAT(message_of<ConfigError>([&] { shrunk_experiment(nowhere, ".", by(2)); }),
              HasSubstr("nowhere is not there"));
}

TEST(ShrunkVerdict, IsInEveryLabelAndStays) {
  Verdict verdict;
  EXPECT_EQ(verdict.word(), "unknown");
  verdict.set_shrunk(64);
  verdict.add({"other tokens behind the cut", "here", 0, 0, 3});
  EXPECT_EQ(verdict.label(), "shrunk by 64");
  EXPECT_EQ(verdict.word(), "causal, shrunk by 64");
  EXPECT_THAT(verdict.line(), HasSubstr("shrunk by 64; causal"));
  EXPECT_FALSE(verdict.leaks());
  EXPECT_TRUE(verdict.causal());
  Verdict other = Verdict::from_json(verdict.json());
  EXPECT_EQ(other.label(), "shrunk by 64");
  other.add({"other tokens behind the cut", "here", 1, 0, 5});
  verdict.merge(other);
  EXPECT_EQ(verdict.label(), "LEAKS, shrunk by 64");
  EXPECT_EQ(verdict.label_at(2), "LEAKS, shrunk by 64 (unknown before step 5)");
  EXPECT_FALSE(Verdict().json().contains("shrunk_by"));
}

}  // namespace
}  // namespace reverie
