// Answers to records of examples, side by side, against those written one by one; latents that stand
// behind questions, those of other questions, and the loss that trains them.

#include "trainers/benchmarks/problem_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "datasets/dataset.h"
#include "datasets/sampler.h"
#include "layers/coprocessor/augmented_model.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/benchmarks/continuation_scores.h"
#include "trainers/benchmarks/greedy_texts.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/generation/answer_accuracy.h"

namespace reverie {
namespace {

using testing::TemporaryDirectory;

class ProblemAnswersTest : public ::testing::Test {
 protected:
  Dataset data_of(int64_t stage, int64_t thoughts) {
    const Json json = {{"problems",
                        {{"type", "reachability"},
                         {"wording", "short"},
                         {"nodes", 7},
                         {"nodes_deviation", 0},
                         {"steps", {1, 2}},
                         {"step_weights", {1, 1}},
                         {"train", 20},
                         {"held_out", 24}}},
                       {"examples", {{"stage", stage}, {"thoughts", thoughts}}},
                       {"tokenizer", "word"},
                       {"prepared_directory", directory_ / ("stage" + std::to_string(stage))}};
    DataOptions options;
    read_config(Config(json, "$.data"), options);
    return prepare_and_open(options);
  }
  static std::unique_ptr<LanguageModel> make(Json json) {
    Generator random(3);
    const Component component =
        resolve_component(ModelRegistry::instance(), Config(json, "$.model"));
    return ModelRegistry::instance().make(component, Build{random, DType::f64});
  }
  std::unique_ptr<LanguageModel> plain(const Dataset& data) {
    return make({{"type", "llama"},
                 {"vocab_size", data.vocabulary_size()},
                 {"block_size", 96},
                 {"n_layer", 2},
                 {"n_head", 2},
                 {"n_embd", 16},
                 {"n_hidden", 24}});
  }
  TemporaryDirectory directory_;
};

TEST_F(ProblemAnswersTest, SideBySideAreThoseWrittenOneByOne) {
  for (const int64_t stage : {0, 9}) {
    const Dataset data = data_of(stage, 0);
    const auto model = plain(data);
    const AnswerAccuracy alone = answer_accuracy(*model, data.validation, *data.examples, 0);
    for (const int64_t batch_tokens : {1, 4096}) {
      const ProblemAnswers together =
          answer_problems(*model, data.validation, *data.examples, {0, batch_tokens});
      ASSERT_EQ(together.right.size(), 24u);
      EXPECT_DOUBLE_EQ(together.accuracy(), alone.share());
      EXPECT_DOUBLE_EQ(together.mean_written(), alone.written);
      EXPECT_TRUE(together.verdict.causal());
      EXPECT_GT(together.milliseconds, 0);
    }
    EXPECT_EQ(answer_problems(*model, data.validation, *data.examples, {7}).right.size(), 7u);
  }
}

// Final states are all ones, so that the rows of the head decide alone.
TEST_F(ProblemAnswersTest, RowsOfNoTokenAreNotWritten) {
  const Dataset data = data_of(9, 0);
  const int64_t end = data.examples->end(), spare = data.vocabulary_size() + 1;
  const auto model = make({{"type", "gpt2"},
                           {"bias", true},
                           {"vocab_size", data.vocabulary_size() + 2},
                           {"block_size", 96},
                           {"n_layer", 1},
                           {"n_head", 2},
                           {"n_embd", 16}});
  for (const auto& [name, parameter] : model->parameters()) {
    if (name.find("ln_f") == name.npos) continue;
    Tensor values = parameter.tensor();
    values.fill(name.ends_with("bias") ? 1 : 0);
  }
  Tensor head = model->head().tensor();
  head.fill(0);
  head.slice(0, end, end + 1).fill(1);
  head.slice(0, spare, spare + 1).fill(2);
  EXPECT_EQ(answer_accuracy(*model, data.validation, *data.examples, 0).written, 0);
  // Here the end is one of the tokens.
  EXPECT_EQ(answer_problems(*model, data.validation, *data.examples, {}).mean_written(), 1);
}

// What a model is right about is counted as right.
TEST_F(ProblemAnswersTest, AnAnswerIsRightTokenByToken) {
  const Dataset data = data_of(9, 0);
  const ExampleLayout& layout = *data.examples;
  // Each record with the answer that the model itself writes: then it is right about all of them.
  const auto model = plain(data);
  const EvaluationMode mode(*model);
  TextReader reader(*model, {});
  std::vector<Reading> prompts;
  std::vector<int32_t> record(static_cast<size_t>(layout.length));
  for (int64_t i = 0; i < 24; ++i) {
    data.validation.copy(i * layout.length, record);
    const auto prompt = prompt_of(layout, record);
    prompts.push_back({{prompt.begin(), prompt.end()}, {}, "", false});
  }
  const ReadingPlan plan = plan_readings(prompts, 4096, false);
  TokenFileWriter writer(directory_ / "own.tok", int32_t(data.vocabulary_size()), "", "");
  std::vector<std::vector<int32_t>> own(24);
  for (const ReadingBatch& batch : plan.batches) {
    const int64_t most = layout.length - int64_t(prompts[batch.readings[0]].context.size());
    const TokenWritingOptions writing{most, int64_t(layout.thought()) + 1, {layout.end()}};
    const auto texts = write_tokens(reader, prompts, plan, batch, writing, false);
    for (size_t b = 0; b < texts.size(); ++b) own[batch.readings[b]] = texts[b];
  }
  for (size_t i = 0; i < 24; ++i) {
    std::vector<int32_t> all = prompts[i].context;
    all.insert(all.end(), own[i].begin(), own[i].end());
    all.resize(size_t(layout.length), layout.end());
    writer.append(all);
  }
  writer.finish();
  const ProblemAnswers answers =
      answer_problems(*model, open_tokens(directory_ / "own.tok", {}), layout, {});
  EXPECT_EQ(answers.accuracy(), 1.0);
  EXPECT_LT(answer_problems(*model, data.validation, layout, {}).accuracy(), 1.0);
}

// Two texts whose targets lie at different places.
Batch two_texts() {
  Batch batch;
  batch.tokens =
      Tensor::from<int32_t>({2, 9}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1});
  batch.targets = Tensor::from<int32_t>(
      {2, 9}, {-1, -1, -1, 5, 6, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 2});
  return batch;
}

TEST(PointsAtTargets, StandInFrontOfTheFirstTarget) {
  const Batch b = two_texts();
  const InsertionPoints points = points_at_targets(b.tokens, b.targets, 4);
  EXPECT_EQ(points.limits.to_vector(), (std::vector<double>{4, 8}));
  EXPECT_EQ(points.targets.to_vector(), (std::vector<double>{5, 6, 1, 2}));
  EXPECT_EQ(points.ahead.to_vector(), (std::vector<double>{5, 1}));
  EXPECT_THAT(testing::message_of<UserError>([&] { points_at_targets(b.tokens, b.targets, 1); }),
              ::testing::HasSubstr("raise $.model.ahead to 2"));
  Tensor none = b.targets.clone();
  none.fill(-1);
  EXPECT_THAT(testing::message_of<UserError>([&] { points_at_targets(b.tokens, none, 4); }),
              ::testing::HasSubstr("has no target"));
}

// A text that ends before others have all their targets is filled up with rows that nothing scores.
TEST(PointsAtTargets, MayReachBehindATextsEnd) {
  const Tensor tokens = Tensor::from<int32_t>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}),
               targets = Tensor::from<int32_t>({2, 4}, {-1, 3, 4, 5, -1, -1, -1, 9});
  const InsertionPoints points = points_at_targets(tokens, targets, 16);
  EXPECT_EQ(points.limits.to_vector(), (std::vector<double>{2, 4}));
  EXPECT_EQ(points.targets.to_vector(), (std::vector<double>{3, 4, 5, 9, -1, -1}));
  EXPECT_EQ(points.ahead.to_vector(), (std::vector<double>{3, 4, 8, 8}));
}

std::unique_ptr<LanguageModel> augmented(const char* latents) {
  const Json config = {{"type", "augmented"},
                       {"base", testing::test_directory() + "/golden/pretrained/llama"},
                       {"latents", parse_json(latents)},
                       {"insert", "targets"},
                       {"block_size", 24},
                       {"groups", 1},
                       {"ahead", 4}};
  Generator random(11);
  const ModelRegistry& models = ModelRegistry::instance();
  auto model =
      models.make(resolve_component(models, Config(config, "$.model")), Build{random, DType::f64});
  model->train(false);
  return model;
}
constexpr const char* kCoprocessor = R"({"type": "coprocessor", "count": 3, "initial": "scratch"})";
constexpr const char* kSoft = R"({"type": "soft_embeddings", "count": 3})";

// The loss that trains latents is that of the answers which are written behind them.
TEST(LatentsAtTargets, AreTrainedWhereTheyAreUsed) {
  for (const char* latents : {kCoprocessor, kSoft}) {
    const auto model = augmented(latents);
    const EvaluationMode mode(*model);
    const Batch b = two_texts();
    const std::vector<Reading> readings = {{{1, 2, 3, 4}, {{0, 0, {5, 6}}}, "", false},
                                           {{9, 8, 7, 6, 5, 4, 3, 2}, {{1, 0, {1, 2}}}, "", false}};
    TextReader reader(*model, {true, 64, nullptr});
    const ReadingPlan plan = plan_readings(readings, 64, false);
    double sum = 0;
    for (const ReadingBatch& batch : plan.batches)
      for (const auto& scores : score_continuations(reader, readings, plan, batch, false))
        sum -= scores[0].log_likelihood;
    EXPECT_NEAR(model->loss(b.tokens, b.targets, 1.0, nullptr).tensor().item(), sum, 1e-9);
    // And evaluation scores the same places.
    auto& augmented_model = dynamic_cast<AugmentedModel&>(*model);
    const AugmentedSum found =
        augmented_sum(augmented_model, b.tokens, b.targets, InsertionRule::of(augmented_model));
    EXPECT_NEAR(found.loss, sum, 1e-9);
    EXPECT_EQ(found.predictions, 4);
    EXPECT_EQ(found.insertions, 2);
  }
}

TEST(ShuffledLatents, AreThoseOfAnotherText) {
  const auto model = augmented(kCoprocessor);
  auto& latent = dynamic_cast<AugmentedModel&>(*model);
  const EvaluationMode mode(*model);
  const std::vector<std::vector<int32_t>> texts = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9, 10}};
  std::vector<Reading> readings;
  for (const auto& text : texts) readings.push_back({text, {}, "", false});
  const ReadingPlan plan = plan_readings(readings, 64, false);
  const auto read = [&](const std::vector<int32_t>& text, SequenceState& state, Variable& last) {
    state.use_cache = true;
    const Tensor tokens = Tensor::from<int32_t>({1, int64_t(text.size())}, text);
    last = model->hidden(tokens, &state);
    return latent.latents_for(state, last, tokens);
  };
  // By hand: each text's own cache, and the latents of the next one.
  const auto expected = [&](size_t of, size_t donor) {
    SequenceState state, other;
    Variable ignored;
    read(texts[of], state, ignored);
    const Variable latents = read(texts[donor], other, ignored);
    return latent.insert(state, Tensor::from<int32_t>({1, 1}, {texts[of].back()}), latents)
        .tensor()
        .to_vector();
  };
  TextReader shuffled(*model, {true, 64, nullptr, true}), own(*model, {true, 64, nullptr});
  for (const ReadingBatch& batch : plan.batches) {
    const Tensor last = shuffled.read(readings, plan, batch, false).last.tensor(),
                 plain = own.read(readings, plan, batch, false).last.tensor();
    for (size_t b = 0; b < batch.readings.size(); ++b) {
      const size_t of = batch.readings[b], donor = of == 2 ? 0 : 1 - of;
      const auto row = last.slice(0, int64_t(b), int64_t(b) + 1).contiguous().to_vector(),
                 mine = plain.slice(0, int64_t(b), int64_t(b) + 1).contiguous().to_vector(),
                 wanted = expected(of, donor);
      ASSERT_EQ(row.size(), wanted.size());
      double moved = 0;
      for (size_t i = 0; i < row.size(); ++i) {
        EXPECT_NEAR(row[i], wanted[i], 1e-9) << "text " << of;
        moved = std::max(moved, std::abs(row[i] - mine[i]));
      }
      EXPECT_GT(moved, 1e-3) << "text " << of;
    }
  }
  TextReader alone(*model, {true, 64, nullptr, true});
  const std::vector<Reading> one = {readings[0]};
  const ReadingPlan plan_of_one = plan_readings(one, 64, false);
  EXPECT_THAT(testing::message_of<UserError>(
                  [&] { alone.read(one, plan_of_one, plan_of_one.batches[0], false); }),
              ::testing::HasSubstr("got one text"));
}

TEST(LatentsAtTargets, AreOneGroupInEachText) {
  Json config = {
      {"type", "augmented"}, {"base", "x"}, {"latents", parse_json(kSoft)}, {"insert", "targets"}};
  EXPECT_THAT(testing::message_of<ConfigError>(
                  [&] { resolve_component(ModelRegistry::instance(), Config(config, "$.model")); }),
              ::testing::HasSubstr("set groups to 1"));
}

}  // namespace
}  // namespace reverie
