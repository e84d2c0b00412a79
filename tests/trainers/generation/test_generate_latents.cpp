// Text with latents behind the prompt: what a cache carries on equals a forward over the whole.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/json.h"
#include "layers/coprocessor/augmented_model.h"
#include "support/large_latents.h"
#include "support/message_of.h"
#include "support/tests_directory.h"
#include "trainers/checks/mask_check.h"
#include "trainers/generation/generate.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<LanguageModel> augmented(const std::string& base, const Json& latents,
                                         int64_t delay = 0) {
  const Json config = {
      {"type", "augmented"}, {"base", testing::test_directory() + "/golden/pretrained/" + base},
      {"latents", latents},  {"block_size", 32},
      {"groups", 2},         {"ahead", 4},
      {"delay", delay}};
  Generator random(11);
  const ModelRegistry& models = ModelRegistry::instance();
  auto model =
      models.make(resolve_component(models, Config(config, "$.model")), Build{random, DType::f64});
  draw_zero_parameters(*model, random);
  model->train(false);
  return model;
}

GenerateOptions greedy(int64_t tokens, std::optional<int64_t> late) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.temperature = 0;
  options.latents_late = late;
  return options;
}

// The likeliest token of the i-th row of final hidden states [1, N, C].
int32_t likeliest(LanguageModel& model, const Variable& hidden, int64_t i) {
  const auto logits = model.logits_of(slice(hidden, 1, i, i + 1)).tensor().to_vector();
  return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

const std::vector<int32_t> kPrompt = {7, 3, 55, 20, 1, 42, 9, 33, 60};
constexpr int64_t kTokens = 12;

struct Case {
  const char* name;
  const char* base;
  const char* latents;
  int64_t late;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class WrittenWithLatents : public ::testing::TestWithParam<Case> {};
TEST_P(WrittenWithLatents, EveryTokenIsTheOneOfAForwardOverTheWhole) {
  const Case& c = GetParam();
  const auto model = augmented(c.base, parse_json(c.latents), c.late);
  auto& m = dynamic_cast<AugmentedModel&>(*model);
  const auto written = generate(*model, kPrompt, greedy(kTokens, c.late));
  ASSERT_EQ(int64_t(written.size()), kTokens);

  NoGrad no_grad;
  std::vector<int32_t> all = kPrompt;
  all.insert(all.end(), written.begin(), written.end());
  const int64_t length = int64_t(all.size()), at = int64_t(kPrompt.size()) + c.late;
  const Tensor text = Tensor::from<int32_t>({1, length}, all);
  // Before the latents are there the base writes alone.
  const Variable alone = m.base().hidden(text, nullptr);
  for (int64_t i = 0; i < c.late; ++i)
    EXPECT_EQ(written[size_t(i)], likeliest(m, alone, int64_t(kPrompt.size()) - 1 + i)) << i;
  const InsertionPoints points =
      insertion_points(text, text, Tensor::from<int32_t>({1, 1}, {int32_t(at)}), kTokens - c.late);
  const Variable ahead = m.ahead_hidden(text, points);
  for (int64_t i = c.late; i < kTokens; ++i)
    EXPECT_EQ(written[size_t(i)], likeliest(m, ahead, i - c.late)) << i;

  // Without latents it is the base's own text, and that is another one.
  const auto base_text = generate(m.base(), kPrompt, greedy(kTokens, {}));
  EXPECT_EQ(generate(*model, kPrompt, greedy(kTokens, {})), base_text);
  EXPECT_NE(written, base_text);
}
constexpr const char* kCoprocessor = R"({"type": "coprocessor", "count": 5, "initial": "scratch"})";
constexpr const char* kCache =
    R"({"type": "coprocessor", "count": 5, "initial": "scratch", "writes": "cache"})";
constexpr const char* kIcae = R"({"type": "icae", "count": 5, "rank": 3})";
INSTANTIATE_TEST_SUITE_P(
    Kinds, WrittenWithLatents,
    ::testing::Values(
        Case{"llama", "llama", kCoprocessor, 0}, Case{"gpt2", "gpt2", kCoprocessor, 0},
        Case{"gemma3", "gemma3", kCoprocessor, 0}, Case{"late", "llama", kCoprocessor, 3},
        Case{"cache", "llama", kCache, 0}, Case{"cache_gpt2", "gpt2", kCache, 0},
        Case{"cache_gemma3", "gemma3", kCache, 0}, Case{"cache_late", "llama", kCache, 2},
        Case{"last_hidden", "llama",
             R"({"type": "coprocessor", "count": 4, "reads": "last_hidden",
                             "initial": "scratch"})",
             0},
        Case{"icae", "llama", kIcae, 0}, Case{"icae_late", "gpt2", kIcae, 2},
        Case{"gist", "llama", R"({"type": "gist", "count": 3})", 0}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(WrittenWithLatents, SeveralTextsAreWrittenAsEachAlone) {
  const auto model = augmented("llama", parse_json(kCoprocessor));
  GenerateOptions options = greedy(kTokens, 2);
  options.temperature = 1.5;
  const auto texts = generate_samples(*model, kPrompt, 3, options);
  for (uint64_t i = 0; i < 3; ++i) {
    GenerateOptions alone = options;
    alone.seed = options.seed + i;
    EXPECT_EQ(texts[i], generate(*model, kPrompt, alone)) << i;
  }
  EXPECT_NE(texts[0], texts[1]);
}

TEST(WrittenWithLatents, TextsMayOutgrowTheContext) {
  for (const int64_t late : {0, 40}) {
    const auto model = augmented("llama", parse_json(kCoprocessor));
    EXPECT_EQ(generate(*model, kPrompt, greedy(150, late)).size(), 150u);
  }
  // A prompt longer than the context leaves room for the latents.
  const auto model = augmented("llama", parse_json(kCache));
  EXPECT_EQ(generate(*model, std::vector<int32_t>(90, 4), greedy(5, 0)).size(), 5u);
}

// ---- latents that are made anew ----------------------------------------------------------------
GenerateOptions anew(int64_t tokens, int64_t every, std::optional<int64_t> late = 0) {
  GenerateOptions options = greedy(tokens, late);
  options.latents_every = every;
  return options;
}
std::vector<int32_t> joined(std::vector<int32_t> text, const std::vector<int32_t>& more) {
  text.insert(text.end(), more.begin(), more.end());
  return text;
}

class LatentsMadeAnew : public ::testing::TestWithParam<Case> {};

// Training's own forward: one insertion into the text alone, `delay` tokens behind the text that
// its latents are made of.
TEST_P(LatentsMadeAnew, TokensBehindThemAreThoseOfTheForwardThatTrains) {
  const Case& c = GetParam();
  const auto model = augmented(c.base, parse_json(c.latents), c.late);
  auto& m = dynamic_cast<AugmentedModel&>(*model);
  constexpr int64_t kEvery = 4;
  const auto written = generate(*model, kPrompt, anew(kTokens, kEvery, c.late));
  ASSERT_EQ(int64_t(written.size()), kTokens);
  NoGrad no_grad;
  const auto all = joined(kPrompt, written);
  const Tensor text = Tensor::from<int32_t>({1, int64_t(all.size())}, all);
  const auto prompt = int64_t(kPrompt.size());
  const Variable alone = m.base().hidden(text, nullptr);
  for (int64_t i = 0; i < c.late; ++i)
    EXPECT_EQ(written[size_t(i)], likeliest(m, alone, prompt - 1 + i)) << i;
  for (int64_t at = c.late; at < kTokens; at += kEvery) {
    const int64_t count = std::min(kEvery, kTokens - at);
    const InsertionPoints points =
        insertion_points(text, text, Tensor::from<int32_t>({1, 1}, {int32_t(prompt + at)}), count);
    const Variable ahead = m.ahead_hidden(text, points);
    for (int64_t i = 0; i < count; ++i)
      EXPECT_EQ(written[size_t(at + i)], likeliest(m, ahead, i)) << at << " " << i;
  }
}

TEST_P(LatentsMadeAnew, AreThoseOfAPromptOfAllTokensSoFar) {
  const Case& c = GetParam();
  if (c.late > 0) return;  // the tokens before late latents are written behind the old ones
  const auto model = augmented(c.base, parse_json(c.latents));
  Generator random(12);
  testing::draw_large_matrices(*model, random);
  bool any_differs = false;
  const std::vector<std::vector<int32_t>> prompts = {kPrompt, {4, 4, 8}, {50, 1, 2, 31}};
  for (const auto& prompt : prompts) {
    const auto once = generate(*model, prompt, greedy(kTokens, 0));
    for (const int64_t every : {1, 4, 5}) {
      std::vector<int32_t> begun_anew;
      while (int64_t(begun_anew.size()) < kTokens)
        begun_anew = joined(
            begun_anew, generate(*model, joined(prompt, begun_anew),
                                 greedy(std::min(every, kTokens - int64_t(begun_anew.size())), 0)));
      EXPECT_EQ(generate(*model, prompt, anew(kTokens, every)), begun_anew) << every;
      any_differs = any_differs || begun_anew != once;
    }
  }
  if (std::string(c.name) == "llama") {
    EXPECT_TRUE(any_differs) << "the test sees no difference";
  }
}

TEST_P(LatentsMadeAnew, NeverOrBehindTheEndIsOnce) {
  const Case& c = GetParam();
  const auto model = augmented(c.base, parse_json(c.latents), c.late);
  const auto once = generate(*model, kPrompt, greedy(kTokens, c.late));
  for (const int64_t every : {int64_t(0), kTokens, int64_t(1000)})
    EXPECT_EQ(generate(*model, kPrompt, anew(kTokens, every, c.late)), once) << every;
}
INSTANTIATE_TEST_SUITE_P(
    Kinds, LatentsMadeAnew,
    ::testing::Values(
        Case{"llama", "llama", kCoprocessor, 0}, Case{"gpt2", "gpt2", kCoprocessor, 0},
        Case{"gemma3", "gemma3", kCoprocessor, 0}, Case{"late", "llama", kCoprocessor, 3},
        Case{"cache", "llama", kCache, 0}, Case{"cache_gemma3", "gemma3", kCache, 0},
        Case{"cache_late", "llama", kCache, 2},
        Case{"last_hidden", "llama",
             R"({"type": "coprocessor", "count": 4, "reads": "last_hidden",
                             "initial": "scratch"})",
             0},
        Case{"icae", "llama", kIcae, 0}, Case{"icae_late", "gpt2", kIcae, 2},
        Case{"gist", "llama", R"({"type": "gist", "count": 3})", 0},
        Case{"gist_sees_text", "llama", R"({"type": "gist", "count": 3, "tokens_see": "all"})", 0},
        Case{"soft", "llama", R"({"type": "soft_embeddings", "count": 3})", 0}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(LatentsMadeAnewBeside, SeveralTextsAreWrittenAsEachAlone) {
  const auto model = augmented("llama", parse_json(kCoprocessor));
  for (const int64_t late : {0, 2}) {
    GenerateOptions options = anew(kTokens, 4, late);
    options.temperature = 1.5;
    const auto texts = generate_samples(*model, kPrompt, 3, options);
    for (uint64_t i = 0; i < 3; ++i) {
      GenerateOptions alone = options;
      alone.seed = options.seed + i;
      EXPECT_EQ(texts[i], generate(*model, kPrompt, alone)) << i;
    }
    EXPECT_NE(texts[0], texts[1]);
  }
}

// With new latents behind each token, a context that is full begins anew with its last half.
TEST(LatentsMadeAnewBeside, TextsMayOutgrowTheContext) {
  const auto model = augmented("llama", parse_json(kCoprocessor));
  auto& m = dynamic_cast<AugmentedModel&>(*model);
  const int64_t block = m.base().block_size(), rows = m.source().count();
  constexpr int64_t kLong = 150;
  std::vector<int32_t> text = kPrompt;
  int64_t begin = 0;
  while (int64_t(text.size()) < int64_t(kPrompt.size()) + kLong) {
    const int64_t length = int64_t(text.size());
    if (length - begin + rows > block) begin = length - (block - rows) / 2;
    text = joined(text, generate(*model, {text.begin() + begin, text.end()}, greedy(1, 0)));
  }
  EXPECT_EQ(joined(kPrompt, generate(*model, kPrompt, anew(kLong, 1))), text);
  for (const int64_t late : {int64_t(0), int64_t(3), block - rows - 1})
    for (const int64_t every : {late + 1, late + 7, late + 40})
      for (const size_t prompt : {1, 9, 90})
        EXPECT_EQ(
            generate(*model, std::vector<int32_t>(prompt, 4), anew(kLong, every, late)).size(),
            size_t(kLong))
            << late << " " << every << " " << prompt;
}

TEST(LatentsMadeAnewBeside, RefusesWhatCannotBe) {
  const auto model = augmented("llama", parse_json(kCoprocessor));
  auto& m = dynamic_cast<AugmentedModel&>(*model);
  const auto refused = [&](const GenerateOptions& options, LanguageModel& writes) {
    return testing::message_of<UserError>([&] { generate(writes, kPrompt, options); });
  };
  EXPECT_THAT(refused(anew(3, -1), m), HasSubstr("latents_every is -1, wanted 0 (once) or more"));
  EXPECT_THAT(refused(anew(3, 2, 2), m),
              HasSubstr("anew every 2 tokens and arrive 2 tokens late would be replaced"));
  EXPECT_THAT(refused(anew(3, 2, {}), m), HasSubstr("wanted latents_late beside it"));
  EXPECT_THAT(refused(anew(3, 200, 60), m), HasSubstr("need a text of 66 tokens or more"));
  GenerateOptions two = greedy(3, {});
  two.latents = {std::make_shared<BlockingLatents>(m, 0),
                 std::make_shared<BlockingLatents>(m, 0, 2)};
  EXPECT_THAT(refused(two, m.base()), HasSubstr("2 coprocessors write into it: name one"));
}

TEST(WrittenWithLatents, RefusesModelsWithoutLatents) {
  const auto model = augmented("llama", parse_json(kCoprocessor));
  EXPECT_THROW(generate(dynamic_cast<AugmentedModel&>(*model).base(), kPrompt, greedy(3, 0)),
               UserError);
  EXPECT_THROW(generate(*model, kPrompt, greedy(3, -1)), UserError);
}

}  // namespace
}  // namespace reverie
