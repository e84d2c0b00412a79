// A model that thinks, against whole forwards with its last states put in by hand: values,
// gradients, decoding in pieces.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/pretrained/load.h"
#include "layers/row_context.h"
#include "layers/targeted_columns.h"
#include "layers/transformer.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::largest_difference;

constexpr int32_t kThought = 60;  // the vocabulary's last

std::string base_path(const std::string& family) {
  return testing::test_directory() + "/golden/pretrained/" + family;
}

std::unique_ptr<LanguageModel> coconut(const std::string& family, DType dtype = DType::f64) {
  const Json config = {{"type", "coconut"}, {"base", base_path(family)}};
  Generator random(1);
  const ModelRegistry& models = ModelRegistry::instance();
  return models.make(resolve_component(models, Config(config, "$.model")), Build{random, dtype});
}
LoadedModel plain(const std::string& family) {
  PretrainedOptions options;
  options.dtype = DType::f64;
  options.frozen = false;
  LoadedModel loaded = load_pretrained(base_path(family), options);
  loaded.model->train(true);
  return loaded;
}

// Texts that think at different places, side by side, apart, first, last and not at all.
Tensor thinking_tokens() {
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 4 * 12; ++i) ids.push_back((i * i * 5 + i) % 60);
  for (const int at : {4, 5, 6, 12 + 1, 12 + 9, 12 + 11, 24 + 0, 24 + 7})
    ids[size_t(at)] = kThought;
  return Tensor::from<int32_t>({4, 12}, ids);
}

// One whole forward over all rows so far for every thought, one text at a time, no cache.
Variable by_hand(const Transformer& base, const Tensor& tokens) {
  const int64_t batch = tokens.size(0), time = tokens.size(1);
  std::vector<Variable> texts;
  for (int64_t b = 0; b < batch; ++b) {
    const Tensor text = tokens.slice(0, b, b + 1).contiguous();
    Variable rows = base.token_rows(text);
    const auto read = [&](const Variable& x) {
      CausalContext context(x.size(1));
      return base.blocks().forward(base.placed(x, context.positions()), context);
    };
    for (int64_t t = 1; t < time; ++t) {
      if (text.data<int32_t>()[t] != kThought) continue;
      const Variable before = read(slice(rows, 1, 0, t));
      std::vector<Variable> parts{slice(rows, 1, 0, t), slice(before, 1, t - 1, t)};
      if (t + 1 < time) parts.push_back(slice(rows, 1, t + 1, time));
      rows = concat(parts, 1);
    }
    texts.push_back(read(rows));
  }
  return concat(texts, 0);
}

class CoconutFamilies : public ::testing::TestWithParam<const char*> {};
TEST_P(CoconutFamilies, PassesOverKeysAndValuesEqualWholeForwards) {
  const auto model = coconut(GetParam());
  const LoadedModel loaded = plain(GetParam());
  const auto& base = dynamic_cast<const Transformer&>(*loaded.model);
  const Tensor tokens = thinking_tokens();
  Tensor targets = Tensor::empty({4, 12}, DType::i32);
  for (int64_t i = 0; i < 48; ++i)
    targets.mutable_data<int32_t>()[i] = int32_t(i % 12 < 3 || i % 12 == 11 ? -1 : (i * 7) % 60);
  const Variable thought = model->hidden(tokens, nullptr), wanted = by_hand(base, tokens);
  EXPECT_LE(largest_difference(thought.tensor(), wanted.tensor()), 1e-12);

  const Variable a = model->loss(tokens, targets, 0.1), b = base.loss_of(wanted, targets, 0.1);
  EXPECT_NEAR(a.tensor().item(), b.tensor().item(), 1e-12);
  backward(a);
  backward(b);
  const auto of_model = model->parameters(), of_base = loaded.model->parameters();
  ASSERT_EQ(of_model.size(), of_base.size());
  for (size_t i = 0; i < of_base.size(); ++i) {
    EXPECT_EQ(of_model[i].first, of_base[i].first);
    EXPECT_LE(largest_difference(of_model[i].second.grad(), of_base[i].second.grad()), 1e-11)
        << of_base[i].first;
  }
}
INSTANTIATE_TEST_SUITE_P(Kinds, CoconutFamilies,
                         ::testing::Values("gpt2", "llama", "qwen3", "gemma2", "gemma3"));

TEST(Coconut, WithoutThoughtsItIsItsBaseToTheBit) {
  const auto model = coconut("llama");
  const LoadedModel loaded = plain("llama");
  NoGrad no_grad;
  const Tensor tokens = testing::random_tokens(3, 20, 60);
  EXPECT_TRUE(bit_identical(model->hidden(tokens, nullptr).tensor(),
                            loaded.model->hidden(tokens, nullptr).tensor()));
}

TEST(Coconut, PiecesWithACacheEqualTheWhole) {
  const auto model = coconut("gemma3");
  NoGrad no_grad;
  const Tensor tokens = thinking_tokens();
  const Tensor whole = model->hidden(tokens, nullptr).tensor();
  for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{12},
                                           {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
                                           {5, 6, 12},
                                           {4, 9, 12}}) {
    SequenceState state;
    state.use_cache = true;
    int64_t begin = 0;
    for (const int64_t end : cuts) {
      const Tensor piece = model->hidden(tokens.slice(1, begin, end).contiguous(), &state).tensor();
      EXPECT_LE(largest_difference(piece, whole.slice(1, begin, end).contiguous()), 1e-12)
          << begin << " to " << end;
      begin = end;
    }
    EXPECT_EQ(state.position, 12);
  }
}

TEST(Coconut, TrainingThroughThoughtsReducesTheLoss) {
  const auto model = coconut("llama", DType::f32);
  const Tensor tokens = thinking_tokens();
  Tensor targets = Tensor::full({4, 12}, -1, DType::i32);
  for (const int at : {7, 8, 9, 12 + 10, 24 + 9, 36 + 5}) targets.mutable_data<int32_t>()[at] = at;
  const auto step = [&] {
    const Variable loss = model->loss(tokens, targets, 1.0 / 6);
    backward(loss);
    for (auto& [name, parameter] : model->parameters()) {
      Tensor value = parameter.tensor();
      for (int64_t i = 0; i < value.numel(); ++i)
        value.mutable_data<float>()[i] -= 0.2f * parameter.grad().data<float>()[i];
      Variable(parameter).clear_grad();
    }
    return loss.tensor().item();
  };
  const double first = step();
  double last = first;
  for (int i = 0; i < 20; ++i) last = step();
  EXPECT_LT(last, 0.5 * first);
}

TEST(Coconut, RefusesWhatDoesNotFit) {
  Generator random(1);
  const ModelRegistry& models = ModelRegistry::instance();
  const auto make = [&](const Json& config) {
    return models.make(resolve_component(models, Config(config, "$.model")), Build{random});
  };
  EXPECT_THROW(make({{"type", "coconut"}, {"base", base_path("nowhere")}}), UserError);
  EXPECT_THROW(make({{"type", "coconut"}, {"base", base_path("llama")}, {"thought_token", 61}}),
               UserError);
  const auto model = coconut("llama");
  EXPECT_THROW(model->hidden(Tensor::full({1, 65}, kThought, DType::i32), nullptr), UserError);
}

TEST(TargetedColumns, EndBehindTheLastTargetOfAnyRow) {
  const Tensor tokens = Tensor::from<int32_t>({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}),
               targets = Tensor::from<int32_t>({2, 4}, {2, -1, -1, -1, -1, -1, 0, -1});
  const Columns kept = up_to_last_target(tokens, targets);
  EXPECT_EQ(kept.tokens.to_vector(), (std::vector<double>{1, 2, 3, 5, 6, 7}));
  EXPECT_EQ(kept.targets.to_vector(), (std::vector<double>{2, -1, -1, -1, -1, 0}));
}

}  // namespace
}  // namespace reverie
