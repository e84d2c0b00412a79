#include "layers/transformer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <tuple>

#include "core/error.h"
#include "layers/model_checks.h"
#include "support/message_of.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::message_of;

using ::testing::HasSubstr;
using testing::kTinyModels;
using testing::make_model;
using testing::NamedModel;
using testing::random_tokens;
using testing::whole_loss;

std::vector<std::string> names_and_shapes(const Module& module) {
  std::vector<std::string> out;
  for (const auto& [name, v] : module.parameters()) out.push_back(name + v.shape().str());
  return out;
}
std::unique_ptr<LanguageModel> initial_model(const std::string& json, uint64_t seed = 1) {
  Generator random(seed);
  return ModelRegistry::instance().make(testing::model_component(json), Build{random});
}
// The same options and one more.
std::string with_option(std::string json, const std::string& option) {
  json.insert(json.size() - 1, "," + option);
  return json;
}
// ---- parameters ---------------------------------------------------------------------------------

TEST(Transformer, Gpt2HasHuggingFacesNames) {
  const auto model = initial_model(
      R"({"type":"gpt2","vocab_size":13,"block_size":6,"n_layer":1,"n_head":2,"n_embd":8,)"
      R"("bias":true})");
  EXPECT_THAT(
      names_and_shapes(*model),
      ::testing::UnorderedElementsAre(
          "transformer.wte.weight[13, 8]", "transformer.wpe.weight[6, 8]",
          "transformer.h.0.ln_1.weight[8]", "transformer.h.0.ln_1.bias[8]",
          "transformer.h.0.attn.c_attn.weight[8, 24]", "transformer.h.0.attn.c_attn.bias[24]",
          "transformer.h.0.attn.c_proj.weight[8, 8]", "transformer.h.0.attn.c_proj.bias[8]",
          "transformer.h.0.ln_2.weight[8]", "transformer.h.0.ln_2.bias[8]",
          "transformer.h.0.mlp.c_fc.weight[8, 32]", "transformer.h.0.mlp.c_fc.bias[32]",
          "transformer.h.0.mlp.c_proj.weight[32, 8]", "transformer.h.0.mlp.c_proj.bias[8]",
          "transformer.ln_f.weight[8]", "transformer.ln_f.bias[8]"));
  EXPECT_EQ(model->parameter_count(), 13 * 8 + 6 * 8 + 12 * 64 + 15 * 8);
  // nanoGPT's form has no biases.
  const auto plain = initial_model(
      R"({"type":"gpt2","vocab_size":13,"block_size":6,"n_layer":1,"n_head":2,"n_embd":8})");
  EXPECT_EQ(plain->parameters().size(), 9u);
}

TEST(Transformer, LlamaHasHuggingFacesNames) {
  const char* json =
      R"({"type":"llama","vocab_size":13,"n_layer":1,"n_head":4,"n_kv_head":2,"n_embd":8,)"
      R"("n_hidden":20})";
  EXPECT_THAT(names_and_shapes(*initial_model(json)),
              ::testing::UnorderedElementsAre("model.embed_tokens.weight[13, 8]",
                                              "model.layers.0.input_layernorm.weight[8]",
                                              "model.layers.0.self_attn.q_proj.weight[8, 8]",
                                              "model.layers.0.self_attn.k_proj.weight[4, 8]",
                                              "model.layers.0.self_attn.v_proj.weight[4, 8]",
                                              "model.layers.0.self_attn.o_proj.weight[8, 8]",
                                              "model.layers.0.post_attention_layernorm.weight[8]",
                                              "model.layers.0.mlp.gate_proj.weight[20, 8]",
                                              "model.layers.0.mlp.up_proj.weight[20, 8]",
                                              "model.layers.0.mlp.down_proj.weight[8, 20]",
                                              "model.norm.weight[8]", "lm_head.weight[13, 8]"));
  EXPECT_EQ(initial_model(with_option(json, R"("tie_weights":true)"))->parameters().size(), 11u);
}

// What sets the other families' names and shapes apart from Llama's.
TEST(Transformer, OtherFamiliesHaveHuggingFacesNames) {
  const std::string sizes =
      R"("vocab_size":13,"n_layer":1,"n_head":4,"n_kv_head":2,"n_embd":8,"n_hidden":20})";
  const auto names = [&](const std::string& type, const std::string& more) {
    return names_and_shapes(*initial_model("{\"type\":\"" + type + "\"," + more + sizes));
  };
  const auto qwen2 = names("qwen2", "");
  EXPECT_EQ(qwen2.size(), 15u);
  EXPECT_THAT(qwen2, ::testing::IsSupersetOf({"model.layers.0.self_attn.q_proj.bias[8]",
                                              "model.layers.0.self_attn.k_proj.bias[4]",
                                              "model.layers.0.self_attn.v_proj.bias[4]"}));
  const auto qwen3 = names("qwen3", R"("head_dim":6,)");
  EXPECT_EQ(qwen3.size(), 14u);
  EXPECT_THAT(qwen3, ::testing::IsSupersetOf({"model.layers.0.self_attn.q_norm.weight[6]",
                                              "model.layers.0.self_attn.k_norm.weight[6]",
                                              "model.layers.0.self_attn.q_proj.weight[24, 8]",
                                              "model.layers.0.self_attn.k_proj.weight[12, 8]",
                                              "model.layers.0.self_attn.o_proj.weight[8, 24]"}));
  const std::vector<std::string> norms = {"model.layers.0.input_layernorm.weight[8]",
                                          "model.layers.0.post_attention_layernorm.weight[8]",
                                          "model.layers.0.pre_feedforward_layernorm.weight[8]",
                                          "model.layers.0.post_feedforward_layernorm.weight[8]"};
  const auto gemma2 = names("gemma2", ""), gemma3 = names("gemma3", "");
  EXPECT_EQ(gemma2.size(), 13u);  // the head is tied
  EXPECT_THAT(gemma2, ::testing::IsSupersetOf(norms));
  EXPECT_EQ(gemma3.size(), 15u);
  EXPECT_THAT(gemma3, ::testing::IsSupersetOf(norms));
  EXPECT_THAT(gemma3, ::testing::Contains("model.layers.0.self_attn.q_norm.weight[2]"));
}

TEST(Transformer, WithoutInitialisingNothingIsDrawn) {
  Generator random(1);
  const auto model = ModelRegistry::instance().make(testing::model_component(kTinyModels[2].json),
                                                    Build{random, DType::f32, {}, false});
  EXPECT_EQ(random.offset(), 0u);
  model->load(make_model(kTinyModels[2].json)->state());
  NoGrad guard;
  const Tensor tokens = random_tokens(1, 5, 13);
  EXPECT_LT(testing::largest_difference(
                model->logits(tokens).tensor(),
                make_model(kTinyModels[2].json, DType::f32)->logits(tokens).tensor()),
            1e-5);
}

TEST(Transformer, InitialWeightsAreGpt2s) {
  const auto model = initial_model(R"({"type":"gpt2","vocab_size":65,"n_layer":8,"n_embd":128})");
  std::map<std::string, double> deviation;
  for (const auto& [name, v] : model->parameters()) {
    double sum = 0;
    const auto values = v.tensor().to_vector();
    for (double x : values) sum += x * x;
    deviation[name] = std::sqrt(sum / double(values.size()));
  }
  EXPECT_NEAR(deviation["transformer.wte.weight"], 0.02, 0.001);
  EXPECT_NEAR(deviation["transformer.wpe.weight"], 0.02, 0.001);
  EXPECT_NEAR(deviation["transformer.h.3.attn.c_attn.weight"], 0.02, 0.001);
  EXPECT_NEAR(deviation["transformer.h.3.attn.c_proj.weight"], 0.005, 0.0002);  // / sqrt(2 * 8)
  EXPECT_NEAR(deviation["transformer.h.3.mlp.c_proj.weight"], 0.005, 0.0002);
  EXPECT_EQ(deviation["transformer.h.3.ln_1.weight"], 1);
  // The seed decides.
  const char* json = kTinyModels[0].json;
  EXPECT_EQ(initial_model(json, 1)->state()[0].second.to_vector(),
            initial_model(json, 1)->state()[0].second.to_vector());
  EXPECT_NE(initial_model(json, 1)->state()[0].second.to_vector(),
            initial_model(json, 2)->state()[0].second.to_vector());
}

TEST(Transformer, SizesThatDoNotFitAreConfigErrors) {
  const std::string start = R"({"vocab_size":5,"type":)";
  EXPECT_THROW(initial_model(start + R"("gpt2","n_head":3,"n_embd":8})"), ConfigError);
  EXPECT_THROW(initial_model(start + R"("llama","n_head":4,"n_kv_head":3,"n_embd":8})"),
               ConfigError);
  EXPECT_THAT(
      message_of<UserError>([&] { initial_model(start + R"("llama","n_head":4,"n_embd":12})"); }),
      HasSubstr("n_embd / n_head is 3, which is odd"));
  EXPECT_THAT(
      message_of<UserError>([&] { initial_model(start + R"("qwen3","n_embd":9,"head_dim":5})"); }),
      HasSubstr("head_dim is 5, which is odd"));
  EXPECT_THAT(message_of<UserError>([&] {
                initial_model(start + R"("llama","rope_scaling":{"type":"llama3","factor":2,)"
                                      R"("low_freq_factor":4}})");
              }),
              HasSubstr("high_freq_factor 4 is not above low_freq_factor 4"));
}

// ---- Module -------------------------------------------------------------------------------------

TEST(Module, StateGoesIntoAnotherModel) {
  const auto from = make_model(kTinyModels[2].json), to = initial_model(kTinyModels[2].json);
  to->load(from->state());  // f64 into f32
  NoGrad guard;
  const Tensor tokens = random_tokens(2, 9, 13);
  EXPECT_LT(testing::largest_difference(from->logits(tokens).tensor(), to->logits(tokens).tensor()),
            1e-4);
  // A copy: the source may change afterwards.
  Tensor source = from->parameters()[0].second.tensor();
  const auto before = to->parameters()[0].second.tensor().to_vector();
  source.fill(7);
  EXPECT_EQ(to->parameters()[0].second.tensor().to_vector(), before);
}

TEST(Module, LoadingNamesEverythingThatDoesNotFit) {
  const auto model = make_model(kTinyModels[0].json);
  NamedTensors tensors = model->state();
  const auto before = tensors[2].second.to_vector();
  for (auto& [name, tensor] : tensors) tensor = Tensor::zeros(tensor.shape(), DType::f32);
  tensors.erase(tensors.begin());                         // transformer.wte.weight
  tensors[0].second = Tensor::zeros({3, 8}, DType::f32);  // transformer.wpe.weight
  tensors.emplace_back("transformer.more", Tensor::zeros({2}, DType::f32));
  for (auto& [name, tensor] : tensors)
    if (name == "transformer.h.0.attn.c_attn.weight") tensor = tensor.transpose(0, 1);
  const std::string message = message_of<UserError>([&] { model->load(tensors); });
  EXPECT_THAT(message, HasSubstr("missing: transformer.wte.weight f64[13, 8]"));
  EXPECT_THAT(message,
              HasSubstr("wrong shape: transformer.wpe.weight is [3, 8], the model wants [19, 8]"));
  EXPECT_THAT(message, HasSubstr("unexpected: transformer.more f32[2]"));
  EXPECT_THAT(message, HasSubstr("transposed: transformer.h.0.attn.c_attn.weight is [24, 8], the "
                                 "model wants [8, 24]"));
  // Nothing was changed.
  EXPECT_EQ(model->parameters()[2].second.tensor().to_vector(), before);
}

TEST(Module, LoadingMayIgnoreWhatIsUnexpectedButNotWhatIsMissing) {
  const auto model = make_model(kTinyModels[0].json);
  NamedTensors tensors = model->state();
  tensors.emplace_back("transformer.more", Tensor::zeros({2}, DType::f32));
  EXPECT_THROW(model->load(tensors), UserError);
  EXPECT_NO_THROW(model->load(tensors, false));
  tensors.erase(tensors.begin());
  EXPECT_THROW(model->load(tensors, false), UserError);
}

TEST(Module, FrozenParametersGetNoGradient) {
  const auto model = make_model(kTinyModels[0].json);
  model->freeze();
  EXPECT_THROW(backward(whole_loss(*model)), UserError);
  for (auto& [name, parameter] : model->parameters()) {
    Variable v = parameter;
    if (name == "transformer.h.1.mlp.c_fc.weight") v.set_requires_grad(true);
  }
  backward(whole_loss(*model));
  for (const auto& [name, v] : model->parameters())
    EXPECT_EQ(v.grad().defined(), name == "transformer.h.1.mlp.c_fc.weight") << name;
  model->freeze(false);
  backward(whole_loss(*model));
  for (const auto& [name, v] : model->parameters()) EXPECT_TRUE(v.grad().defined()) << name;
}

TEST(Module, TrainingTurnsDropoutOn) {
  const auto model = make_model(with_option(kTinyModels[0].json, R"("dropout":0.4)"));
  NoGrad guard;
  const Tensor tokens = random_tokens(1, 8, 13);
  auto logits = [&](uint64_t seed) {
    default_generator() = Generator(seed);
    return model->logits(tokens).tensor().to_vector();
  };
  EXPECT_TRUE(model->training());
  EXPECT_NE(logits(1), logits(2));
  EXPECT_EQ(logits(1), logits(1));
  model->train(false);
  EXPECT_EQ(logits(1), logits(2));
}

// ---- forward ------------------------------------------------------------------------------------

TEST(Transformer, RefusesTokensThatDoNotFit) {
  const auto model = make_model(kTinyModels[0].json);
  EXPECT_THAT(message_of<UserError>([&] { model->hidden(random_tokens(1, 20, 13)); }),
              HasSubstr("reaches 20 tokens, the model's block_size is 19"));
  EXPECT_THAT(message_of<UserError>([&] { model->hidden(random_tokens(1, 4, 13).to(DType::i64)); }),
              HasSubstr("i32 [B, T]"));
  EXPECT_THROW(model->hidden(random_tokens(1, 4, 13).view({4})), UserError);
  EXPECT_THROW(model->hidden(Tensor::from<int32_t>({1, 2}, {1, 13})), UserError);
  EXPECT_THROW(model->hidden(Tensor::from<int32_t>({1, 2}, {-1, 3})), UserError);
}

// What a row may see through windows alone: with every layer local, two layers of window 3 reach 4
// rows back and no further.
TEST(Transformer, SlidingWindowsEnd) {
  const auto model = make_model(
      R"({"type":"gemma3","vocab_size":13,"n_layer":2,"n_head":2,"n_embd":8,"sliding_window":3,)"
      R"("global_every":9})");
  NoGrad guard;
  Tensor tokens = random_tokens(1, 12, 13);
  const Tensor before = model->logits(tokens).tensor();
  int32_t& changed = tokens.mutable_data<int32_t>()[4];
  changed = (changed + 1) % 13;
  const Tensor after = model->logits(tokens).tensor();
  for (int64_t t = 0; t < 12; ++t)
    EXPECT_EQ(bit_identical(before.select(1, t), after.select(1, t)), t < 4 || t > 8) << t;
}

// Soft-capped logits are what the loss sees.
TEST(Transformer, TheSoftCapIsInLogitsAndLoss) {
  const auto model = make_model(
      R"({"type":"gemma2","vocab_size":13,"n_layer":1,"n_head":2,"n_embd":8,"logit_softcap":0.7})");
  NoGrad guard;
  const Tensor tokens = random_tokens(1, 9, 13), targets = random_tokens(1, 9, 13, 8);
  const auto z = model->logits(tokens).tensor().to_vector();
  double loss = 0, largest = 0;
  for (size_t t = 0; t < 9; ++t) {
    double total = 0;
    for (size_t v = 0; v < 13; ++v) {
      total += std::exp(z[t * 13 + v]);
      largest = std::max(largest, std::abs(z[t * 13 + v]));
    }
    loss += std::log(total) - z[t * 13 + size_t(targets.to_vector()[t])];
  }
  EXPECT_LT(largest, 0.7);
  EXPECT_GT(largest, 0.5);
  EXPECT_NEAR(model->loss(tokens, targets, 1).tensor().item(), loss, 1e-12);
}

// Rows without a target do not meet the head: what is not a number there goes nowhere.
TEST(Transformer, TheHeadSeesNoRowWithoutATarget) {
  const auto model = make_model(kTinyModels[2].json);
  Generator random(4);
  const Tensor whole = random.normal({2, 3, 8}, 0, 1, DType::f64);
  const auto with = [&](Tensor hidden, const Tensor& targets, bool broken) {
    for (int64_t row : {1, 4})
      if (broken) hidden.view({6, 8}).slice(0, row, row + 1).fill(NAN);
    const Variable h(hidden, true);
    for (auto [name, v] : model->parameters()) v.clear_grad();
    const Variable loss = model->loss_of(h, targets, 0.5);
    backward(loss);
    return std::tuple{loss.tensor().item(), h.grad().to_vector(), model->head().grad().to_vector()};
  };
  const Tensor some = Tensor::from<int32_t>({2, 3}, {4, -1, 12, 0, -1, 7});
  const auto [loss, hidden_grad, head_grad] = with(whole.clone(), some, false);
  EXPECT_EQ(std::tuple(loss, hidden_grad, head_grad), with(whole.clone(), some, true));
  for (size_t c = 0; c < 8; ++c) EXPECT_EQ(hidden_grad[8 + c], 0);
  // The rows one by one.
  double sum = 0;
  for (int64_t row : {0, 2, 3, 5})
    sum += model
               ->loss_of(Variable(whole.view({6, 8}).slice(0, row, row + 1).contiguous()),
                         some.view({6}).slice(0, row, row + 1), 0.5)
               .tensor()
               .item();
  EXPECT_NEAR(loss, sum, 1e-12);
  const Tensor none = Tensor::full({2, 3}, -1, DType::i32);
  EXPECT_EQ(std::get<0>(with(whole.clone(), none, false)), 0);
  EXPECT_THROW(model->loss_of(Variable(whole), none.slice(1, 0, 2), 1), UserError);
}

// Grouped queries: sharing a key head is having it twice.
TEST(Transformer, GroupedQueriesEqualRepeatedKeyHeads) {
  const char* start = R"({"type":"llama","vocab_size":13,"n_layer":1,"n_head":4,"n_embd":16)";
  const auto grouped = make_model(std::string(start) + R"(,"n_kv_head":2})");
  const auto full = make_model(std::string(start) + "}");
  NamedTensors tensors = grouped->state();
  for (auto& [name, tensor] : tensors) {
    if (name.find("k_proj") == std::string::npos && name.find("v_proj") == std::string::npos)
      continue;
    std::vector<double> rows;
    for (const int64_t head : {0, 0, 1, 1}) {
      const auto part = tensor.slice(0, 4 * head, 4 * head + 4).to_vector();
      rows.insert(rows.end(), part.begin(), part.end());
    }
    tensor = Tensor::from<double>({16, 16}, rows);
  }
  full->load(tensors);
  NoGrad guard;
  const Tensor tokens = random_tokens(2, 11, 13);
  EXPECT_LT(
      testing::largest_difference(grouped->logits(tokens).tensor(), full->logits(tokens).tensor()),
      1e-12);
}

TEST(Transformer, CountsItsWork) {
  const auto model = initial_model(
      R"({"type":"gpt2","vocab_size":10,"block_size":8,"n_layer":3,"n_head":2,"n_embd":4})");
  // A layer: 12 C^2 weights, two operations each, and C operations for every (query, key) pair,
  // twice for scores and twice for values; 5 tokens see (5 + 1) / 2 keys on average. Then the head.
  EXPECT_EQ(model->forward_flops_per_token(5), 3 * (2 * 12 * 16 + 4 * 4 * 3) + 2 * 4 * 10);
  // Heads of 6 of a width of 4; one layer with a window of 2, where 5 tokens see 1, 2, 2, 2, 2
  // keys, and one without.
  const auto gemma = initial_model(
      R"({"type":"gemma2","vocab_size":10,"n_layer":2,"n_head":2,"n_kv_head":1,"n_embd":4,)"
      R"("head_dim":6,"n_hidden":7,"sliding_window":2})");
  const double weights = 4 * 12 + 2 * 4 * 6 + 12 * 4 + 3 * 4 * 7;
  EXPECT_DOUBLE_EQ(gemma->forward_flops_per_token(5),
                   2 * 2 * weights + 4 * 12 * (9.0 / 5 + 3) + 2 * 4 * 10);
}

// ---- gradients ----------------------------------------------------------------------------------

class EveryModel : public ::testing::TestWithParam<NamedModel> {};
class CarryingModel : public ::testing::TestWithParam<NamedModel> {};

// Of the whole loss, dropout and carried state included, for a sample of every parameter.
TEST_P(EveryModel, GradientsAreCentralDifferences) {
  const auto model = make_model(GetParam().json);
  EXPECT_EQ(testing::gradient_error(*model, [&] { return whole_loss(*model); }), "");
}

// Cutting the graph changes gradients, not losses.
TEST_P(CarryingModel, DetachedStateCarriesNoGradient) {
  const auto model = make_model(GetParam().json);
  ASSERT_TRUE(model->carries_memory());
  auto gradients = [&](bool detach) {
    const Variable loss = whole_loss(*model, detach);
    backward(loss);
    std::vector<double> all = {loss.tensor().item()};
    for (auto [name, v] : model->parameters()) {
      const auto g = v.grad().to_vector();
      all.insert(all.end(), g.begin(), g.end());
      v.clear_grad();
    }
    return all;
  };
  const auto whole = gradients(false), cut = gradients(true);
  EXPECT_EQ(whole[0], cut[0]);
  EXPECT_NE(whole, cut);
}

// Losses and gradients to the bit, with dropout on.
TEST_P(EveryModel, RematerializingChangesNothing) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::string json = GetParam().json;
    if (json.find("dropout") == std::string::npos) json = with_option(json, R"("dropout":0.3)");
    const auto plain = make_model(json, dtype);
    const auto again = make_model(with_option(json, R"("rematerialize":true)"), dtype);
    const Variable loss = whole_loss(*plain), loss_again = whole_loss(*again);
    EXPECT_TRUE(bit_identical(loss.tensor(), loss_again.tensor()));
    backward(loss);
    backward(loss_again);
    const auto parameters = plain->parameters(), others = again->parameters();
    ASSERT_EQ(parameters.size(), others.size());
    for (size_t i = 0; i < parameters.size(); ++i)
      EXPECT_TRUE(bit_identical(parameters[i].second.grad(), others[i].second.grad()))
          << parameters[i].first << ", largest difference "
          << testing::largest_difference(parameters[i].second.grad(), others[i].second.grad());
  }
}

std::vector<NamedModel> carrying_models() {
  std::vector<NamedModel> models;
  for (const NamedModel& m : kTinyModels)
    if (std::string(m.name).ends_with("_carried")) models.push_back(m);
  return models;
}
INSTANTIATE_TEST_SUITE_P(Transformer, CarryingModel, ::testing::ValuesIn(carrying_models()),
                         [](const auto& info) { return std::string(info.param.name); });
INSTANTIATE_TEST_SUITE_P(Transformer, EveryModel, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace reverie
