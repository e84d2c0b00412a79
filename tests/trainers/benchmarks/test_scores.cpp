// Scores of continuations and greedy texts, against forwards over one text alone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/json.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "layers/coprocessor/augmented_model.h"
#include "support/large_latents.h"
#include "support/message_of.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"
#include "trainers/benchmarks/continuation_scores.h"
#include "trainers/benchmarks/greedy_texts.h"
#include "trainers/checks/mask_check.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/generation/generate.h"

namespace reverie {
namespace {

using testing::kTinyModels;
using testing::make_model;
using testing::NamedModel;

constexpr int32_t kVocabulary = 13;

// Contexts of several lengths, some alike, each with continuations of 1 to 5 tokens.
std::vector<Reading> random_readings(size_t count, int64_t longest, size_t beginning = 0) {
  Generator random(5);
  const auto draw = [&](int64_t size) {
    std::vector<int32_t> tokens(static_cast<size_t>(size));
    for (int32_t& token : tokens) token = int32_t(random.below(kVocabulary));
    return tokens;
  };
  const std::vector<int32_t> front = draw(int64_t(beginning));
  std::vector<Reading> readings;
  for (size_t i = 0; i < count; ++i) {
    Reading reading;
    reading.context = front;
    const auto own = draw(1 + int64_t(random.below(uint64_t(longest))));
    reading.context.insert(reading.context.end(), own.begin(), own.end());
    const size_t choices = i % 3 == 2 ? 1 : 3;  // a single one is read with its context
    for (size_t c = 0; c < choices; ++c)
      reading.continuations.push_back({i, c, draw(1 + int64_t(random.below(5)))});
    readings.push_back(reading);
  }
  return readings;
}

// By reading and continuation, whatever the batches.
std::vector<std::vector<ContinuationScore>> scores_of(LanguageModel& model,
                                                      const std::vector<Reading>& readings,
                                                      int64_t batch_tokens, bool latents = false) {
  const EvaluationMode mode(model);
  TextReader reader(model, {latents, batch_tokens, nullptr});
  const ReadingPlan plan = plan_readings(readings, batch_tokens, reader.shares());
  std::vector<std::vector<ContinuationScore>> scores(readings.size());
  for (const ReadingBatch& batch : plan.batches) {
    const auto some = score_continuations(reader, readings, plan, batch, false);
    for (size_t b = 0; b < some.size(); ++b) scores[batch.readings[b]] = some[b];
  }
  return scores;
}

// One continuation from one forward over context and continuation, without a cache.
ContinuationScore alone(LanguageModel& model, const std::vector<int32_t>& context,
                        const std::vector<int32_t>& continuation) {
  const EvaluationMode mode(model);
  std::vector<int32_t> tokens = context;
  tokens.insert(tokens.end(), continuation.begin(), continuation.end() - 1);
  const auto logits =
      model.logits(Tensor::from<int32_t>({1, int64_t(tokens.size())}, tokens)).tensor().to_vector();
  ContinuationScore score;
  for (size_t t = 0; t < continuation.size(); ++t) {
    const double* row = logits.data() + (context.size() - 1 + t) * size_t(kVocabulary);
    double sum = 0;
    for (int32_t v = 0; v < kVocabulary; ++v) sum += std::exp(row[v]);
    score.log_likelihood += row[continuation[t]] - std::log(sum);
    score.greedy =
        score.greedy && std::max_element(row, row + kVocabulary) - row == continuation[t];
  }
  return score;
}

class ContinuationScores : public ::testing::TestWithParam<NamedModel> {};

TEST_P(ContinuationScores, AreThoseOfEachTextAloneToTheBitWhateverTheBatch) {
  const auto model = make_model(GetParam().json);
  std::vector<Reading> readings = random_readings(30, 12);
  for (int32_t token = 0; token < kVocabulary; ++token)
    if (alone(*model, readings[0].context, {token}).greedy)
      readings[0].continuations[0].tokens = {token};
  const auto one = scores_of(*model, readings, 1), all = scores_of(*model, readings, 4096),
             some = scores_of(*model, readings, 40);
  bool any_greedy = false;
  for (size_t i = 0; i < readings.size(); ++i)
    for (size_t c = 0; c < readings[i].continuations.size(); ++c) {
      EXPECT_EQ(one[i][c].log_likelihood, all[i][c].log_likelihood) << i << " " << c;
      EXPECT_EQ(one[i][c].log_likelihood, some[i][c].log_likelihood) << i << " " << c;
      const ContinuationScore wanted =
          alone(*model, readings[i].context, readings[i].continuations[c].tokens);
      EXPECT_NEAR(all[i][c].log_likelihood, wanted.log_likelihood, 1e-9);
      EXPECT_EQ(all[i][c].greedy, wanted.greedy);
      any_greedy = any_greedy || wanted.greedy;
    }
  EXPECT_TRUE(any_greedy);
}

TEST_P(ContinuationScores, DifferByLessThanRoundingInF32) {
  const auto model = make_model(GetParam().json, DType::f32);
  const std::vector<Reading> readings = random_readings(30, 12);
  const auto one = scores_of(*model, readings, 1), all = scores_of(*model, readings, 4096);
  for (size_t i = 0; i < readings.size(); ++i)
    for (size_t c = 0; c < readings[i].continuations.size(); ++c)
      EXPECT_NEAR(one[i][c].log_likelihood, all[i][c].log_likelihood,
                  1e-5 * std::max(1.0, std::abs(one[i][c].log_likelihood)));
}

INSTANTIATE_TEST_SUITE_P(EveryModel, ContinuationScores, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

constexpr const char* kLonger =
    R"({"type":"llama","vocab_size":13,"block_size":64,"n_layer":2,"n_head":2,"n_embd":8})";

TEST(ContinuationScoresBehindABeginning, AreTheSameWhetherItIsReadOnceOrEachTime) {
  const auto model = make_model(kLonger);
  const std::vector<Reading> readings = random_readings(20, 9, 30);
  const ReadingPlan shared = plan_readings(readings, 4096, true);
  ASSERT_EQ(shared.beginnings.size(), 2u);
  EXPECT_EQ(shared.beginnings[1].size(), 30u);
  EXPECT_EQ(plan_readings(readings, 4096, false).beginnings.size(), 1u);
  const auto all = scores_of(*model, readings, 4096), one = scores_of(*model, readings, 1);
  for (size_t i = 0; i < readings.size(); ++i)
    for (size_t c = 0; c < readings[i].continuations.size(); ++c) {
      EXPECT_EQ(one[i][c].log_likelihood, all[i][c].log_likelihood);
      EXPECT_NEAR(
          all[i][c].log_likelihood,
          alone(*model, readings[i].context, readings[i].continuations[c].tokens).log_likelihood,
          1e-9);
    }
}

TEST(ReadingPlans, KeepPartsAndCutReadingsApart) {
  std::vector<Reading> readings = random_readings(12, 3, 20);
  for (size_t i = 6; i < 12; ++i) {
    readings[i].part = "other";
    readings[i].context[0] = (readings[0].context[0] + 1) % kVocabulary;
  }
  readings[0].cut = true;
  const ReadingPlan plan = plan_readings(readings, 30, true);
  EXPECT_EQ(plan.beginnings.size(), 3u);
  std::vector<int> seen(readings.size());
  for (const ReadingBatch& batch : plan.batches) {
    size_t tokens = 0;
    for (const size_t i : batch.readings) {
      ++seen[i];
      const auto& beginning = plan.beginnings[batch.beginning];
      const Reading& first = readings[batch.readings[0]];
      EXPECT_EQ(batch.whole, readings[i].continuations.size() == 1);
      if (batch.whole)
        EXPECT_EQ(readings[i].length_with_continuation(), first.length_with_continuation());
      else
        EXPECT_EQ(readings[i].context.size(), first.context.size());
      EXPECT_TRUE(std::equal(beginning.begin(), beginning.end(), readings[i].context.begin()));
      EXPECT_GT(readings[i].context.size(), beginning.size());
      tokens += (batch.whole ? size_t(readings[i].length_with_continuation())
                             : readings[i].context.size()) -
                beginning.size();
      if (i == 0) {
        EXPECT_TRUE(beginning.empty());
      }
    }
    EXPECT_TRUE(tokens <= 30 || batch.readings.size() == 1);
  }
  EXPECT_THAT(seen, ::testing::Each(1));
}

std::unique_ptr<LanguageModel> augmented(const Json& latents) {
  const Json config = {
      {"type", "augmented"}, {"base", testing::test_directory() + "/golden/pretrained/llama"},
      {"latents", latents},  {"block_size", 32},
      {"groups", 2},         {"ahead", 4}};
  Generator random(11);
  const ModelRegistry& models = ModelRegistry::instance();
  auto model =
      models.make(resolve_component(models, Config(config, "$.model")), Build{random, DType::f64});
  draw_zero_parameters(*model, random);
  model->train(false);
  return model;
}

// Latents behind every context: the augmented model's own packed groups say the same.
class ContinuationScoresBehindLatents : public ::testing::TestWithParam<const char*> {};
TEST_P(ContinuationScoresBehindLatents, AreThoseOfPackedGroups) {
  const auto model = augmented(parse_json(GetParam()));
  auto& latent = dynamic_cast<AugmentedModel&>(*model);
  const std::vector<Reading> readings = random_readings(10, 9);
  const auto scores = scores_of(*model, readings, 4096, true),
             one = scores_of(*model, readings, 1, true),
             base = scores_of(*model, readings, 4096, false);
  const EvaluationMode mode(*model);
  for (size_t i = 0; i < readings.size(); ++i)
    for (size_t c = 0; c < readings[i].continuations.size(); ++c) {
      const std::vector<int32_t>& wanted = readings[i].continuations[c].tokens;
      std::vector<int32_t> text = readings[i].context;
      text.insert(text.end(), wanted.begin(), wanted.end());
      const int64_t time = int64_t(text.size());
      std::vector<int32_t> next(text.begin() + 1, text.end());
      next.push_back(-1);
      const Tensor tokens = Tensor::from<int32_t>({1, time}, text),
                   targets = Tensor::from<int32_t>({1, time}, next);
      const InsertionPoints points = insertion_points(
          tokens, targets, Tensor::from<int32_t>({1, 1}, {int32_t(readings[i].context.size())}),
          int64_t(wanted.size()));
      const double loss =
          model->loss_of(latent.ahead_hidden(tokens, points), points.targets, 1.0).tensor().item();
      EXPECT_NEAR(scores[i][c].log_likelihood, -loss, 1e-9);
      EXPECT_EQ(scores[i][c].log_likelihood, one[i][c].log_likelihood);
      EXPECT_GT(std::abs(scores[i][c].log_likelihood - base[i][c].log_likelihood), 1e-6);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, ContinuationScoresBehindLatents,
    ::testing::Values(R"({"type": "coprocessor", "count": 5, "initial": "scratch"})",
                      R"({"type": "coprocessor", "count": 5, "initial": "scratch",
                          "writes": "cache"})",
                      R"({"type": "icae", "count": 4, "rank": 3})"));

TEST(ScoresBehindLatents, AreRefusedWithoutLatents) {
  const auto model = make_model(kLonger);
  EXPECT_THAT(testing::message_of<UserError>([&] {
                TextReader(*model, {true, 64, nullptr});
              }),
              ::testing::HasSubstr("leave --latents out"));
}

TEST(ContinuationScoresOfBrokenWeights, AreNoResult) {
  const auto model = make_model(kLonger);
  Tensor head = model->head().tensor();
  head.fill(std::nan(""));
  EXPECT_THAT(
      testing::message_of<DivergedError>([&] { scores_of(*model, random_readings(2, 4), 64); }),
      ::testing::HasSubstr("is nan: the model's weights are broken"));
}

class GreedyTexts : public ::testing::TestWithParam<NamedModel> {};

// "abc..": one character a token.
CharTokenizer letters() {
  std::vector<uint32_t> characters;
  for (int32_t i = 0; i < kVocabulary; ++i) characters.push_back(uint32_t('a' + i));
  return CharTokenizer(characters);
}

TEST_P(GreedyTexts, AreThoseWrittenAlone) {
  const auto model = make_model(GetParam().json);
  const CharTokenizer tokenizer = letters();
  std::vector<Reading> prompts = random_readings(25, 6);
  for (Reading& prompt : prompts) prompt.continuations.clear();
  const EvaluationMode mode(*model);
  for (const int64_t batch_tokens : {1, 4096}) {
    TextReader reader(*model, {false, batch_tokens, nullptr});
    const ReadingPlan plan = plan_readings(prompts, batch_tokens, reader.shares());
    const WritingOptions options{tokenizer, 9, {"cd", "e"}, {0}};
    for (const ReadingBatch& batch : plan.batches) {
      const auto texts = write_texts(reader, prompts, plan, batch, options, false);
      for (size_t b = 0; b < texts.size(); ++b) {
        GenerateOptions generation;
        generation.temperature = 0;
        generation.max_tokens = 9;
        generation.ends = {0};
        std::string wanted =
            tokenizer.decode(generate(*model, prompts[batch.readings[b]].context, generation));
        wanted = wanted.substr(0, std::min(wanted.find("cd"), wanted.find('e')));
        EXPECT_EQ(texts[b].text, wanted);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryModel, GreedyTexts, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

// ---- behind latents that are made anew ---------------------------------------------------------
constexpr const char* kLatentKinds[] = {
    R"({"type": "coprocessor", "count": 5, "initial": "scratch"})",
    R"({"type": "coprocessor", "count": 5, "initial": "scratch", "writes": "cache"})",
    R"({"type": "coprocessor", "count": 5, "initial": "scratch", "reads": "last_hidden"})",
    R"({"type": "icae", "count": 4, "rank": 3})"};

class GreedyTextsBehindLatents : public ::testing::TestWithParam<const char*> {};
TEST_P(GreedyTextsBehindLatents, AreThoseWrittenAloneHoweverOftenLatentsAreMade) {
  const auto model = augmented(parse_json(GetParam()));
  Generator random(12);
  testing::draw_large_matrices(*model, random);
  const CharTokenizer tokenizer = letters();
  std::vector<Reading> prompts = random_readings(25, 6);
  for (Reading& prompt : prompts) prompt.continuations.clear();
  const EvaluationMode mode(*model);
  std::vector<std::string> once;
  bool any_differs = false;
  for (const int64_t every : {0, 1, 3, 9, 500})
    for (const int64_t batch_tokens : {1, 4096}) {
      TextReader reader(*model,
                        {.latents = true, .batch_tokens = batch_tokens, .latents_every = every});
      const ReadingPlan plan = plan_readings(prompts, batch_tokens, reader.shares());
      const WritingOptions options{tokenizer, 9, {"cd", "e"}, {0}};
      std::vector<std::string> written(prompts.size());
      for (const ReadingBatch& batch : plan.batches) {
        const auto texts = write_texts(reader, prompts, plan, batch, options, false);
        for (size_t b = 0; b < texts.size(); ++b) {
          GenerateOptions generation;
          generation.temperature = 0;
          generation.max_tokens = 9;
          generation.ends = {0};
          generation.vocabulary = kVocabulary;
          generation.latents_late = 0;
          generation.latents_every = every;
          std::string wanted =
              tokenizer.decode(generate(*model, prompts[batch.readings[b]].context, generation));
          wanted = wanted.substr(0, std::min(wanted.find("cd"), wanted.find('e')));
          EXPECT_EQ(texts[b].text, wanted) << every << " " << batch_tokens;
          written[batch.readings[b]] = texts[b].text;
        }
      }
      if (every == 0) once = written;
      if (every >= 9) {
        EXPECT_EQ(written, once) << every;
      }
      any_differs = any_differs || written != once;
    }
  EXPECT_TRUE(any_differs) << "the test sees no difference";
}
INSTANTIATE_TEST_SUITE_P(Kinds, GreedyTextsBehindLatents, ::testing::ValuesIn(kLatentKinds));

// A control: each of two texts gets the latents of the other: of all that it has when they stand in
// one batch, else of its prompt.
class GreedyTextsBehindLatentsOfOthers : public ::testing::Test {
 protected:
  static constexpr int64_t kEvery = 2, kLong = 6;
  std::unique_ptr<LanguageModel> model_ = augmented(parse_json(kLatentKinds[0]));
  AugmentedModel& m_ = dynamic_cast<AugmentedModel&>(*model_);
  const std::vector<Reading> prompts_ = {{{3, 1, 4, 1, 5}, {}, "", false},
                                         {{9, 2, 6, 5, 8}, {}, "", false}};

  // What text 0 and text 1 write, one token after another.
  std::vector<std::vector<int32_t>> wanted(bool one_batch) {
    std::vector<std::vector<int32_t>> texts = {prompts_[0].context, prompts_[1].context};
    for (int64_t written = 0; written < kLong; written += kEvery) {
      std::vector<Variable> latents;
      for (size_t i = 0; i < 2; ++i)
        latents.push_back(latents_of(one_batch ? texts[i] : prompts_[i].context));
      for (size_t i = 0; i < 2; ++i) go_on(texts[i], latents[1 - i]);
    }
    for (auto& text : texts) text.erase(text.begin(), text.begin() + 5);
    return texts;
  }
  Variable latents_of(const std::vector<int32_t>& text) {
    SequenceState state;
    state.use_cache = true;
    const Tensor tokens = Tensor::from<int32_t>({1, int64_t(text.size())}, text);
    return m_.latents_for(state, m_.hidden(tokens, &state), tokens);
  }
  void go_on(std::vector<int32_t>& text, const Variable& latents) {
    SequenceState state;
    state.use_cache = true;
    m_.hidden(Tensor::from<int32_t>({1, int64_t(text.size())}, text), &state);
    Variable hidden = m_.insert(state, Tensor::from<int32_t>({1, 1}, {text.back()}), latents);
    for (int64_t t = 0; t < kEvery; ++t) {
      const auto row = m_.logits_of(hidden).tensor().to_vector();
      text.push_back(
          int32_t(std::max_element(row.begin(), row.begin() + kVocabulary) - row.begin()));
      hidden = m_.hidden(Tensor::from<int32_t>({1, 1}, {text.back()}), &state);
    }
  }
};
TEST_F(GreedyTextsBehindLatentsOfOthers, TheyAreMadeAnewFromTheTextBeside) {
  const EvaluationMode mode(m_);
  for (const int64_t batch_tokens : {4096, 1}) {
    TextReader reader(
        m_,
        {.latents = true, .batch_tokens = batch_tokens, .shuffled = true, .latents_every = kEvery});
    const ReadingPlan plan = plan_readings(prompts_, batch_tokens, reader.shares());
    ASSERT_EQ(plan.batches.size(), batch_tokens == 1 ? 2u : 1u);
    const auto texts = wanted(plan.batches.size() == 1);
    for (const ReadingBatch& batch : plan.batches) {
      const auto written =
          write_tokens(reader, prompts_, plan, batch, {kLong, kVocabulary, {}}, false);
      for (size_t b = 0; b < written.size(); ++b)
        EXPECT_EQ(written[b], texts[batch.readings[b]]) << batch_tokens << " " << b;
    }
  }
}

TEST(TextsBehindLatents, MadeAnewNeedLatents) {
  const auto model = make_model(kLonger);
  const auto refused = [&](const ReaderOptions& options) {
    return testing::message_of<UserError>([&] { TextReader(*model, options); });
  };
  EXPECT_THAT(refused({.latents_every = 4}), ::testing::HasSubstr("wanted both, or neither"));
  EXPECT_THAT(refused({.latents = true, .latents_every = -4}),
              ::testing::HasSubstr("latents_every is -4"));
}

}  // namespace
}  // namespace reverie
