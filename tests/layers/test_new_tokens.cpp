// Tokens that a published model's vocabulary gets: the rows that they begin with, what stays as it
// was, models that begin so, their files.

#include "layers/pretrained/new_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/dry_run.h"
#include "layers/model_options.h"
#include "layers/pretrained/gguf_model_writer.h"
#include "layers/pretrained/hugging_face_writer.h"
#include "layers/thinking_model.h"
#include "pretrained_support.h"
#include "support/message_of.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::golden;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::logits_of;
using testing::message_of;
using testing::model_component;
using testing::TemporaryDirectory;

constexpr int64_t kRows = 61;  // of every golden model

LoadedModel with_tokens(const std::string& path, std::optional<NewTokens> tokens,
                        DType dtype = DType::f64, bool frozen = false) {
  PretrainedOptions options = testing::options(dtype, frozen);
  options.new_tokens = tokens;
  return load_pretrained(path, options);
}

// Names of the tables with a row a token.
std::vector<std::string> tables_of(const LoadedModel& loaded) {
  const TransformerShape& shape = dynamic_cast<const Transformer&>(*loaded.model).shape();
  std::vector<std::string> names = {shape.names.root + "." + shape.names.embedding + ".weight"};
  if (!shape.tied) names.push_back(shape.names.head + ".weight");
  return names;
}
Tensor weights_of(const LoadedModel& loaded, const std::string& name) {
  for (const auto& [other, t] : loaded.model->state())
    if (other == name) return t;
  ADD_FAILURE() << "no " << name;
  return {};
}
Tensor rows_of(const Tensor& table, int64_t begin, int64_t end) {
  return table.slice(0, begin, end).contiguous();
}
// The mean of the first `count` rows, as it is stored.
std::vector<double> mean_row(const Tensor& table, int64_t count) {
  std::vector<double> mean;
  for (int64_t c = 0; c < table.size(1); ++c) {
    double sum = 0;
    for (int64_t r = 0; r < count; ++r) sum += table.select(0, r).select(0, c).item();
    mean.push_back(double(float(sum / double(count))));
  }
  return mean;
}

// ---- rows ---------------------------------------------------------------------------------------

class NewTokenRows : public ::testing::TestWithParam<const char*> {};

TEST_P(NewTokenRows, BeginAsTheMeanAndChangeNothingElse) {
  const LoadedModel before = with_tokens(golden(GetParam()), std::nullopt),
                    after = with_tokens(golden(GetParam()), NewTokens{kRows + 5, 5});
  EXPECT_EQ(after.model->vocabulary_size(), kRows + 5);
  EXPECT_EQ(after.component.resolved->at("vocab_size"), kRows + 5);
  const auto tables = tables_of(before);
  for (const auto& [name, old] : before.model->state()) {
    const Tensor now = weights_of(after, name);
    if (std::find(tables.begin(), tables.end(), name) == tables.end()) {
      EXPECT_TRUE(bit_identical(now, old)) << name;
      continue;
    }
    ASSERT_EQ(now.shape(), Shape({kRows + 5, old.size(1)})) << name;
    EXPECT_TRUE(bit_identical(rows_of(now, 0, kRows), old)) << name;
    for (int64_t row = kRows; row < kRows + 5; ++row)
      EXPECT_EQ(rows_of(now, row, row + 1).to_vector(), mean_row(old, kRows)) << name;
  }
  const Tensor tokens = testing::random_tokens(2, 20, kRows);
  EXPECT_LT(largest_difference(logits_of(after, tokens).slice(2, 0, kRows).contiguous(),
                               logits_of(before, tokens)),
            1e-12);
}
INSTANTIATE_TEST_SUITE_P(Families, NewTokenRows,
                         ::testing::Values("gpt2", "llama", "qwen2", "qwen3", "gemma3"));

TEST(NewTokens, MayBeginAsAnotherToken) {
  const LoadedModel loaded = with_tokens(golden("llama"), NewTokens{kRows + 2, 2, 7});
  for (const std::string& name : tables_of(loaded)) {
    const Tensor table = weights_of(loaded, name);
    for (int64_t row = kRows; row < kRows + 2; ++row)
      EXPECT_TRUE(bit_identical(rows_of(table, row, row + 1), rows_of(table, 7, 8))) << name;
    EXPECT_FALSE(bit_identical(rows_of(table, 7, 8), rows_of(table, 8, 9)));
  }
}

TEST(NewTokens, TakeSpareRowsFirst) {
  const LoadedModel before = with_tokens(golden("llama"), std::nullopt);
  struct Case {
    NewTokens tokens;
    int64_t rows;
  };
  for (const Case& c :
       {Case{{kRows, 3}, kRows}, Case{{kRows - 4, 3}, kRows}, Case{{kRows + 1, 3}, kRows + 1}}) {
    SCOPED_TRACE(c.tokens.end);
    const LoadedModel after = with_tokens(golden("llama"), c.tokens);
    EXPECT_EQ(after.model->vocabulary_size(), c.rows);
    const int64_t first = c.tokens.end - c.tokens.count;
    for (const std::string& name : tables_of(before)) {
      const Tensor old = weights_of(before, name), now = weights_of(after, name);
      EXPECT_TRUE(bit_identical(rows_of(now, 0, first), rows_of(old, 0, first)));
      for (int64_t row = first; row < c.tokens.end; ++row)
        EXPECT_EQ(rows_of(now, row, row + 1).to_vector(), mean_row(old, first));
      if (c.tokens.end < kRows) {
        EXPECT_TRUE(
            bit_identical(rows_of(now, c.tokens.end, kRows), rows_of(old, c.tokens.end, kRows)))
            << "rows that no token uses";
      }
    }
  }
}

TEST(NewTokens, NoneLeaveTheModelAsItIs) {
  const LoadedModel before = with_tokens(golden("llama"), std::nullopt, DType::f32, true);
  for (const int64_t end : {kRows, kRows - 9}) {
    const LoadedModel after = with_tokens(golden("llama"), NewTokens{end, 0}, DType::f32, true);
    EXPECT_EQ(after.model->vocabulary_size(), kRows);
    EXPECT_EQ(after.model->weights_hash(), before.model->weights_hash());
  }
}

TEST(NewTokens, WhatDoesNotFitIsRefused) {
  const auto refused = [](const NewTokens& tokens) {
    return message_of<UserError>([&] { with_tokens(golden("llama"), tokens); });
  };
  EXPECT_THAT(refused({kRows + 5, 0}), HasSubstr("wanted at least 5 new tokens"));
  EXPECT_THAT(refused({kRows + 5, 4}),
              HasSubstr("$.model.vocab_size is 66, of which 4 are new ($.model.new_tokens), and"));
  EXPECT_THAT(refused({5, 5}), HasSubstr("wanted fewer new tokens"));
  EXPECT_THAT(refused({kRows + 5, 5, kRows}), HasSubstr("copied_token is 61"));
  EXPECT_THAT(refused({kRows, 5, kRows - 5}), HasSubstr("0 to 55"));
}

TEST(NewTokens, CountInADryRunWithoutWeights) {
  const testing::ModelCopy copy("llama");
  std::filesystem::remove(copy / "model.safetensors");
  const DryRun dry;
  const LoadedModel planned = with_tokens(copy.path(), NewTokens{kRows + 5, 5}, DType::f32);
  EXPECT_EQ(planned.model->vocabulary_size(), kRows + 5);
  const LoadedModel there = with_tokens(golden("llama"), NewTokens{kRows + 5, 5}, DType::f32, true);
  EXPECT_EQ(there.model->parameter_count(), planned.model->parameter_count());
}

// Frozen matrices of a GGUF file stay in its blocks, but for the tables with new rows.
TEST(NewTokens, OfAGgufFileInBlocksBeginAsItsWidenedRows) {
  const std::string json =
      R"({"type":"llama","vocab_size":64,"block_size":19,"n_layer":1,"n_head":2,"n_embd":32})";
  const TemporaryDirectory directory;
  const auto model = testing::make_model(json, DType::f32);
  GgufWriter out;
  write_gguf_model(out, plain_model(*model, model_component(json)), GgufTensorType::q8_0);
  out.text("tokenizer.ggml.model", "no_vocab");
  out.save(directory / "model.gguf");
  const LoadedModel before = with_tokens(directory / "model.gguf", std::nullopt, DType::f32, false);
  for (const bool frozen : {false, true}) {
    const LoadedModel after =
        with_tokens(directory / "model.gguf", NewTokens{67, 3}, DType::f32, frozen);
    ASSERT_EQ(tables_of(after).size(), 2u);
    for (const std::string& name : tables_of(after)) {
      const Tensor old = weights_of(before, name), now = weights_of(after, name);
      EXPECT_TRUE(bit_identical(rows_of(now, 0, 64), old)) << name;
      EXPECT_EQ(rows_of(now, 66, 67).to_vector(), mean_row(old, 64)) << name;
    }
  }
}

// ---- models that begin so -----------------------------------------------------------------------

std::unique_ptr<LanguageModel> model_of(const Json& config, DType dtype = DType::f64) {
  Generator random(1);
  return ModelRegistry::instance().make(model_component(config.dump()), Build{random, dtype});
}
Json around(const char* type, const Json& patch) {
  Json config = {{"type", type},
                 {type == std::string("coconut") ? "base" : "path", golden("llama")}};
  if (patch.is_object()) config.update(patch);
  return config;
}

class ModelsWithNewTokens : public ::testing::TestWithParam<const char*> {};

TEST_P(ModelsWithNewTokens, TakeTheVocabularyOfTheDataAndTrainTheirRows) {
  const Component component =
      model_component(around(GetParam(), {{"vocab_size", 0}, {"new_tokens", 5}}).dump());
  ASSERT_TRUE(takes_vocabulary_of_data(component));
  const Component settled = with_vocabulary_of_data(component, kRows + 5);
  EXPECT_EQ(configured_vocabulary(settled), kRows + 5);
  Generator random(1);
  const auto model = ModelRegistry::instance().make(settled, Build{random, DType::f64});
  EXPECT_EQ(model->vocabulary_size(), kRows + 5);
  const Tensor tokens = Tensor::from<int32_t>({1, 4}, {3, kRows + 1, 5, 6}),
               targets = Tensor::from<int32_t>({1, 4}, {-1, 4, kRows + 2, 8});
  backward(model->loss(tokens, targets, 1.0));
  for (const auto& [name, parameter] : model->parameters()) {
    const bool read = name == "model.embed_tokens.weight", said = name == "lm_head.weight";
    if (!read && !said) continue;
    ASSERT_TRUE(parameter.grad().defined()) << name;
    const int64_t row = read ? kRows + 1 : kRows + 2;
    double largest = 0;
    for (const double g : rows_of(parameter.grad(), row, row + 1).to_vector())
      largest = std::max(largest, std::abs(g));
    EXPECT_GT(largest, 1e-6) << name;
  }
}

// For a plan, or a probe.
TEST_P(ModelsWithNewTokens, AreMadeWithoutDataOnABaseOfFewRows) {
  const auto rows = [&](const Json& patch) {
    const Component settled =
        with_vocabulary_without_data(model_component(around(GetParam(), patch).dump()));
    Generator random(1);
    return ModelRegistry::instance().make(settled, Build{random, DType::f64})->vocabulary_size();
  };
  EXPECT_EQ(rows({{"vocab_size", 0}}), kRows);
  EXPECT_EQ(rows({{"vocab_size", 0}, {"new_tokens", 5}}), kRows);
  EXPECT_EQ(rows({{"vocab_size", 0}, {"new_tokens", 5}, {"copied_token", kRows - 1}}), kRows + 5);
  EXPECT_EQ(rows({{"vocab_size", kRows + 5}, {"new_tokens", 5}}), kRows + 5) << "as it was asked";
}

TEST_P(ModelsWithNewTokens, LeaveTheirFamilysFilesWithAllRows) {
  const auto model = model_of(around(GetParam(), {{"vocab_size", kRows + 5}, {"new_tokens", 5}}));
  const PlainModel plain = plain_model(*model, model_component(around(GetParam(), {}).dump()));
  EXPECT_EQ(hugging_face_config(plain, {}).at("vocab_size"), kRows + 5);
  for (const auto& [name, t] : hugging_face_tensors(plain)) {
    if (name == "model.embed_tokens.weight" || name == "lm_head.weight") {
      EXPECT_EQ(t.size(0), kRows + 5) << name;
    }
  }
  const TemporaryDirectory directory;
  GgufWriter out;
  write_gguf_model(out, plain, GgufTensorType::f32);
  out.text("tokenizer.ggml.model", "no_vocab");
  out.save(directory / "model.gguf");
  const LoadedModel again = load_pretrained(directory / "model.gguf");
  EXPECT_EQ(again.model->vocabulary_size(), kRows + 5);
  const Tensor tokens = Tensor::from<int32_t>({1, 5}, {3, kRows, 5, kRows + 1, 9});
  NoGrad guard;
  model->train(false);
  EXPECT_LT(largest_difference(logits_of(again, tokens), model->logits(tokens).tensor()), 1e-4);
}
INSTANTIATE_TEST_SUITE_P(Types, ModelsWithNewTokens, ::testing::Values("pretrained", "coconut"));

TEST(NewTokenOptions, ThatContradictEachOtherAreRefused) {
  const auto refused = [](const char* type, const Json& patch) {
    return message_of<ConfigError>([&] { model_component(around(type, patch).dump()); });
  };
  for (const char* type : {"pretrained", "coconut"}) {
    EXPECT_THAT(refused(type, {{"new_tokens", 5}}), HasSubstr("vocab_size is auto"));
    EXPECT_THAT(refused(type, {{"copied_token", 5}}), HasSubstr("there are no new_tokens"));
    EXPECT_THAT(message_of<UserError>([&] {
                  model_of(around(type, {{"vocab_size", 0}}));
                }),
                HasSubstr("there are none: give the number of tokens"));
  }
  EXPECT_THAT(refused("pretrained", {{"vocab_size", 66}, {"new_tokens", 5}, {"rank", 2}}),
              HasSubstr("would leave their rows as they begin"));
}

// In a padded vocabulary the data's last token is not the table's last row.
TEST(NewTokens, AThoughtIsTheLastTokenOfTheVocabulary) {
  EXPECT_EQ(thought_token_of(*model_of(around("coconut", {}))), kRows - 1);
  EXPECT_EQ(thought_token_of(*model_of(around("coconut", {{"vocab_size", 50}}))), 49);
  EXPECT_EQ(thought_token_of(
                *model_of(around("coconut", {{"vocab_size", kRows + 5}, {"new_tokens", 5}}))),
            kRows + 4);
  EXPECT_EQ(
      thought_token_of(*model_of(around("coconut", {{"vocab_size", 50}, {"thought_token", 7}}))),
      7);
  EXPECT_EQ(thought_token_of(*model_of(around("pretrained", {}))), std::nullopt);
}

}  // namespace
}  // namespace reverie
