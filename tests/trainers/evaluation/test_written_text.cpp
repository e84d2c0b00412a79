// One rule for prompts and ends of texts, wherever a model writes.

#include "trainers/evaluation/written_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/generation/generate.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using reverie::testing::make_model;
using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

// Puts <s> before a text and a space before its first word; </s> ends a text.
const std::string kPieces = testing::test_directory() + "/golden/tokenizers/pieces.model";

std::unique_ptr<LanguageModel> model_of(int64_t rows) {
  return make_model(fmt::format(R"({{"type": "llama", "vocab_size": {}, "block_size": 16,
                                     "n_layer": 1, "n_head": 2, "n_embd": 8}})",
                                rows));
}

TEST(WrittenText, APromptBeginsAsTheModelSawTexts) {
  const auto pieces = load_tokenizer_for(kPieces);
  std::vector<int32_t> wanted = pieces->encode("the one");
  wanted.insert(wanted.begin(), pieces->begin_of_text().value());
  EXPECT_EQ(prompt_tokens(*pieces, "the one", pieces->vocabulary_size()), wanted);
  EXPECT_EQ(prompt_tokens(*pieces, "", 300), std::vector<int32_t>{1});
  EXPECT_THROW(prompt_tokens(*pieces, "the one", 5), UserError);
}

TEST(WrittenText, EndsWhereModelOrTokenizerSays) {
  const auto pieces = load_tokenizer_for(kPieces);
  const auto model = model_of(pieces->vocabulary_size());
  EXPECT_EQ(ends_of_text(*model, pieces.get()), std::vector<int32_t>{2});
  EXPECT_TRUE(ends_of_text(*model, nullptr).empty());
}

// A run's sample while it trains equals `reverie sample`'s from the same weights.
TEST(WrittenText, ARunsSampleIsThatOfItsModel) {
  const TemporaryDirectory directory;
  {
    std::ofstream text(directory / "text.txt");
    for (int i = 0; i < 40; ++i) text << "the one of two and the other of them\n";
  }
  Config config = Config::parse(
      R"({"model": {"type": "llama", "block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 8},
          "train": {"steps": 3, "batch_size": 2},
          "evaluation": {"final_windows": 1, "final_prefix_only_windows": 1},
          "sample": {"prompt": "", "tokens": 12, "temperature": 0}})",
      "test");
  config.set("data.path=" + (directory / "text.txt"));
  config.set("data.prepared_directory=" + (directory / "tokens"));
  config.set("data.tokenizer=pretrained");
  config.set("data.tokenizer_files=" + kPieces);
  RunControl control;
  control.run_directory = directory / "run";
  MonitoredTrainer(read_experiment(config, "."), control).run();
  std::string shown;
  for (const Json& event : read_metrics(control.run_directory))
    if (event.at("event") == "sample") shown = event.at("text");
  ASSERT_FALSE(shown.empty());

  const UsableModel usable = open_model(control.run_directory);
  GenerateOptions options;
  options.max_tokens = 12;
  options.temperature = 0;
  options.ends = usable.ends;
  // Metrics hold a byte that is no character as U+FFFD.
  const auto in_metrics = [](const std::string& text) {
    return parse_json(json_text_replacing(Json(text))).get<std::string>();
  };
  // Without the begin-of-text token there would be nothing to go on from.
  const auto prompt = prompt_tokens(usable.text(), "", usable.model->vocabulary_size());
  EXPECT_EQ(prompt, std::vector<int32_t>{1});
  EXPECT_EQ(in_metrics(usable.text().decode(generate(*usable.model, prompt, options))), shown);
}

TEST(WrittenText, AddedTokensMayLieBeyondTheModelsRows) {
  const auto pieces = load_tokenizer_for(kPieces);
  EXPECT_NO_THROW(require_fitting(*pieces, pieces->vocabulary_size(), "m"));
  EXPECT_NO_THROW(require_fitting(*pieces, pieces->vocabulary_size() + 40, "m"));
  EXPECT_THROW(require_fitting(*pieces, pieces->ordinary_vocabulary_size() - 1, "m"), UserError);
}

}  // namespace
}  // namespace reverie
