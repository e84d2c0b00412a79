// Perplexity over windows: against sums made by hand, with and without a begin-of-text token, over
// windows that overlap and ones that do not.

#include "trainers/evaluation/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <span>

#include "core/error.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "support/tests_directory.h"
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
    return perplexity(*model, *tokenizer, text, options);
  }

  std::shared_ptr<const Tokenizer> tokenizer = CharTokenizer::from_text(kText);
  std::unique_ptr<LanguageModel> model = reverie::testing::make_model(
      R"({"type": "llama", "vocab_size": 5, "block_size": 12, "n_layer": 1,
                              "n_head": 2, "n_embd": 8})");
  std::string text = kText;
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

// Nobody predicts a window's first character without a begin-of-text token: the words that are left
// are those of the text, in proportion.
TEST_F(Perplexity, WordsAreThoseOfTheTextWhateverTheWindow) {
  for (const PerplexityOptions& options :
       {PerplexityOptions{.window = 11, .begin_of_text = 3},
        PerplexityOptions{.window = 3, .begin_of_text = 3},
        PerplexityOptions{.window = 4, .stride = 1, .begin_of_text = 3}}) {
    const PerplexityResult r = measure(options);
    EXPECT_EQ(r.predictions, 28);
    EXPECT_DOUBLE_EQ(r.words, 10);
    EXPECT_DOUBLE_EQ(r.bytes, 28);
    EXPECT_NEAR(r.word_perplexity(), std::exp(r.nll_sum / 10), 1e-9 * r.word_perplexity());
  }
  const PerplexityResult some = measure({.window = 10});
  EXPECT_DOUBLE_EQ(some.bytes, 25);
  EXPECT_DOUBLE_EQ(some.words, 10 * 25. / 28);
  // The first twelve characters, "ab cd ab d c", hold five words.
  const PerplexityResult first = measure({.window = 12, .max_windows = 1});
  EXPECT_DOUBLE_EQ(first.words, 5 * 11. / 12);
}

TEST(CountWords, AsLmEvalDoes) {  // len(re.split(r"\s+", text))
  EXPECT_EQ(count_words("two words"), 2);
  EXPECT_EQ(count_words("a \t\r\n b\x0b\x0c"
                        "c\x1c"
                        "d\x1f"
                        "e"),
            5);
  // No-break space, ogham space, em space, line and paragraph separators, ideographic space, next
  // line; but neither zero-width space nor Mongolian vowel separator.
  EXPECT_EQ(count_words("a\u00a0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\u0085j"), 10);
  EXPECT_EQ(count_words("a\u200bb\u180ec"), 1);
  EXPECT_EQ(count_words(" ends \n"), 3) << "an empty word at each end";
  EXPECT_EQ(count_words(""), 1);
}

// A vocabulary that puts a space before a text and writes unknown characters in bytes.
TEST(PerplexityBytes, AreThoseOfTheTextNotOfItsTokens) {
  const auto pieces =
      load_tokenizer_for(testing::test_directory() + "/golden/tokenizers/pieces.model");
  const auto model = reverie::testing::make_model(
      fmt::format(R"({{"type": "llama", "vocab_size": {}, "block_size": 64, "n_layer": 1,
                       "n_head": 2, "n_embd": 8}})",
                  pieces->vocabulary_size()));
  for (const std::string text : {"Hi", " the one of two", "\xE6\x97\xA5 \xF0\x9F\x98\x80"}) {
    const PerplexityResult r =
        perplexity(*model, *pieces, text, {.begin_of_text = pieces->begin_of_text()});
    EXPECT_EQ(r.predictions, int64_t(pieces->encode(text).size()));
    EXPECT_DOUBLE_EQ(r.bytes, double(text.size())) << text;
    EXPECT_NEAR(r.bits_per_byte(), r.nll_sum / std::log(2.0) / double(text.size()), 1e-12);
  }
  // The first token, a space and "the", is not predicted: the text's other bytes are left.
  const PerplexityResult r = perplexity(*model, *pieces, "the one", {});
  const auto tokens = pieces->encode("the one");
  EXPECT_DOUBLE_EQ(r.bytes, double(pieces->decode_continued(std::span(tokens).subspan(1)).size()));
}

TEST_F(Perplexity, ALossThatIsNotFiniteIsNoResult) {
  for (auto& [name, parameter] : model->parameters()) {
    Tensor values = parameter.tensor();
    values.copy_from(Tensor::full(values.shape(), NAN, values.dtype()));
  }
  EXPECT_THROW(measure({.window = 10}), DivergedError);
}

TEST_F(Perplexity, EveryWindowIsShownAsItWasScored) {
  int64_t windows = 0, targets = 0;
  PerplexityOptions options{.window = 10, .stride = 4};
  options.each_window = [&](const Tensor& read, const Tensor& wanted) {
    EXPECT_EQ(read.shape(), wanted.shape());
    for (const double t : wanted.to_vector()) targets += t >= 0;
    ++windows;
  };
  const PerplexityResult r = measure(options);
  EXPECT_EQ(windows, r.windows);
  EXPECT_EQ(targets, r.predictions);
}

TEST_F(Perplexity, RefusesWhatDoesNotFit) {
  EXPECT_THROW(measure({.window = 14}), UserError);
  EXPECT_NO_THROW(measure({.window = 13})) << "the last token of a window is not read";
  EXPECT_THROW(measure({.window = 1}), UserError);
  EXPECT_THROW(measure({.window = 10, .stride = 11}), UserError);
  text = "a";
  EXPECT_THROW(measure({.window = 10}), UserError);
}

}  // namespace
}  // namespace reverie
