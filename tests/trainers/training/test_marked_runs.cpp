// Runs on a published model whose vocabulary gets the marks of examples: training, resuming, what is
// exported, models that think.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "datasets/example_marks.h"
#include "datasets/tokenizers/odd_texts.h"
#include "layers/pretrained/load.h"
#include "layers/thinking_model.h"
#include "support/message_of.h"
#include "support/published_model.h"
#include "support/temporary_directory.h"
#include "trainers/exporting/gguf.h"
#include "trainers/exporting/hugging_face.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/learning_rate_range.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::message_of;
using testing::MonitoredTrainer;
using testing::published_vocabulary;
using testing::TemporaryDirectory;
using testing::write_published_model;

class MarkedRun : public ::testing::Test {
 protected:
  ExperimentOptions experiment(const std::string& base, const Json& patch = Json::object()) const {
    Json json = {
        {"seed", 7},
        {"precision", "f64"},
        {"data",
         {{"problems",
           {{"type", "arithmetic"},
            {"operation", "plus"},
            {"digits", 1},
            {"second_digits", 1},
            {"train", 40},
            {"held_out", 8}}},
          {"examples", {{"stage", 0}}},
          {"tokenizer", "pretrained"},
          {"tokenizer_files", base},
          {"marks", "tokens"}}},
        {"model", {{"type", "pretrained"}, {"path", base}, {"vocab_size", 0}, {"new_tokens", 5}}},
        {"train", {{"steps", 4}, {"batch_size", 2}}},
        {"optimizer", {{"warmup_steps", 1}, {"learning_rate", 0.01}}},
        {"evaluation",
         {{"interval", 0},
          {"windows", 4},
          {"final_windows", 4},
          {"prefix_only_windows", 1},
          {"final_prefix_only_windows", 1},
          {"batch_size", 4}}},
        {"sample", {{"interval", 0}, {"tokens", 0}}},
        {"checkpoint", {{"interval", 0}}}};
    json.merge_patch(patch);
    json["data"]["prepared_directory"] =
        directory_ / ("tokens" + json_text(json["data"]["examples"]["stage"]));
    return read_experiment(Config(json, "$"), ".");
  }
  RunEnd train(const std::string& name, const ExperimentOptions& options, bool resume = false,
               std::optional<int64_t> stop_after = std::nullopt) const {
    RunControl control;
    control.run_directory = directory_ / name;
    control.resume = resume;
    control.stop_after = stop_after;
    return MonitoredTrainer(options, control).run();
  }
  NamedTensors weights(const std::string& name) const {
    return read_checkpoint(latest_checkpoint(directory_ / name).value()).model;
  }
  TemporaryDirectory directory_;
  SignalGuard signals_;
};

// On a GGUF file, and on a Hugging Face directory.
class MarkedRunOfFiles : public MarkedRun, public ::testing::WithParamInterface<const char*> {
 protected:
  std::string base(int64_t spare = 0, bool tied = true) const {
    const std::string path = directory_ / GetParam();
    std::filesystem::remove_all(path);
    write_published_model(path, spare, tied);
    return path;
  }
};

TEST_P(MarkedRunOfFiles, TrainsItsNewRowsAndResumesToTheBit) {
  const ExperimentOptions options = experiment(base());
  EXPECT_EQ(train("whole", options), RunEnd::finished);
  EXPECT_EQ(train("stopped", options, false, 2), RunEnd::stopped);
  EXPECT_EQ(train("stopped", options, true), RunEnd::finished);
  const NamedTensors whole = weights("whole"), resumed = weights("stopped");
  ASSERT_EQ(whole.size(), resumed.size());
  const int64_t tokens = published_vocabulary()->vocabulary_size();
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(bit_identical(whole[i].second, resumed[i].second)) << whole[i].first;
    if (whole[i].first != "model.embed_tokens.weight") continue;
    ASSERT_EQ(whole[i].second.size(0), tokens + ExampleLayout::kMarks);
    // They began alike.
    EXPECT_GT(largest_difference(whole[i].second.slice(0, tokens, tokens + 1).contiguous(),
                                 whole[i].second.slice(0, tokens + 2, tokens + 3).contiguous()),
              1e-4);
  }
  const LoadedRun run = load_run(directory_ / "whole");
  EXPECT_EQ(run.options.model.resolved->at("vocab_size"), tokens + ExampleLayout::kMarks);
  EXPECT_EQ(first_mark_in(*run.tokenizer), tokens);
}

TEST_P(MarkedRunOfFiles, LeavesModelAndTokenizerThatAgree) {
  for (const bool tied : {true, false}) {
    SCOPED_TRACE(tied);
    const std::string name = tied ? "tied" : "apart";
    train(name, experiment(base(3, tied)));
    const LoadedRun run = load_run(directory_ / name);
    export_hugging_face(*run.model, run.options.model, run.tokenizer.get(),
                        directory_ / (name + "_hf"));
    export_gguf(*run.model, run.options.model, run.tokenizer.get(), GgufTensorType::f32,
                directory_ / (name + ".gguf"));
    // The tokenizer of a GGUF file has a token for every row, and marks come behind all of them.
    const int64_t spare = GetParam() == std::string("model.gguf") ? 3 : 0,
                  first = published_vocabulary()->vocabulary_size() + spare;
    const auto ids =
        run.tokenizer->encode("1 + 2<|start-latent|><|latent|><|end-latent|> 3<|answer|>");
    const Tensor tokens =
        Tensor::from<int32_t>({1, int64_t(ids.size())}, std::span<const int32_t>(ids));
    NoGrad guard;
    const Tensor wanted = run.model->logits(tokens).tensor();
    for (const char* ending : {"_hf", ".gguf"}) {
      SCOPED_TRACE(ending);
      const std::string path = directory_ / (name + ending);
      const auto tokenizer = load_tokenizer_for(path);
      EXPECT_EQ(first_mark_in(*tokenizer), first);
      EXPECT_EQ(tokenizer->encode(tokenizer->decode(ids)), ids);
      for (const std::string& text : odd_texts(*run.tokenizer, 100))
        EXPECT_EQ(tokenizer->encode(text), run.tokenizer->encode(text)) << text;
      const LoadedModel again = load_pretrained(path);
      EXPECT_EQ(again.model->vocabulary_size(), first + ExampleLayout::kMarks);
      EXPECT_LT(largest_difference(again.model->logits(tokens).tensor(), wanted), 1e-4);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(All, MarkedRunOfFiles, ::testing::Values("model.gguf", "model"),
                         [](const auto& info) {
                           return std::string(info.param) == "model" ? "hugging_face" : "gguf";
                         });

// The table has more rows than there are tokens, so that the data's last token is not its last row.
TEST_F(MarkedRun, InAPaddedVocabularyAModelThinksAtTheDatasThoughts) {
  const std::string path = directory_ / "model";
  write_published_model(path, 9);
  Json thinking = {{"data", {{"examples", {{"stage", 1}, {"thoughts", 2}}}}},
                   {"model", {{"type", "coconut"}, {"base", path}, {"path", nullptr}}}};
  EXPECT_EQ(train("thinks", experiment(path, thinking)), RunEnd::finished);
  const LoadedRun run = load_run(directory_ / "thinks");
  const int64_t tokens = published_vocabulary()->vocabulary_size();
  EXPECT_EQ(run.model->vocabulary_size(), tokens + 9);
  EXPECT_EQ(thought_token_of(*run.model), tokens + 4);
  thinking["model"].update({{"vocab_size", "auto"}, {"new_tokens", 0}});
  const ExperimentOptions other = experiment(path, thinking);
  const auto says_both = AllOf(HasSubstr(fmt::format("thinks at token {}", tokens + 8)),
                               HasSubstr(fmt::format("$.model.thought_token to {}", tokens + 4)));
  EXPECT_THAT(message_of<UserError>([&] { train("other", other); }), says_both);
  EXPECT_THAT(message_of<UserError>([&] { find_learning_rate(other, {.steps = 30}); }), says_both);
}

TEST_F(MarkedRun, ABaseWithoutRowsForTheMarksIsRefused) {
  const std::string path = directory_ / "model";
  write_published_model(path);
  const auto refused = [&](const Json& model) {
    return message_of<UserError>([&] { train("refused", experiment(path, {{"model", model}})); });
  };
  EXPECT_THAT(refused({{"new_tokens", 0}}), HasSubstr("wanted at least 5 new tokens"));
  EXPECT_THAT(refused({{"new_tokens", 0}, {"vocab_size", "auto"}}),
              HasSubstr("is smaller than that of the data set"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "refused/config.resolved.json"));
}

}  // namespace
}  // namespace reverie
