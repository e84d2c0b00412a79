#include "trainers/generation/generate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::kTinyModels;
using testing::make_model;
using testing::NamedModel;

constexpr const char* kGpt = R"({"type":"gpt2",)" REVERIE_TINY "}";

GenerateOptions greedy(int64_t max_tokens) {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.temperature = 0;
  return options;
}

// The same model without its cache; counts what it is asked.
class WithoutCache final : public LanguageModel {
 public:
  explicit WithoutCache(LanguageModel& model) : model_(model) {}
  int64_t vocabulary_size() const override { return model_.vocabulary_size(); }
  int64_t block_size() const override { return model_.block_size(); }
  Variable hidden(const Tensor& tokens, SequenceState* state) override {
    EXPECT_EQ(state, nullptr);
    lengths.push_back(tokens.size(1));
    return model_.hidden(tokens);
  }
  const Variable& head() const override { return model_.head(); }
  double logit_softcap() const override { return model_.logit_softcap(); }
  bool incremental() const override { return false; }
  bool carries_memory() const override { return false; }
  double forward_flops_per_token(int64_t) const override { return 0; }
  std::vector<int64_t> lengths;

 private:
  LanguageModel& model_;
};

// The likeliest tokens, each from whole windows side by side, memory carried from one to the next.
std::vector<int32_t> greedy_in_windows(LanguageModel& model, std::vector<int32_t> text,
                                       int64_t count) {
  NoGrad guard;
  std::vector<int32_t> written;
  const auto between = [&](size_t begin, size_t end) {
    return Tensor::from<int32_t>({1, int64_t(end - begin)},
                                 std::vector<int32_t>(text.begin() + std::ptrdiff_t(begin),
                                                      text.begin() + std::ptrdiff_t(end)));
  };
  const auto block = size_t(model.block_size());
  while (int64_t(written.size()) < count) {
    SequenceState state;
    size_t begin = 0;
    for (; text.size() - begin > block; begin += block)
      model.hidden(between(begin, begin + block), &state);
    const auto logits = model.logits(between(begin, text.size()), &state).tensor().to_vector();
    const auto last = logits.end() - 13;
    text.push_back(int32_t(std::max_element(last, logits.end()) - last));
    written.push_back(text.back());
  }
  return written;
}

class GreedyText : public ::testing::TestWithParam<NamedModel> {};

// Long enough to fill the block of 19 several times over. Greedy text of random weights soon
// repeats itself, so that drawn text, which wanders, is compared as well.
TEST_P(GreedyText, IsTheSameWithAndWithoutACache) {
  const auto model = make_model(GetParam().json);
  model->train(false);
  WithoutCache plain(*model);
  GenerateOptions drawn;
  drawn.max_tokens = 60;
  for (const size_t prompt_size : {1, 7, 30}) {
    std::vector<int32_t> prompt;
    for (size_t i = 0; i < prompt_size; ++i) prompt.push_back(int32_t(i * 5 % 13));
    if (model->carries_memory()) {
      EXPECT_EQ(generate(*model, prompt, greedy(60)), greedy_in_windows(*model, prompt, 60))
          << prompt_size;
      continue;
    }
    EXPECT_EQ(generate(*model, prompt, greedy(60)), generate(plain, prompt, greedy(60)))
        << prompt_size;
    const auto text = generate(*model, prompt, drawn);
    EXPECT_EQ(text, generate(plain, prompt, drawn)) << prompt_size;
    EXPECT_EQ(text.size(), 60u);
    EXPECT_GT(std::set<int32_t>(text.begin(), text.end()).size(), 5u);
  }
}
INSTANTIATE_TEST_SUITE_P(Generate, GreedyText, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Generate, GreedyTakesTheLikeliestAfterTheWholePrefix) {
  const auto model = make_model(kGpt);
  std::vector<int32_t> text = {3, 1, 4};
  const auto generated = generate(*model, text, greedy(10));
  NoGrad guard;
  for (const int32_t token : generated) {
    const auto logits =
        model->logits(Tensor::from<int32_t>({1, int64_t(text.size())}, text)).tensor().to_vector();
    const auto last = logits.end() - 13;
    EXPECT_EQ(token, std::max_element(last, logits.end()) - last);
    text.push_back(token);
  }
}

TEST(Generate, AFullBlockBeginsAnewWithItsLastHalf) {
  const auto model = make_model(kGpt);
  WithoutCache plain(*model);
  generate(plain, std::vector<int32_t>(18, 1), greedy(5));
  EXPECT_EQ(plain.lengths, (std::vector<int64_t>{18, 19, 9, 10, 11}));
  plain.lengths.clear();
  generate(plain, std::vector<int32_t>(40, 1), greedy(2));
  EXPECT_EQ(plain.lengths, (std::vector<int64_t>{19, 9}));
}

TEST(Generate, ABlockOfOneToken) {
  const auto model = make_model(
      R"({"type":"gpt2","vocab_size":5,"block_size":1,"n_layer":1,"n_head":1,"n_embd":4})");
  WithoutCache plain(*model);
  EXPECT_EQ(generate(*model, {2, 3}, greedy(6)), generate(plain, {2, 3}, greedy(6)));
}

TEST(Generate, OnTokenSeesEachTokenInOrder) {
  const auto model = make_model(kGpt);
  std::vector<int32_t> seen;
  GenerateOptions options;
  options.max_tokens = 30;
  const auto text = generate(*model, {0}, options, [&](int32_t t) { seen.push_back(t); });
  EXPECT_EQ(seen, text);
  EXPECT_TRUE(generate(*model, {0}, greedy(0)).empty());
}

TEST(Generate, TheSeedDecidesTheText) {
  const auto model = make_model(kGpt);
  GenerateOptions options;
  options.max_tokens = 50;
  const auto first = generate(*model, {0}, options);
  default_generator().reserve(100);  // dropout's generator has no say
  EXPECT_EQ(generate(*model, {0}, options), first);
  options.seed = 2;
  EXPECT_NE(generate(*model, {0}, options), first);
}

// 1500 draws of one token: shares within 4 standard deviations of softmax(logits / temperature)
// over the k likeliest, and nothing else.
TEST(Generate, DrawsFollowTemperatureAndTopK) {
  const auto model = make_model(kGpt);
  std::vector<double> logits;
  {
    NoGrad guard;
    logits = model->logits(Tensor::from<int32_t>({1, 2}, {3, 7})).tensor().to_vector();
    logits.erase(logits.begin(), logits.begin() + 13);
  }
  for (const auto& [temperature, top_k] :
       {std::pair{1.0, 0}, std::pair{0.5, 4}, std::pair{2.0, 99}, std::pair{1.0, 1}}) {
    std::vector<double> sorted = logits;
    std::sort(sorted.rbegin(), sorted.rend());
    const double lowest = top_k == 0 || top_k > 13 ? -INFINITY : sorted[size_t(top_k - 1)];
    std::vector<double> wanted;
    double total = 0;
    for (double x : logits) wanted.push_back(x < lowest ? 0 : std::exp(x / temperature));
    for (double w : wanted) total += w;

    std::vector<double> drawn(13, 0.0);
    GenerateOptions options;
    options.max_tokens = 1;
    options.temperature = temperature;
    options.top_k = top_k;
    for (options.seed = 0; options.seed < 1500; ++options.seed)
      drawn[size_t(generate(*model, {3, 7}, options)[0])] += 1;
    for (size_t i = 0; i < 13; ++i) {
      const double p = wanted[i] / total;
      EXPECT_NEAR(drawn[i] / 1500, p, 4 * std::sqrt(p * (1 - p) / 1500))
          << "token " << i << ", temperature " << temperature << ", top_k " << top_k;
    }
  }
}

// Side by side, over several refills of the block: text i is what seed + i writes alone.
class SeveralTexts : public ::testing::TestWithParam<NamedModel> {};
TEST_P(SeveralTexts, AreThoseOfTheirSeeds) {
  const auto model = make_model(GetParam().json);
  GenerateOptions options;
  options.max_tokens = 45;
  options.seed = 11;
  const std::vector<int32_t> prompt = {3, 1, 4};
  std::vector<std::vector<int32_t>> seen(5);
  const auto texts = generate_samples(*model, prompt, 5, options, [&](int64_t i, int32_t token) {
    seen[size_t(i)].push_back(token);
  });
  ASSERT_EQ(texts.size(), 5u);
  EXPECT_EQ(seen, texts);
  EXPECT_EQ(std::set(texts.begin(), texts.end()).size(), 5u);
  for (const auto& text : texts) {
    EXPECT_EQ(text, generate(*model, prompt, options));
    ++options.seed;
  }
}
INSTANTIATE_TEST_SUITE_P(Generate, SeveralTexts, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

// One that has ended waits for the others, and all stop with the last.
TEST(Generate, TextsEndEachByItself) {
  const auto model = make_model(kGpt);
  GenerateOptions options;
  options.max_tokens = 40;
  options.ends = {3, 2};
  std::set<size_t> lengths;
  const auto texts = generate_samples(*model, {3, 1, 4}, 6, options);
  for (const auto& text : texts) {
    EXPECT_EQ(std::count(text.begin(), text.end(), 2), 0);
    EXPECT_EQ(std::count(text.begin(), text.end(), 3), 0);
    EXPECT_EQ(text, generate(*model, {3, 1, 4}, options));
    lengths.insert(text.size());
    ++options.seed;
  }
  EXPECT_GT(lengths.size(), 1u);
  EXPECT_LT(*lengths.begin(), 40u);
}

// Equal logits: the smaller numbers are taken, whatever the sorting.
TEST(Generate, TiesOfTheTopKGoToTheSmallerNumbers) {
  const auto model = make_model(kGpt);
  Tensor head = model->parameters()[0].second.tensor();
  head.fill(0);  // every logit is 0
  GenerateOptions options;
  options.max_tokens = 60;
  options.top_k = 3;
  const auto text = generate(*model, {5}, options);
  EXPECT_EQ(std::set(text.begin(), text.end()), (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(generate(*model, {5}, greedy(3)), (std::vector<int32_t>{0, 0, 0}));
}

TEST(Generate, VeryLowTemperaturesAreGreedy) {
  const auto model = make_model(kGpt);
  GenerateOptions options = greedy(30);
  const auto wanted = generate(*model, {5}, options);
  options.temperature = 1e-6;
  EXPECT_EQ(generate(*model, {5}, options), wanted);
}

TEST(Generate, RestoresTheModeAndDropsNothing) {
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY R"(,"dropout":0.5})");
  const auto text = generate(*model, {5}, greedy(30));
  EXPECT_TRUE(model->training());
  model->train(false);
  EXPECT_EQ(generate(*model, {5}, greedy(30)), text);
  EXPECT_FALSE(model->training());
}

TEST(Generate, RefusesWhatMakesNoSense) {
  const auto model = make_model(kGpt);
  EXPECT_THROW(generate(*model, {}, greedy(1)), UserError);
  EXPECT_THROW(generate(*model, {13}, greedy(1)), UserError);
  EXPECT_THROW(generate(*model, {-1}, greedy(1)), UserError);
  EXPECT_THROW(generate(*model, {1}, greedy(-1)), UserError);
  EXPECT_THROW(generate_samples(*model, {1}, 0, greedy(1)), UserError);
  GenerateOptions options;
  options.temperature = -0.5;
  EXPECT_THROW(generate(*model, {1}, options), UserError);
  options.temperature = NAN;
  EXPECT_THROW(generate(*model, {1}, options), UserError);
  options.temperature = 1;
  options.top_k = -1;
  EXPECT_THROW(generate(*model, {1}, options), UserError);
}

TEST(Generate, BrokenWeightsAreNamed) {
  const auto model = make_model(kGpt);
  Tensor weight = model->parameters()[0].second.tensor();
  weight.fill(NAN);
  EXPECT_THROW(generate(*model, {1}, greedy(1)), DivergedError);
}

}  // namespace
}  // namespace reverie
