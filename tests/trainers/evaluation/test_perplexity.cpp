// Perplexity over windows: against sums made by hand, with and without a begin-of-text token, over
// windows that overlap and ones that do not.

#include "trainers/evaluation/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

const std::string kText = "ab cd ab d c bad cab d ad bc";

class Perplexity : public ::testing::Test {
 protected:
  // Cross entropy of tokens[t] after tokens[from .. t), with `first` (if any) before them.
  double loss_of(int64_t from, int64_t t, std::optional<int32_t> first = {}) {
    std::vector<int32_t> read;
    if (first) read.push_back(*first);
    read.insert(read.end(), tokens.begin() + from, tokens.begin() + t);
    NoGrad no_grad;
    const auto logits =
        model->logits(Tensor::from<int32_t>({1, int64_t(read.size())}, read)).tensor().to_vector();
    const size_t vocabulary = size_t(model->vocabulary_size());
    const double* row = logits.data() + logits.size() - vocabulary;
    double total = 0;
    for (size_t v = 0; v < vocabulary; ++v) total += std::exp(row[v]);
    return std::log(total) - row[tokens[size_t(t)]];
  }
  PerplexityResult measure(const PerplexityOptions& options) {
    return perplexity(*model, *tokenizer, tokens, options);
  }

  std::shared_ptr<const Tokenizer> tokenizer = CharTokenizer::from_text(kText);
  std::unique_ptr<LanguageModel> model = reverie::testing::make_model(
      R"({"type": "llama", "vocab_size": 5, "block_size": 12, "n_layer": 1,
                              "n_head": 2, "n_embd": 8})");
  std::vector<int32_t> tokens = tokenizer->encode(kText);
};

TEST_F(Perplexity, WindowsAreCutOneAfterAnother) {
  const PerplexityResult r = measure({.window = 10});
  double sum = 0;
  int64_t predictions = 0;
  for (int64_t begin = 0; begin < 28; begin += 10)
    for (int64_t t = begin + 1; t < std::min<int64_t>(begin + 10, 28); ++t, ++predictions)
      sum += loss_of(begin, t);
  EXPECT_EQ(r.windows, 3);
  EXPECT_EQ(r.predictions, predictions);
  EXPECT_NEAR(r.nll_sum, sum, 1e-9);
  EXPECT_NEAR(r.perplexity(), std::exp(sum / double(predictions)), 1e-9);
  EXPECT_EQ(r.bytes, predictions) << "a character is a byte here";
  EXPECT_NEAR(r.bits_per_byte(), sum / std::log(2.0) / double(predictions), 1e-9);
}

TEST_F(Perplexity, ABeginOfTextTokenStandsBeforeEveryWindow) {
  const PerplexityResult r = measure({.window = 9, .max_windows = 2, .begin_of_text = 3});
  double sum = 0;
  for (int64_t begin : {0, 9})
    for (int64_t t = begin; t < begin + 9; ++t) sum += loss_of(begin, t, 3);
  EXPECT_EQ(r.predictions, 18);
  EXPECT_NEAR(r.nll_sum, sum, 1e-9);
}

TEST_F(Perplexity, OverlappingWindowsPredictEveryTokenOnce) {
  const PerplexityResult r = measure({.window = 10, .stride = 4});
  double sum = 0;
  int64_t scored = 1;  // nobody predicts the first token
  for (int64_t begin = 0; scored < 28; begin += 4)
    for (; scored < std::min<int64_t>(begin + 10, 28); ++scored) sum += loss_of(begin, scored);
  EXPECT_EQ(r.predictions, 27);
  EXPECT_NEAR(r.nll_sum, sum, 1e-9);
  EXPECT_NE(r.nll_sum, measure({.window = 10}).nll_sum);
}

TEST_F(Perplexity, WordsAreWhatWhiteSpaceSeparates) {
  const PerplexityResult r = measure({.window = 12, .max_windows = 1});
  EXPECT_EQ(r.words, 5) << "of \"b cd ab d c\": the first character is not predicted";
  EXPECT_NEAR(r.word_perplexity(), std::exp(r.nll_sum / 5), 1e-9);
}

TEST_F(Perplexity, RefusesWhatDoesNotFit) {
  EXPECT_THROW(measure({.window = 14}), UserError);
  EXPECT_NO_THROW(measure({.window = 13})) << "the last token of a window is not read";
  EXPECT_THROW(measure({.window = 1}), UserError);
  EXPECT_THROW(measure({.window = 10, .stride = 11}), UserError);
  tokens.resize(1);
  EXPECT_THROW(measure({.window = 10}), UserError);
}

}  // namespace
}  // namespace reverie
