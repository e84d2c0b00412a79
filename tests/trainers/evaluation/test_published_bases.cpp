// Two published models, where their files are: the perplexities of docs/pretrained.md, by
// transformers' own losses of each window (tests/golden/make/make_base_perplexities.py).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/files.h"
#include "core/json.h"
#include "datasets/sources.h"
#include "datasets/tokenizers/tokenizer.h"
#include "layers/pretrained/load.h"
#include "support/tests_directory.h"
#include "trainers/evaluation/perplexity.h"

namespace reverie {
namespace {

// Of 8: the first two take seconds.
constexpr int64_t kWindows = 2;

const Json& golden() {
  static const Json json =
      parse_json(read_file(testing::test_directory() + "/golden/base_perplexities.json"));
  return json;
}
std::string first_characters(const std::string& text, int64_t count) {
  size_t at = 0;
  while (at < text.size() && count > 0) {
    ++at;
    while (at < text.size() && (text[at] & 0xC0) == 0x80) ++at;
    --count;
  }
  return text.substr(0, at);
}
double sum_of(const Json& numbers, size_t count) {
  const auto all = numbers.get<std::vector<double>>();
  return std::accumulate(all.begin(), all.begin() + std::ptrdiff_t(count), 0.0);
}

struct Base {
  const char* name;
  double documented;  // perplexity of the 8 windows, in docs/pretrained.md
};
void PrintTo(const Base& b, std::ostream* out) {
  *out << b.name;
}
class PublishedBase : public ::testing::TestWithParam<Base> {
 protected:
  const Json& base() const { return golden().at("bases").at(GetParam().name); }
};
INSTANTIATE_TEST_SUITE_P(All, PublishedBase,
                         ::testing::Values(Base{"smollm2", 19.502}, Base{"gemma3", 32.442}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(PublishedBase, HasTheDocumentedPerplexity) {
  const double mean = sum_of(base().at("nll"), 8) / sum_of(base().at("predictions"), 8);
  EXPECT_NEAR(std::exp(mean), GetParam().documented, 1e-3);
  EXPECT_THAT(read_file(testing::test_directory() + "/../docs/pretrained.md"),
              ::testing::HasSubstr(fmt::format("| {:.3f} |", GetParam().documented)));
}

TEST_P(PublishedBase, HasTransformersLosses) {
  const std::string file =
      cache_directory() + "/" + GetParam().name + "/" + base().at("file").get<std::string>();
  if (!std::filesystem::exists(file))
    GTEST_SKIP() << file << " is not there: scripts/fetch.py " << GetParam().name;
  const char* data = std::getenv("REVERIE_DATA");
  if (!data) GTEST_SKIP() << "REVERIE_DATA is not set";
  const std::string text =
      first_characters(read_file(std::string(data) + "/" + golden().at("text").get<std::string>()),
                       golden().at("characters"));
  const LoadedModel loaded = load_pretrained(file);
  const auto tokenizer = load_tokenizer_for(file);
  PerplexityOptions options;
  options.window = base().at("window");
  options.max_windows = kWindows;
  ASSERT_EQ(tokenizer->adds_begin_of_text(), !base().at("begin").is_null());
  if (tokenizer->adds_begin_of_text()) {
    options.begin_of_text = tokenizer->begin_of_text();
    EXPECT_EQ(*options.begin_of_text, base().at("begin").get<int32_t>());
  }
  const PerplexityResult got = perplexity(*loaded.model, *tokenizer, text, options);
  EXPECT_EQ(got.windows, kWindows);
  ASSERT_EQ(double(got.predictions), sum_of(base().at("predictions"), kWindows));
  // Both in f32, added in another order: perplexities agree to 3e-5 of themselves over 8 windows.
  EXPECT_NEAR(got.nll(), sum_of(base().at("nll"), kWindows) / double(got.predictions), 1e-4);
}

}  // namespace
}  // namespace reverie
