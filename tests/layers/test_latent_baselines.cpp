// The baselines beside a coprocessor: gist tokens, ICAE, continuous thoughts. What is seen through
// their latents and what is not, how they begin, and that training on them helps.

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/json.h"
#include "layers/coprocessor/augmented_model.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

std::unique_ptr<LanguageModel> augmented(const Json& latents, const Json& more = Json::object()) {
  Json config = {
      {"type", "augmented"}, {"base", testing::test_directory() + "/golden/pretrained/llama"},
      {"latents", latents},  {"block_size", 24},
      {"groups", 4},         {"ahead", 5}};
  config.update(more);
  Generator random(3);
  const ModelRegistry& models = ModelRegistry::instance();
  return models.make(resolve_component(models, Config(config, "$.model")), Build{random});
}
AugmentedModel& as_augmented(LanguageModel& m) {
  return dynamic_cast<AugmentedModel&>(m);
}
Tensor some_tokens(int64_t batch, int64_t time) {
  Tensor tokens = Tensor::empty({batch, time}, DType::i32);
  for (int64_t i = 0; i < tokens.numel(); ++i)
    tokens.mutable_data<int32_t>()[i] = int32_t((i * i * 5 + i) % 61);
  return tokens;
}

// Hidden states of the rows that predict, at the second of two insertion points, after a token of
// the text before it changed: how far each of them moved.
std::vector<double> moved_by_text(const Json& latents) {
  const auto model = augmented(latents);
  model->train(false);
  NoGrad no_grad;
  const Tensor limits = Tensor::from<int32_t>({1, 2}, {2, 14}), tokens = some_tokens(1, 24);
  Tensor changed = tokens.clone();
  changed.mutable_data<int32_t>()[9] = 60;
  const auto hidden = [&](const Tensor& text) {
    const Tensor h =
        as_augmented(*model).ahead_hidden(text, insertion_points(text, text, limits, 5)).tensor();
    return h;
  };
  const Tensor before = hidden(tokens), after = hidden(changed);
  const int64_t features = before.size(2);
  const auto a = before.to_vector(), b = after.to_vector();
  std::vector<double> moved(10, 0);
  for (size_t i = 0; i < a.size(); ++i)
    moved[i / size_t(features)] = std::max(moved[i / size_t(features)], std::abs(a[i] - b[i]));
  for (size_t row = 0; row < 5; ++row) EXPECT_EQ(moved[row], 0) << "the group before the change";
  return {moved.begin() + 5, moved.end()};
}

TEST(LatentBaselines, TokensSeeTheTextThroughGistTokensAlone) {
  const auto with = [](const char* sight) {
    return moved_by_text({{"type", "gist"}, {"count", 2}, {"tokens_see", sight}});
  };
  for (const char* sight : {"gist", "all"})
    for (const double moved : with(sight)) EXPECT_GT(moved, 1e-6) << sight;
  // The first is predicted by the last gist row, which always reads the text.
  const auto blind = with("nothing");
  EXPECT_GT(blind[0], 1e-6);
  for (size_t row = 1; row < 5; ++row) EXPECT_EQ(blind[row], 0) << row;
  EXPECT_NE(with("gist"), with("all"));
}

TEST(LatentBaselines, GistTokensBeginAsTheMeanEmbedding) {
  const auto model = augmented({{"type", "gist"}, {"count", 3}});
  const auto parameters = as_augmented(*model).parameters();
  const auto table = parameters[0].second, gist = parameters.back().second;
  EXPECT_EQ(gist.shape(), (Shape{1, table.size(1)}));  // one row, however often it stands there
  const auto rows = table.tensor().to_vector(), row = gist.tensor().to_vector();
  for (size_t c = 0; c < row.size(); ++c) {
    double sum = 0;
    for (size_t i = c; i < rows.size(); i += row.size()) sum += rows[i];
    EXPECT_NEAR(row[c], sum / double(table.size(0)), 1e-6);
  }
}

TEST(LatentBaselines, TrainingAModelOnGistTokensReducesItsLoss) {
  const auto model = augmented({{"type", "gist"}, {"count", 2}}, {{"train_base", true}});
  const Tensor tokens = some_tokens(2, 24);
  Tensor next = tokens.clone();
  for (int64_t i = 0; i + 1 < 48; ++i)
    next.mutable_data<int32_t>()[i] = i == 23 ? -1 : tokens.data<int32_t>()[i + 1];
  next.mutable_data<int32_t>()[47] = -1;
  model->train(false);  // the same insertion points at every step
  const auto step = [&] {
    const Variable loss = model->loss(tokens, next, 1.0 / 46);
    backward(loss);
    for (auto& [name, parameter] : model->parameters()) {
      Tensor value = parameter.tensor();
      for (int64_t i = 0; i < value.numel(); ++i)
        value.mutable_data<float>()[i] -= 0.5f * parameter.grad().data<float>()[i];
      Variable(parameter).clear_grad();
    }
    return loss.tensor().item();
  };
  const double first = step();
  double last = first;
  for (int i = 0; i < 20; ++i) last = step();
  EXPECT_LT(last, 0.8 * first);
}

// In a text that is written, the base keeps what tokens may see, and nothing else.
TEST(LatentBaselines, ACacheBehindLatentsHoldsWhatMayBeSeen) {
  const Json gist = {{"type", "gist"}, {"count", 2}},
             masked = {{"type", "gist"}, {"count", 2}, {"tokens_see", "nothing"}},
             all = {{"type", "gist"}, {"count", 2}, {"tokens_see", "all"}},
             slots = {{"type", "icae"}, {"count", 2}, {"rank", 2}};
  for (const auto& [latents, kept] :
       {std::pair{gist, 2}, std::pair{masked, 0}, std::pair{all, 14 + 2}, std::pair{slots, 2}}) {
    SCOPED_TRACE(json_text(latents));
    const auto model = augmented(latents);
    AugmentedModel& m = as_augmented(*model);
    model->train(false);
    NoGrad no_grad;
    const Tensor text = some_tokens(1, 24), limits = Tensor::from<int32_t>({1, 1}, {14});
    const Tensor packed = m.ahead_hidden(text, insertion_points(text, text, limits, 5)).tensor();

    SequenceState state;
    state.use_cache = true;
    const Tensor prefix = text.slice(1, 0, 14).contiguous();
    m.base().hidden(prefix, &state);
    const Variable first =
        m.insert(state, prefix.slice(1, 13, 14).contiguous(), m.latents_for(prefix, limits));
    EXPECT_EQ(state.layers[0].length(), kept);
    const Variable rest = m.base().hidden(text.slice(1, 14, 18).contiguous(), &state);
    const auto wanted = packed.to_vector(), found = concat({first, rest}, 1).tensor().to_vector();
    ASSERT_EQ(wanted.size(), found.size());
    for (size_t i = 0; i < wanted.size(); ++i) ASSERT_NEAR(wanted[i], found[i], 1e-4) << i;
  }
}

TEST(LatentBaselines, TheDecoderOfAnAutoencoderSeesSlotsAlone) {
  const auto model = augmented({{"type", "icae"}, {"count", 2}, {"rank", 2}});
  AugmentedModel& m = as_augmented(*model);
  model->train(false);
  NoGrad no_grad;
  const Tensor text = some_tokens(1, 24), limits = Tensor::from<int32_t>({1, 1}, {14});
  Tensor other = text.clone();
  other.mutable_data<int32_t>()[5] = 60;
  const Variable slots = m.latents_for(text, limits);
  EXPECT_NE(slots.tensor().to_vector(), m.latents_for(other, limits).tensor().to_vector());
  const auto hidden = [&](const Tensor& t) {
    return m.ahead_hidden(t, insertion_points(t, t, limits, 5), slots).tensor().to_vector();
  };
  EXPECT_EQ(hidden(text), hidden(other)) << "the text was seen beside its slots";
}

TEST(LatentBaselines, AnAutoencoderLearnsToGiveTextsBack) {
  const auto model = augmented(
      {{"type", "icae"}, {"count", 8}, {"rank", 8}, {"lm_ratio", 0.25}, {"end_token", 2}});
  AugmentedModel& m = as_augmented(*model);
  const Tensor tokens = some_tokens(2, 24), limits = Tensor::from<int32_t>({2, 2}, {3, 9, 6, 9});
  const auto given_back = [&] {
    NoGrad no_grad;
    const OwnLoss loss = m.own_loss(tokens, limits);
    EXPECT_EQ(loss.targets, 3 + 9 + 6 + 9 + 4);
    return loss.sum.tensor().item() / double(loss.targets);
  };
  const double before = given_back();
  const std::string base = m.base().weights_hash();
  std::map<std::string, std::vector<double>> squares;
  for (int step = 0; step < 400; ++step) {
    const OwnLoss loss = m.own_loss(tokens, limits);
    backward(scale(loss.sum, 1.0 / double(loss.targets)));
    for (auto& [name, parameter] : model->parameters()) {
      if (!parameter.requires_grad()) continue;
      ASSERT_TRUE(parameter.grad().defined()) << name;
      Tensor value = parameter.tensor();
      auto& square = squares[name];
      square.resize(size_t(value.numel()));
      for (int64_t i = 0; i < value.numel(); ++i) {  // RMSprop
        const double g = parameter.grad().data<float>()[i];
        square[size_t(i)] = 0.9 * square[size_t(i)] + 0.1 * g * g;
        value.mutable_data<float>()[i] -= float(0.005 * g / (std::sqrt(square[size_t(i)]) + 1e-6));
      }
      Variable(parameter).clear_grad();
    }
  }
  EXPECT_LT(given_back(), 0.6 * before);
  EXPECT_EQ(m.base().weights_hash(), base);
}

TEST(LatentBaselines, OwnLossesAreOfTrainingAlone) {
  NoGrad no_grad;
  // One place alone to insert, so that only the source's own loss differs.
  const auto difference = [](double lm_ratio) {
    const auto model = augmented(
        {{"type", "icae"}, {"count", 2}, {"rank", 2}, {"lm_ratio", lm_ratio}}, {{"ahead", 24}});
    const auto loss = [&](bool training) {
      model->train(training);
      return model->loss(some_tokens(2, 24), some_tokens(2, 24), 1.0).tensor().item();
    };
    return std::abs(loss(true) - loss(false));
  };
  EXPECT_EQ(difference(1), 0);
  EXPECT_GT(difference(0), 1e-3);
}

TEST(LatentBaselines, RefuseWhatDoesNotFit) {
  const Json thoughts = {{"type", "continuous_thoughts"}}, icae = {{"type", "icae"}},
             outside = {{"type", "icae"}, {"end_token", 61}};
  EXPECT_THROW(augmented(thoughts), UserError) << "nothing to train";
  EXPECT_THROW(augmented(icae, {{"train_base", true}}), UserError);
  EXPECT_THROW(augmented(outside), UserError);
  Json several = {{"type", "several"}, {"sources", Json::array()}};
  several["sources"].push_back({{"type", "soft_embeddings"}});
  EXPECT_NO_THROW(augmented(several));
  several["sources"].push_back({{"type", "gist"}});
  EXPECT_THROW(augmented(several), UserError) << "one of several cannot hide the text";
}

}  // namespace
}  // namespace reverie
