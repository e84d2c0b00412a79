// Texts that are written side by side are those that the model writes alone, and scores are its own.

#include "trainers/serving/text_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"
#include "trainers/checks/mask_check.h"
#include "trainers/generation/generate.h"
#include "trainers/serving/model_worker.h"

namespace reverie {
namespace {

using testing::kTinyModels;
using testing::make_model;
using testing::NamedModel;

// One letter a token.
std::shared_ptr<const Tokenizer> letters(int64_t count) {
  std::vector<uint32_t> characters;
  for (int64_t i = 0; i < count; ++i) characters.push_back(uint32_t('A' + i));
  return std::make_shared<CharTokenizer>(characters);
}

std::shared_ptr<Completion> completion_of(CompletionRequest request, double seconds = 600) {
  return std::make_shared<Completion>(
      std::move(request), Completion::Clock::now() + std::chrono::milliseconds(int(seconds * 1e3)));
}

CompletionRequest greedy(std::vector<std::vector<int32_t>> prompts, int64_t max_tokens) {
  CompletionRequest request;
  for (auto& tokens : prompts) {
    Prompt prompt;
    prompt.latents_after = int64_t(tokens.size());
    prompt.tokens = std::move(tokens);
    request.prompts.push_back(prompt);
  }
  request.max_tokens = max_tokens;
  request.choice.temperature = 0;
  return request;
}

struct Written {
  std::vector<int32_t> tokens;
  std::vector<TokenScore> scores, prompt_scores;
  std::string text, finish;
};

// The texts that were written, by their number.
std::map<int64_t, Written> written(Completion& completion) {
  std::map<int64_t, Written> texts;
  for (auto pieces = completion.next(); !pieces.empty(); pieces = completion.next())
    for (const Piece& piece : pieces) {
      Written& text = texts[piece.text_number];
      text.tokens.insert(text.tokens.end(), piece.tokens.begin(), piece.tokens.end());
      text.scores.insert(text.scores.end(), piece.scores.begin(), piece.scores.end());
      if (!piece.prompt_scores.empty()) text.prompt_scores = piece.prompt_scores;
      text.text += piece.text;
      EXPECT_TRUE(text.finish.empty()) << "a piece behind the end";
      text.finish = piece.finish;
    }
  return texts;
}

void write_all(ServedModel& model, const std::vector<std::shared_ptr<Completion>>& completions) {
  TextWriter writer(model);
  std::vector<PromptJob> jobs;
  for (const auto& completion : completions)
    for (int64_t p = 0; p < int64_t(completion->request.prompts.size()); ++p)
      jobs.push_back({completion, p});
  writer.begin(jobs);
  while (writer.texts() > 0) writer.step();
}

// ln softmax of the model's own logits: row t predicts token t + 1.
std::vector<double> own_scores(LanguageModel& model, const std::vector<int32_t>& tokens) {
  const NoGrad no_grad;
  const Tensor logits =
      model.logits(Tensor::from<int32_t>({1, int64_t(tokens.size())}, tokens)).tensor();
  const std::vector<double> all = logits.to_vector();
  const auto vocabulary = size_t(logits.size(-1));
  std::vector<double> scores;
  for (size_t t = 0; t + 1 < tokens.size(); ++t) {
    double sum = 0;
    for (size_t i = 0; i < vocabulary; ++i) sum += std::exp(all[t * vocabulary + i]);
    scores.push_back(all[t * vocabulary + size_t(tokens[t + 1])] - std::log(sum));
  }
  return scores;
}

const std::vector<std::vector<int32_t>> kPrompts = {
    {3}, {3, 1, 4, 1, 5, 9, 2, 6}, {2, 7, 1}, {8, 2, 8, 1, 8, 2, 8, 4, 5, 9, 0}};

class ServedTexts : public ::testing::TestWithParam<NamedModel> {};

TEST_P(ServedTexts, TextsSideBySideAreThoseWrittenAlone) {
  ServedModel model(make_model(GetParam().json), letters(13));
  const auto completion = completion_of(greedy(kPrompts, 7));
  CompletionRequest drawn = greedy(kPrompts, 5);
  drawn.choice.temperature = 1.3;
  drawn.samples = 3;
  drawn.seed = 11;
  const auto others = completion_of(drawn);
  write_all(model, {completion, others});
  const auto texts = written(*completion), samples = written(*others);
  for (size_t p = 0; p < kPrompts.size(); ++p) {
    GenerateOptions options;
    options.max_tokens = 7;
    options.temperature = 0;
    EXPECT_EQ(texts.at(int64_t(p)).tokens, generate(model.base(), kPrompts[p], options)) << p;
    EXPECT_EQ(texts.at(int64_t(p)).finish, "length");
    options.max_tokens = 5;
    options.temperature = 1.3;
    for (int64_t i = 0; i < 3; ++i) {
      options.seed = 11 + uint64_t(i);
      EXPECT_EQ(samples.at(int64_t(p) * 3 + i).tokens,
                generate(model.base(), kPrompts[p], options));
    }
  }
}

// Bit for bit in f64, log-probabilities included: texts beside others, of other lengths and settings.
TEST_P(ServedTexts, WhatStandsBesideATextChangesNoBit) {
  ServedModel model(make_model(GetParam().json), letters(13));
  const auto requests = [] {
    std::vector<CompletionRequest> all;
    for (size_t p = 0; p < kPrompts.size(); ++p) {
      CompletionRequest request = greedy({kPrompts[p]}, 6 + int64_t(p));
      request.choice = {p % 2 == 0 ? 0.0 : 1.1, 0, 0.95, 0.02, 1.2};
      request.seed = p;
      request.likeliest = 3;
      all.push_back(request);
    }
    return all;
  };
  std::vector<std::shared_ptr<Completion>> together;
  for (const CompletionRequest& request : requests()) together.push_back(completion_of(request));
  write_all(model, together);
  const auto alone = requests();
  for (size_t p = 0; p < alone.size(); ++p) {
    const auto one = completion_of(alone[p]);
    write_all(model, {one});
    const Written beside = written(*together[p]).at(0), by_itself = written(*one).at(0);
    EXPECT_EQ(beside.tokens, by_itself.tokens);
    EXPECT_EQ(beside.text, by_itself.text);
    ASSERT_EQ(beside.scores.size(), by_itself.scores.size());
    for (size_t t = 0; t < beside.scores.size(); ++t) {
      EXPECT_EQ(beside.scores[t].log_probability, by_itself.scores[t].log_probability) << t;
      EXPECT_EQ(beside.scores[t].likeliest, by_itself.scores[t].likeliest) << t;
    }
  }
}

// In f32 rounding may depend on the number of rows, the text does not.
TEST_P(ServedTexts, InF32TheTextsAreThoseWrittenAlone) {
  ServedModel model(make_model(GetParam().json, DType::f32), letters(13));
  const auto together = completion_of(greedy(kPrompts, 7));
  write_all(model, {together});
  const auto texts = written(*together);
  for (size_t p = 0; p < kPrompts.size(); ++p) {
    const auto one = completion_of(greedy({kPrompts[p]}, 7));
    write_all(model, {one});
    EXPECT_EQ(texts.at(int64_t(p)).text, written(*one).at(0).text) << p;
  }
}

// Texts that fill the block of 19 several times over go on as generate() has them, side by side.
TEST_P(ServedTexts, OutgrowTheContextAsGenerateDoes) {
  ServedModel model(make_model(GetParam().json), letters(13));
  std::vector<std::vector<int32_t>> prompts = kPrompts;
  prompts.emplace_back();
  for (int32_t i = 0; i < 30; ++i) prompts.back().push_back(i * 5 % 13);
  CompletionRequest drawn = greedy(prompts, 45);
  drawn.choice.temperature = 1;
  drawn.seed = 4;
  const auto completion = completion_of(drawn);
  write_all(model, {completion});
  const auto texts = written(*completion);
  for (size_t p = 0; p < prompts.size(); ++p) {
    GenerateOptions options;
    options.max_tokens = 45;
    options.seed = 4;
    EXPECT_EQ(texts.at(int64_t(p)).tokens, generate(model.base(), prompts[p], options)) << p;
  }
}

// Top-p, min-p and the penalty are one implementation, whoever writes.
TEST_P(ServedTexts, ChooseTokensAsGenerateDoes) {
  ServedModel model(make_model(GetParam().json), letters(13));
  for (const TokenChoice& choice :
       {TokenChoice{1, 0, 0.8, 0, 1}, TokenChoice{1, 0, 1, 0.2, 1}, TokenChoice{1, 0, 1, 0, 1.5},
        TokenChoice{0, 0, 1, 0, 1.5}, TokenChoice{1.3, 9, 0.9, 0.05, 1.1}}) {
    CompletionRequest request = greedy(kPrompts, 7);
    request.choice = choice;
    request.seed = 5;
    const auto completion = completion_of(request);
    write_all(model, {completion});
    const auto texts = written(*completion);
    for (size_t p = 0; p < kPrompts.size(); ++p) {
      GenerateOptions options;
      options.max_tokens = 7;
      options.temperature = choice.temperature;
      options.top_k = choice.top_k;
      options.top_p = choice.top_p;
      options.min_p = choice.min_p;
      options.repetition_penalty = choice.repetition_penalty;
      options.seed = 5;
      EXPECT_EQ(texts.at(int64_t(p)).tokens, generate(model.base(), kPrompts[p], options)) << p;
    }
  }
}

TEST_P(ServedTexts, ScoresAreTheModelsOwn) {
  ServedModel model(make_model(GetParam().json), letters(13));
  for (const int64_t max_tokens : {0, 1, 4}) {  // side by side, and one after another
    CompletionRequest request = greedy(kPrompts, max_tokens);
    request.echo = true;
    request.likeliest = 2;
    const auto completion = completion_of(request);
    write_all(model, {completion});
    const auto texts = written(*completion);
    ASSERT_EQ(texts.size(), kPrompts.size());
    for (size_t p = 0; p < kPrompts.size(); ++p) {
      const Written& text = texts.at(int64_t(p));
      const std::vector<double> own = own_scores(model.base(), kPrompts[p]);
      ASSERT_EQ(text.prompt_scores.size(), own.size());
      for (size_t t = 0; t < own.size(); ++t) {
        EXPECT_NEAR(text.prompt_scores[t].log_probability, own[t], 1e-10) << p << " " << t;
        ASSERT_EQ(text.prompt_scores[t].likeliest.size(), 2u);
        EXPECT_GE(text.prompt_scores[t].likeliest[0].second, own[t] - 1e-10);
      }
      // A model that reads ahead gives other scores to a text once more of it is there.
      if (!GetParam().causal) continue;
      std::vector<int32_t> all = kPrompts[p];
      all.insert(all.end(), text.tokens.begin(), text.tokens.end());
      const std::vector<double> then = own_scores(model.base(), all);
      ASSERT_EQ(int64_t(text.scores.size()), max_tokens);
      for (size_t i = 0; i < text.scores.size(); ++i)
        EXPECT_NEAR(text.scores[i].log_probability, then[own.size() + i], 1e-10);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(TextWriter, ServedTexts, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

constexpr const char* kGpt = R"({"type":"gpt2",)" REVERIE_TINY "}";

TEST(TextWriter, StopsInFrontOfAStopString) {
  ServedModel model(make_model(kGpt), letters(13));
  const auto whole = completion_of(greedy({{3}}, 12));
  write_all(model, {whole});
  const std::string text = written(*whole).at(0).text;
  ASSERT_EQ(text.size(), 12u);
  CompletionRequest request = greedy({{3}}, 12);
  const std::string stop = text.substr(5, 2);
  request.stops = {"no such text", stop};
  const auto stopped = completion_of(request);
  write_all(model, {stopped});
  const Written got = written(*stopped).at(0);
  EXPECT_EQ(got.text, text.substr(0, text.find(stop)));
  EXPECT_EQ(got.finish, "stop");
  EXPECT_EQ(got.tokens.size(), text.find(stop) + 2);
}

TEST(TextWriter, TokensThatEndATextMayBeAddedOrPassedOver) {
  ServedModel model(make_model(kGpt), letters(13));
  const auto whole = completion_of(greedy({{3}}, 12));
  write_all(model, {whole});
  const std::vector<int32_t> tokens = written(*whole).at(0).tokens;
  CompletionRequest request = greedy({{3}}, 12);
  request.also_ends = {tokens[4]};
  const auto ended = completion_of(request);
  write_all(model, {ended});
  const Written got = written(*ended).at(0);
  const auto first = std::find(tokens.begin(), tokens.end(), tokens[4]) - tokens.begin();
  EXPECT_EQ(int64_t(got.tokens.size()), first + 1);
  EXPECT_EQ(int64_t(got.text.size()), first);
  EXPECT_EQ(got.finish, "stop");
}

TEST(TextWriter, OnesThatAreLateOrUnwantedEndAndOthersGoOn) {
  ServedModel model(make_model(kGpt), letters(13));
  const auto late = completion_of(greedy({{1, 2}}, 8), -1), left = completion_of(greedy({{5}}, 8)),
             other = completion_of(greedy({{3}}, 8));
  left->abandon();
  write_all(model, {late, left, other});
  ASSERT_TRUE(late->refusal());
  EXPECT_EQ(late->refusal()->status, 504);
  EXPECT_EQ(written(*other).at(0).tokens.size(), 8u);
}

TEST(TextWriter, AnErrorOfTheModelEndsTheRequestAlone) {
  auto broken = make_model(kGpt);
  for (auto& [name, parameter] : broken->parameters())
    if (parameter.rank() == 1) {
      Tensor target = parameter.tensor();
      target.copy_from(Tensor::full(parameter.shape(), NAN, DType::f64));
    }
  ServedModel model(std::move(broken), letters(13));
  CompletionRequest scored = greedy({{3, 1}}, 1);
  scored.echo = true;
  scored.likeliest = 1;
  const auto writes = completion_of(greedy({{3}}, 4)), scores = completion_of(scored);
  write_all(model, {writes, scores});
  for (const auto& one : {writes, scores}) {
    ASSERT_TRUE(one->refusal());
    EXPECT_EQ(one->refusal()->status, 500);
    EXPECT_NE(one->refusal()->message.find("not finite"), std::string::npos);
  }
}

TEST(ModelWorker, RefusesWhatTheQueueCannotHold) {
  ServedModel model(make_model(kGpt), letters(13));
  ModelWorker worker(model, {.queue = 2, .texts = 2, .prompts = 2});
  std::vector<std::shared_ptr<Completion>> all;
  for (int i = 0; i < 3; ++i) all.push_back(completion_of(greedy({{3}, {4}, {5}}, 6)));
  EXPECT_TRUE(worker.submit(all[0]));
  EXPECT_TRUE(worker.submit(all[1]));
  EXPECT_FALSE(worker.submit(all[2]));
  EXPECT_EQ(all[2]->refusal()->status, 503);
  worker.run([&] { return all[1]->over(); });
  for (int i = 0; i < 2; ++i) EXPECT_EQ(written(*all[size_t(i)]).size(), 3u);
  // It has ended: whoever comes later is told.
  const auto later = completion_of(greedy({{3}}, 6));
  EXPECT_FALSE(worker.submit(later));
  EXPECT_EQ(later->refusal()->status, 503);
}

TEST(ModelWorker, EndingFinishesWhatWasBegun) {
  ServedModel model(make_model(kGpt), letters(13));
  ModelWorker worker(model, {.queue = 9, .texts = 1, .prompts = 1});
  // The request that was begun has a prompt that still waits for its turn.
  const auto begun = completion_of(greedy({{3}, {5}}, 15)),
             waits = completion_of(greedy({{4}}, 15));
  worker.submit(begun);
  worker.submit(waits);
  int asked = 0;
  worker.run([&] { return asked++ > 0; });
  ASSERT_TRUE(begun->over());
  for (const auto& [number, text] : written(*begun)) EXPECT_EQ(text.tokens.size(), 15u) << number;
  EXPECT_FALSE(begun->refusal());
  EXPECT_EQ(waits->refusal()->status, 503);
}

std::unique_ptr<LanguageModel> augmented(const std::string& base, const char* latents) {
  const Json config = {{"type", "augmented"},
                       {"base", testing::test_directory() + "/golden/pretrained/" + base},
                       {"latents", parse_json(latents)},
                       {"block_size", 32},
                       {"groups", 2},
                       {"ahead", 4}};
  Generator random(11);
  const ModelRegistry& models = ModelRegistry::instance();
  auto model =
      models.make(resolve_component(models, Config(config, "$.model")), Build{random, DType::f64});
  draw_zero_parameters(*model, random);
  model->train(false);
  return model;
}

struct Latents {
  const char* name;
  const char* base;
  const char* latents;
  int64_t late;
};
void PrintTo(const Latents& c, std::ostream* out) {
  *out << c.name;
}
class ServedLatents : public ::testing::TestWithParam<Latents> {};

// Texts of the base and texts with latents stand side by side.
TEST_P(ServedLatents, TextsAreThoseOfGenerate) {
  const Latents& c = GetParam();
  ServedModel model(augmented(c.base, c.latents), letters(60), c.late);
  const std::vector<std::vector<int32_t>> prompts = {{7, 3, 55, 20, 1}, {42, 9, 33}};
  CompletionRequest with = greedy(prompts, 9);
  with.latents = true;
  const auto latents = completion_of(with), base = completion_of(greedy(prompts, 9));
  write_all(model, {latents, base});
  const auto with_texts = written(*latents), base_texts = written(*base);
  for (size_t p = 0; p < prompts.size(); ++p) {
    GenerateOptions options;
    options.max_tokens = 9;
    options.temperature = 0;
    options.vocabulary = 60;
    EXPECT_EQ(base_texts.at(int64_t(p)).tokens, generate(model.base(), prompts[p], options));
    options.latents_late = c.late;
    EXPECT_EQ(with_texts.at(int64_t(p)).tokens, generate(*model.augmented(), prompts[p], options));
  }
}

// Texts whose latents are made anew stand beside those of the base.
TEST_P(ServedLatents, MadeAnewTextsAreThoseOfGenerate) {
  const Latents& c = GetParam();
  for (const int64_t every : {3, 4, 50}) {
    ServedModel model(augmented(c.base, c.latents), letters(60), c.late, every);
    const std::vector<std::vector<int32_t>> prompts = {{7, 3, 55, 20, 1}, {42, 9, 33}};
    CompletionRequest with = greedy(prompts, 11), drawn = greedy({prompts[0]}, 11);
    with.latents = drawn.latents = true;
    with.past_end = drawn.past_end = true;
    drawn.choice.temperature = 1.4;
    drawn.samples = 3;
    drawn.seed = 5;
    const auto latents = completion_of(with), samples = completion_of(drawn),
               base = completion_of(greedy(prompts, 11));
    write_all(model, {latents, base, samples});
    const auto with_texts = written(*latents), sample_texts = written(*samples);
    GenerateOptions options;
    options.max_tokens = 11;
    options.temperature = 0;
    options.vocabulary = 60;
    options.latents_late = c.late;
    options.latents_every = every;
    for (size_t p = 0; p < prompts.size(); ++p)
      EXPECT_EQ(with_texts.at(int64_t(p)).tokens,
                generate(*model.augmented(), prompts[p], options));
    options.temperature = 1.4;
    for (int64_t i = 0; i < 3; ++i) {
      options.seed = 5 + uint64_t(i);
      EXPECT_EQ(sample_texts.at(i).tokens, generate(*model.augmented(), prompts[0], options));
    }
  }
}

// Latents go in behind the context, and anew from the prompt's end on: tokens behind them have the
// scores of a text whose context ends there.
TEST_P(ServedLatents, MadeAnewBehindAScoredPromptTheyCountFromItsEnd) {
  const Latents& c = GetParam();
  if (c.late > 0) return;
  constexpr int64_t kEvery = 3;
  ServedModel model(augmented(c.base, c.latents), letters(60), 0, kEvery);
  const std::vector<int32_t> prompt = {7, 3, 55, 20, 1, 42, 9};
  CompletionRequest request = greedy({prompt}, 2 * kEvery);
  request.prompts[0].latents_after = 4;
  request.latents = request.echo = request.past_end = true;
  request.likeliest = 1;
  const auto completion = completion_of(request);
  write_all(model, {completion});
  const Written got = written(*completion).at(0);
  ASSERT_EQ(got.tokens.size(), size_t(2 * kEvery));
  std::vector<int32_t> so_far = prompt;
  so_far.insert(so_far.end(), got.tokens.begin(), got.tokens.begin() + kEvery);
  CompletionRequest rest = greedy({so_far}, kEvery);
  rest.latents = rest.past_end = true;
  rest.likeliest = 1;
  const auto behind = completion_of(rest);
  write_all(model, {behind});
  const Written wanted = written(*behind).at(0);
  for (size_t i = 0; i < size_t(kEvery); ++i) {
    EXPECT_EQ(got.tokens[kEvery + i], wanted.tokens[i]) << i;
    EXPECT_NEAR(got.scores[kEvery + i].log_probability, wanted.scores[i].log_probability, 1e-9);
  }
}

// Latents behind the context: what follows is scored as training scores it.
TEST_P(ServedLatents, AContinuationIsScoredBehindThem) {
  const Latents& c = GetParam();
  ServedModel model(augmented(c.base, c.latents), letters(60), c.late);
  const std::vector<int32_t> text = {7, 3, 55, 20, 1, 42, 9, 33, 31, 12};
  constexpr int64_t kContext = 4;
  CompletionRequest request = greedy({text}, 1);
  request.prompts[0].latents_after = kContext;
  request.latents = request.echo = true;
  request.likeliest = 1;
  const auto completion = completion_of(request);
  write_all(model, {completion});
  const Written got = written(*completion).at(0);
  ASSERT_EQ(got.prompt_scores.size(), text.size() - 1);

  const NoGrad no_grad;
  AugmentedModel& m = *model.augmented();
  const int64_t at = kContext + c.late, ahead = int64_t(text.size()) - at;
  const Tensor tokens = Tensor::from<int32_t>({1, int64_t(text.size())}, text);
  std::vector<int32_t> next(text.begin() + 1, text.end());
  next.push_back(-1);
  const InsertionPoints points =
      insertion_points(tokens, Tensor::from<int32_t>({1, int64_t(text.size())}, next),
                       Tensor::from<int32_t>({1, 1}, {int32_t(at)}), ahead);
  // The source reads the context alone.
  const Variable latents =
      m.latents_for(tokens, Tensor::from<int32_t>({1, 1}, {int32_t(kContext)}));
  const Variable rows = m.ahead_hidden(tokens, points, latents);
  const std::vector<int32_t> behind(text.begin() + at, text.end());
  const auto wanted = token_scores(m, rows, behind, 1);
  const auto before = own_scores(m.base(), text);
  for (int64_t t = 1; t < int64_t(text.size()); ++t) {
    const double own = t < at ? before[size_t(t - 1)] : wanted[size_t(t - at)].log_probability;
    EXPECT_NEAR(got.prompt_scores[size_t(t - 1)].log_probability, own, 1e-9) << t;
  }
  EXPECT_GT(std::abs(wanted[0].log_probability - before[size_t(at - 1)]), 1e-4);
}

constexpr const char* kCoprocessor = R"({"type": "coprocessor", "count": 5, "initial": "scratch"})";
constexpr const char* kCache =
    R"({"type": "coprocessor", "count": 5, "initial": "scratch", "writes": "cache"})";
INSTANTIATE_TEST_SUITE_P(
    TextWriter, ServedLatents,
    ::testing::Values(Latents{"llama", "llama", kCoprocessor, 0},
                      Latents{"late", "gpt2", kCoprocessor, 2},
                      Latents{"gemma3", "gemma3", kCoprocessor, 0},
                      Latents{"cache", "llama", kCache, 0},
                      Latents{"icae", "llama", R"({"type": "icae", "count": 5, "rank": 3})", 0}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace reverie
