// Errors that the data show before a run begins: more targets than a model with latents predicts.

#include "trainers/training/run_preparation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

class TargetsAhead : public ::testing::Test {
 protected:
  Dataset data_of(const Json& patch) const {
    Json json = {{"problems",
                  {{"type", "arithmetic"},
                   {"operation", "plus"},
                   {"digits", 2},
                   {"second_digits", 2},
                   {"train", 30},
                   {"held_out", 5}}},
                 {"examples", {{"stage", 9}, {"thoughts", 0}}},
                 {"tokenizer", "word"},
                 {"prepared_directory", directory_ / "tokens"}};
    json.merge_patch(patch);
    DataOptions options;
    read_config(Config(json, "$.data"), options);
    options.replace = true;
    return prepare_and_open(options);
  }
  static void require_ahead(const Dataset& data, int64_t ahead, const char* insert = "targets") {
    const Json json = {
        {"type", "augmented"}, {"base", "x"}, {"latents", {{"type", "soft_embeddings"}}},
        {"insert", insert},    {"groups", 1}, {"ahead", ahead}};
    require_targets_ahead(resolve_component(ModelRegistry::instance(), Config(json, "$.model")),
                          data);
  }
  static std::string refusal(const Dataset& data, int64_t ahead) {
    return testing::message_of<UserError>([&] { require_ahead(data, ahead); });
  }
  // A file in GSM8K's form.
  void write(const char* name, const std::vector<std::string>& equations) const {
    std::string text;
    for (const std::string& equation : equations)
      text += json_text({{"question", "How much is it, " + equation + "?"},
                         {"answer", "<<" + equation + ">>\n#### " +
                                        equation.substr(equation.find('=') + 1)}}) +
              "\n";
    write_file_atomically(directory_ / name, text);
  }
  TemporaryDirectory directory_;
};

// answer 0 8 5 end
TEST_F(TargetsAhead, AreThoseOfTheLongestAnswer) {
  const Dataset data = data_of(Json::object());
  EXPECT_NO_THROW(require_ahead(data, 5));
  EXPECT_THAT(refusal(data, 4),
              AllOf(HasSubstr("$.model.ahead is 4, and example 1 of " + data.train.path()),
                    HasSubstr("has 5 targets"), HasSubstr("set $.model.ahead to 5 or more")));
  EXPECT_NO_THROW(require_ahead(data, 4, "drawn"));
}

// 8 7 carry 1 write 5, 3 4 carry 0 write 8
TEST_F(TargetsAhead, HoldWrittenSteps) {
  EXPECT_THAT(refusal(data_of({{"examples", {{"stage", 0}}}}), 16), HasSubstr("has 17 targets"));
  EXPECT_THAT(refusal(data_of({{"examples", {{"stage", 1}}}}), 10), HasSubstr("has 11 targets"));
  const Dataset mixed = data_of({{"examples", {{"mixed_stages", 0.1}}}});
  EXPECT_THAT(refusal(mixed, 16),
              AllOf(HasSubstr(mixed.train_steps.path()), HasSubstr("has 17 targets")));
  EXPECT_NO_THROW(require_ahead(mixed, 17));
}

TEST_F(TargetsAhead, AreCountedInTheHeldOutPartAsWell) {
  write("train.jsonl", {"1+1=2", "2+1=3", "3+1=4"});
  write("test.jsonl", {"5-1=4", "12345600+78=12345678"});
  const Dataset data = data_of({{"problems",
                                 {{"type", "gsm8k"},
                                  {"operation", nullptr},
                                  {"digits", nullptr},
                                  {"second_digits", nullptr},
                                  {"train", 3},
                                  {"held_out", 2},
                                  {"path", directory_ / "train.jsonl"},
                                  {"held_out_path", directory_ / "test.jsonl"}}}});
  EXPECT_THAT(refusal(data, 9),
              AllOf(HasSubstr(data.validation.path()), HasSubstr("has 10 targets")));
  EXPECT_NO_THROW(require_ahead(data, 10));
}

TEST_F(TargetsAhead, AreAskedBesideTheVocabulary) {
  const Json config =
      parse_json(R"({"model": {"type": "augmented", "base": "x", "insert": "targets",
    "groups": 1, "ahead": 3, "latents": {"type": "soft_embeddings"}}})");
  ExperimentOptions options = read_experiment(Config(config, "$"), ".");
  EXPECT_THAT(
      testing::message_of<UserError>([&] { settle_vocabulary(options, data_of(Json::object())); }),
      HasSubstr("$.model.ahead is 3"));
}

}  // namespace
}  // namespace reverie
