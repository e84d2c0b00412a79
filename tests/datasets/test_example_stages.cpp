// Records of examples by stage, and training rows whose stage is drawn.

#include "datasets/example_stages.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "data_support.h"
#include "datasets/dataset.h"
#include "datasets/stage_sampler.h"
#include "datasets/tokenizers/word_tokenizer.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryDirectory;

// Marks by name, as in test_examples.cpp.
std::string text_of_record(const Tokenizer& tokenizer, const ExampleLayout& layout,
                           std::span<const int32_t> record) {
  std::string text;
  for (const int32_t id : record)
    text += id < layout.first_mark ? tokenizer.decode({&id, 1})
                                   : std::string(1, "():$*"[id - layout.first_mark]);
  return text;
}

const Example kLong = {"Q one?", "A one.", {"a b.", "b c.", "c d."}};
const Example kShort = {"Q two?", "A two.", {"a."}};

class ExampleStages : public ::testing::Test {
 protected:
  void SetUp() override {
    tokenizer_ = WordTokenizer::from_text(text_of_examples(std::vector{kLong, kShort}));
    layout_.first_mark = tokenizer_->vocabulary_size();
  }
  std::vector<std::string> by_stage(const Example& example, const ThoughtRule& rule) const {
    const auto stageless = stageless_record(example, *tokenizer_, layout_);
    std::vector<std::string> texts;
    for (int64_t stage = 0; stage <= 4; ++stage)
      texts.push_back(
          text_of_record(*tokenizer_, layout_, record_at_stage(layout_, stageless, stage, rule)));
    return texts;
  }
  std::shared_ptr<const Tokenizer> tokenizer_;
  ExampleLayout layout_;
};

TEST_F(ExampleStages, ThoughtsStandForTheRemovedStepsOfTheExample) {
  EXPECT_THAT(by_stage(kLong, {2, 0}),
              ElementsAre(" Q one?() a b. b c. c d.: A one.$", " Q one?(**) b c. c d.: A one.$",
                          " Q one?(****) c d.: A one.$", " Q one?(******): A one.$",
                          " Q one?(******): A one.$"));
  EXPECT_THAT(by_stage(kShort, {2, 0}),
              ElementsAre(" Q two?() a.: A two.$", " Q two?(**): A two.$", " Q two?(**): A two.$",
                          " Q two?(**): A two.$", " Q two?(**): A two.$"));
}

// As the paper's public code has max_latent_stage and pad_latent_to_max.
TEST_F(ExampleStages, ThoughtStepsGiveEveryExampleAsManyThoughts) {
  EXPECT_THAT(by_stage(kLong, {2, 2}),
              ElementsAre(" Q one?() a b. b c. c d.: A one.$", " Q one?(**) b c. c d.: A one.$",
                          " Q one?(****) c d.: A one.$", " Q one?(****): A one.$",
                          " Q one?(****): A one.$"));
  EXPECT_THAT(by_stage(kShort, {2, 2}),
              ElementsAre(" Q two?() a.: A two.$", " Q two?(**): A two.$", " Q two?(****): A two.$",
                          " Q two?(****): A two.$", " Q two?(****): A two.$"));
  EXPECT_THAT(by_stage(kLong, {0, 2}),
              ElementsAre(" Q one?() a b. b c. c d.: A one.$", " Q one?() b c. c d.: A one.$",
                          " Q one?() c d.: A one.$", " Q one?(): A one.$", " Q one?(): A one.$"));
}

TEST_F(ExampleStages, TheLongestStageIsFoundWhereThoughtsAreLongerThanSteps) {
  const auto length = [&](int64_t thoughts) {
    return longest_of_stages(layout_, stageless_record(kLong, *tokenizer_, layout_), {thoughts, 0});
  };
  EXPECT_EQ(length(1), 3 + 2 + 9 + 1 + 3 + 1) << "stage 0: a step has three tokens";
  EXPECT_EQ(length(5), 3 + 2 + 15 + 1 + 3 + 1) << "stage 3";
}

TEST_F(ExampleStages, ARecordWithoutAnAnswerIsRefused) {
  EXPECT_THROWS_SAYING(record_at_stage(layout_, std::vector<int32_t>{0, 1}, 1, {}), UserError,
                       "no mark of an answer");
}

// ---- data sets ------------------------------------------------------------------------------
class MixedStages : public ::testing::Test {
 protected:
  static constexpr int64_t kExamples = 6;

  DataOptions options(double mixed, const char* name, int64_t stage = 2) const {
    DataOptions o;
    o.path = directory_ / "examples.json";
    o.prepared_directory = directory_ / name;
    o.tokenizer = "word";
    o.examples.form = "prosqa";
    o.examples.stage = stage;
    o.examples.mixed_stages = mixed;
    o.validation_fraction = 0.25;
    return o;
  }
  // Questions of one length, with 1 to 3 steps.
  void SetUp() override {
    Json all = Json::array();
    for (int i = 0; i < 8; ++i) {
      Json steps = Json::array();
      for (int s = 0; s <= i % 3; ++s) steps.push_back("step s" + std::to_string(s) + " is.");
      all.push_back({{"question", "is n" + std::to_string(i) + " it?"},
                     {"steps", steps},
                     {"answer", "n" + std::to_string(i)}});
    }
    testing::write_bytes(directory_ / "examples.json", json_text(all));
  }
  static MixedStageSampler sampler_of(const Dataset& data, uint64_t seed, double share) {
    StageMix mix = data.stage_mix.value();
    mix.share = share;
    return {data.train, *data.examples, data.train_steps, mix, 4, seed};
  }
  static std::vector<int32_t> row_of(const Batch& batch, int64_t row) {
    const int64_t width = batch.tokens.size(1);
    const int32_t* tokens = batch.tokens.data<int32_t>() + row * width;
    return {tokens, tokens + width};
  }
  TemporaryDirectory directory_;
};

TEST_F(MixedStages, HeldOutExamplesStayAtTheStage) {
  const Dataset plain = prepare_and_open(options(0, "plain")),
                mixed = prepare_and_open(options(0.3, "mixed"));
  EXPECT_FALSE(plain.stage_mix);
  ASSERT_TRUE(mixed.stage_mix);
  EXPECT_EQ(mixed.stage_mix->share, 0.3);
  EXPECT_EQ(mixed.stage_mix->rule.thoughts, 1);
  EXPECT_EQ(mixed.train_steps.count(), kExamples * mixed.stage_mix->length);
  EXPECT_EQ(mixed.tokenizer->hash(), plain.tokenizer->hash());
  EXPECT_NE(mixed.hash, plain.hash);
  EXPECT_EQ(recorded_hash(mixed.provenance), mixed.hash);
  EXPECT_EQ(recorded_hash(plain.provenance), plain.hash);
  // The records are as long as stage 0 takes, and otherwise the same.
  const int64_t before = plain.examples->length, length = mixed.examples->length;
  EXPECT_EQ(length, before + 2 * (4 - 1)) << "two steps of four tokens for two thoughts";
  for (const auto part : {&Dataset::train, &Dataset::validation})
    for (int64_t i = 0; i < (plain.*part).count() / before; ++i) {
      std::vector<int32_t> a(static_cast<size_t>(before)), b(static_cast<size_t>(length));
      (plain.*part).copy(i * before, a);
      (mixed.*part).copy(i * length, b);
      EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
    }
  // Data that were prepared before there was mixing are not made anew.
  const Json creation = plain.provenance.at("creation").at("examples");
  EXPECT_EQ(json_text(creation), R"({"form":"prosqa","stage":2,"thoughts":1})");
}

TEST_F(MixedStages, OtherSharesAndLostFilesAreNoticed) {
  prepare_and_open(options(0.3, "mixed"));
  EXPECT_THROWS_SAYING(prepare_and_open(options(0.4, "mixed")), UserError,
                       "examples.mixed_stages: 0.3 -> 0.4");
  EXPECT_THROWS_SAYING(prepare_and_open(options(0, "mixed")), UserError, "mixed_stages");
  const auto other = prepare_and_open(options(0.4, "other")).hash;
  EXPECT_NE(prepare_and_open(options(0.3, "mixed")).hash, other) << "of the share alone";
  std::filesystem::remove(directory_ / "mixed/train_steps.tok");
  EXPECT_THROWS_SAYING(open_dataset(describe_dataset(options(0.3, "mixed"))), UserError,
                       "holds no data prepared");
}

TEST_F(MixedStages, EveryRowIsARecordOfItsExampleAtAStageOfItsOwn) {
  const Dataset data = prepare_and_open(options(1, "mixed"));
  const ExampleLayout& layout = *data.examples;
  const MixedStageSampler sampler = sampler_of(data, 9, 1);
  const RandomExampleSampler order(data.train, layout, 4, 9);
  std::map<int64_t, std::map<int64_t, int64_t>> stages;  // of an example: how often each came
  for (int64_t i = 0; i < 500; ++i) {
    const Batch batch = sampler.batch(i);
    int64_t targets = 0;
    for (const double t : batch.targets.to_vector()) targets += t >= 0;
    ASSERT_EQ(batch.target_count, targets);
    ASSERT_EQ(sampler.target_count(i), targets);
    for (int64_t row = 0; row < 4; ++row) {
      ASSERT_EQ(sampler.window_start(i, row), order.window_start(i, row));
      const int64_t example = order.window_start(i, row) / layout.length;
      std::vector<int32_t> stageless(static_cast<size_t>(data.stage_mix->length));
      data.train_steps.copy(example * data.stage_mix->length, stageless);
      const int64_t steps = steps_of_record(layout, stageless);
      ASSERT_EQ(steps, example % 3 + 1);
      const auto got = row_of(batch, row);
      int64_t found = -1;
      for (int64_t stage = 0; stage <= steps; ++stage) {
        auto record = record_at_stage(layout, stageless, stage, data.stage_mix->rule);
        record.resize(size_t(layout.length), layout.end());
        if (std::equal(got.begin(), got.end(), record.begin())) found = stage;
        if (found != stage) continue;
        std::vector<int32_t> targets_of_record(record.begin() + 1, record.end());
        keep_example_targets(layout, got, targets_of_record);
        const int32_t* own = batch.targets.data<int32_t>() + row * (layout.length - 1);
        ASSERT_TRUE(std::equal(targets_of_record.begin(), targets_of_record.end(), own));
      }
      ASSERT_GE(found, 0);
      ++stages[example][found];
    }
  }
  ASSERT_EQ(int64_t(stages.size()), kExamples);
  for (const auto& [example, counts] : stages) {
    EXPECT_EQ(int64_t(counts.size()), example % 3 + 2) << "of example " << example;
    int64_t all = 0;
    for (const auto& [stage, count] : counts) all += count;
    for (const auto& [stage, count] : counts)
      EXPECT_NEAR(double(count) / double(all), 1 / double(example % 3 + 2), 0.12);
  }
}

TEST_F(MixedStages, TheShareOfRowsIsTheOptions) {
  const Dataset data = prepare_and_open(options(0.3, "mixed"));
  const MixedStageSampler none = sampler_of(data, 9, 0), some = sampler_of(data, 9, 0.3),
                          every = sampler_of(data, 9, 1);
  const RandomExampleSampler plain(data.train, *data.examples, 4, 9);
  int64_t own = 0, drawn = 0, told_apart = 0;
  for (int64_t i = 0; i < 500; ++i) {
    const Batch a = none.batch(i), b = some.batch(i), c = every.batch(i), d = plain.batch(i);
    ASSERT_TRUE(bit_identical(a.tokens, d.tokens) && bit_identical(a.targets, d.targets));
    ASSERT_EQ(a.target_count, d.target_count);
    for (int64_t row = 0; row < 4; ++row) {
      const auto at_stage = row_of(a, row), got = row_of(b, row), mixed = row_of(c, row);
      ASSERT_TRUE(got == at_stage || got == mixed);
      if (at_stage == mixed) continue;
      ++told_apart;
      drawn += got == mixed;
      own += got == at_stage;
    }
  }
  EXPECT_EQ(own + drawn, told_apart);
  EXPECT_NEAR(double(drawn) / double(told_apart), 0.3, 0.04);
}

TEST_F(MixedStages, RanksAndResumedRunsDrawTheSame) {
  const Dataset data = prepare_and_open(options(0.5, "mixed"));
  const MixedStageSampler sampler = sampler_of(data, 9, 0.5);
  MixedStageSampler resumed = sampler_of(data, 9, 0.5);
  const MixedStageSampler other = sampler_of(data, 10, 0.5);
  resumed.seek(7);
  const Batch whole = sampler.batch(7), next = resumed.next();
  EXPECT_TRUE(bit_identical(whole.tokens, next.tokens));
  EXPECT_TRUE(bit_identical(whole.targets, next.targets));
  EXPECT_FALSE(bit_identical(whole.tokens, other.batch(7).tokens));
  int64_t targets = 0;
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {1, 3}}) {
    const Batch part = sampler.rows(7, first, count);
    EXPECT_TRUE(
        bit_identical(part.tokens, whole.tokens.slice(0, first, first + count).contiguous()));
    targets += part.target_count;
  }
  EXPECT_EQ(targets, whole.target_count);
}

TEST_F(MixedStages, RecordsOfOtherExamplesAreRefused) {
  const Dataset data = prepare_and_open(options(0.5, "mixed"));
  const TokenFile fewer = data.train_steps.slice(0, data.stage_mix->length);
  EXPECT_THROWS_SAYING(MixedStageSampler(data.train, *data.examples, fewer, *data.stage_mix, 4, 9),
                       DataError, "wanted 6 records of");
}

TEST_F(MixedStages, DataWithoutStagesRefuseIt) {
  const auto read = [](Json json) {
    DataOptions options;
    read_config(Config(std::move(json), "$.data"), options);
    return options;
  };
  EXPECT_THROWS_SAYING(read({{"examples", {{"form", "recount"}, {"mixed_stages", 0.3}}}}),
                       ConfigError, "form recount has no stages");
  EXPECT_THROWS_SAYING(read({{"examples", {{"mixed_stages", 1.5}}}}), ConfigError, "mixed_stages");
  DataOptions text = read({{"examples", {{"mixed_stages", 0.3}}}});
  text.path = directory_ / "examples.json";
  EXPECT_THROWS_SAYING(describe_dataset(text), UserError, "and there are none");
}

}  // namespace
}  // namespace reverie
