// Models in GGUF files of ours (every family: test_families.cpp).

#include "layers/pretrained/gguf_model_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "layers/linear.h"
#include "pretrained_support.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::largest_difference;
using testing::logits_of;
using testing::make_model;
using testing::model_component;
using testing::TemporaryDirectory;

GgufWriter::Saved write_model(const LanguageModel& model, const Component& component,
                              GgufTensorType type, const std::string& file) {
  const PlainModel plain = plain_model(model, component);
  GgufWriter out;
  write_gguf_model(out, plain, type);
  out.text("tokenizer.ggml.model", "no_vocab");
  return out.save(file);
}

TEST(GgufModelWriter, ReadsBackAsTheSameModel) {
  // GGUF leaves the scale of attention and the pattern of windows to its readers.
  for (const char* json :
       {R"({"type":"gemma2","vocab_size":13,"block_size":19,"n_layer":4,"n_head":2,"n_embd":8,
            "n_kv_head":1,"head_dim":6,"sliding_window":5})",
        R"({"type":"gemma3","vocab_size":13,"block_size":19,"n_layer":7,"n_head":2,"n_embd":8,
            "sliding_window":5,"rope_scaling":{"type":"linear","factor":2}})",
        R"({"type":"llama","vocab_size":13,"block_size":19,"n_layer":2,"n_head":2,"n_embd":16,
            "tie_weights":true,"rope_theta":500000,"rope_scaling":{"type":"llama3","factor":8}})",
        R"({"type":"gpt2","vocab_size":13,"block_size":19,"n_layer":2,"n_head":2,"n_embd":8,
            "activation":"gelu_tanh"})"}) {
    const TemporaryDirectory directory;
    const auto model = make_model(json, DType::f32);
    write_model(*model, model_component(json), GgufTensorType::f32, directory / "model.gguf");
    const LoadedModel again = load_pretrained(directory / "model.gguf");
    const Tensor tokens = testing::random_tokens(2, 19, 13);
    NoGrad guard;
    model->train(false);
    EXPECT_LT(largest_difference(logits_of(again, tokens), model->logits(tokens).tensor()), 2e-5)
        << json;
  }
}

TEST(GgufModelWriter, FewerBitsAreWithinTheirBounds) {
  const std::string json =
      R"({"type":"llama","vocab_size":64,"block_size":19,"n_layer":2,"n_head":2,"n_embd":32})";
  const auto model = make_model(json, DType::f32);
  for (const auto type : {GgufTensorType::f16, GgufTensorType::bf16, GgufTensorType::q8_0}) {
    const TemporaryDirectory directory;
    const auto saved = write_model(*model, model_component(json), type, directory / "model.gguf");
    EXPECT_LE(saved.errors.largest_share, 1);
    EXPECT_GT(saved.errors.largest, 0);
    EXPECT_EQ(saved.in_full, 5);  // norms
    const LoadedModel again = load_pretrained(directory / "model.gguf");
    const auto wanted = model->state();
    const auto got = again.model->state();
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_EQ(got[i].first, wanted[i].first);
      EXPECT_LE(largest_difference(got[i].second, wanted[i].second), saved.errors.largest);
    }
  }
}

TEST(PlainState, LowRankUpdatesAreAddedToTheirWeights) {
  for (const char* type : {"gpt2", "llama"}) {  // [in, out] and [out, in]
    const std::string json = R"({"vocab_size":13,"block_size":19,"n_layer":2,"n_head":2,"n_embd":8,
                                 "type":")" +
                             std::string(type) + "\"}";
    const auto updated = make_model(json), alone = make_model(json);
    Generator random(5);
    const Build build{random, DType::f64};
    add_low_rank_updates(*updated, 3, 6, build);
    for (auto& [name, parameter] : updated->parameters()) {
      Tensor value = parameter.tensor();
      if (name.ends_with("lora_b"))
        value.copy_from(random.normal(value.shape(), 0, 0.2, DType::f64));
    }
    PlainModel plain = plain_model(*updated, model_component(json));
    EXPECT_THROW(plain_state(plain), InternalError);
    plain.low_rank_scale = 2;  // alpha / rank
    const NamedTensors merged = plain_state(plain);
    EXPECT_EQ(merged.size(), alone->parameters().size());
    const Tensor tokens = testing::random_tokens(2, 19, 13);
    NoGrad guard;
    EXPECT_GT(largest_difference(alone->logits(tokens).tensor(), updated->logits(tokens).tensor()),
              0.01);
    alone->load(merged);
    EXPECT_LT(largest_difference(alone->logits(tokens).tensor(), updated->logits(tokens).tensor()),
              1e-10);
  }
}

TEST(GgufModelWriter, WhatItsReadersDecideIsRefused) {
  const auto message = [](const std::string& options) -> std::string {
    const std::string json =
        R"({"vocab_size":13,"block_size":19,"n_layer":2,"n_head":2,"n_embd":8,)" + options + "}";
    const auto model = make_model(json, DType::f32);
    const TemporaryDirectory directory;
    try {
      write_model(*model, model_component(json), GgufTensorType::f32, directory / "model.gguf");
    } catch (const UserError& e) {
      return e.what();
    }
    return "written";
  };
  EXPECT_THAT(message(R"("type":"gpt2")"), HasSubstr("exact GELU"));
  EXPECT_THAT(message(R"("type":"gemma2","query_pre_attn_scalar":9)"),
              HasSubstr("query_pre_attn_scalar other than 4"));
  EXPECT_THAT(message(R"("type":"gemma2","global_every":3)"),
              HasSubstr("global_every other than 2"));
  EXPECT_THAT(message(R"("type":"gemma2","logit_softcap":0)"), HasSubstr("soft-caps that are off"));
  EXPECT_THAT(message(R"("type":"gemma2","tie_weights":false)"), HasSubstr("output projection"));
  EXPECT_THAT(message(R"("type":"gemma3","rope_local_theta":5000)"), HasSubstr("rope_local_theta"));
  EXPECT_THAT(message(R"("type":"gemma3","rope_scaling":{"type":"llama3","factor":8})"),
              HasSubstr("Llama 3's scaling"));
  EXPECT_THAT(
      message(R"("type":"llama","rope_scaling":{"type":"llama3","original_block_size":32})"),
      HasSubstr("constants of Llama 3's scaling"));
  for (const char* type : {"mistral", "qwen2", "qwen3"}) {
    EXPECT_THAT(message(fmt::format(R"("type":"{}","sliding_window":18)", type)),
                HasSubstr("sliding_window shorter than block_size"));
    EXPECT_EQ(message(fmt::format(R"("type":"{}","sliding_window":19)", type)), "written");
  }
  EXPECT_THAT(message(R"("type":"gpt2","memory":{"type":"imm"})"),
              HasSubstr("memory module (imm)"));
}

}  // namespace
}  // namespace reverie
