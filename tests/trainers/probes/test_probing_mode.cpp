// A live model that a probe had in its hands is what it was.

#include "trainers/probes/probing_mode.h"

#include <gtest/gtest.h>

#include "autograd/ops/reduce.h"
#include "core/compact_weights.h"
#include "core/error.h"
#include "core/gguf_writer.h"
#include "layers/kept_weights.h"
#include "layers/pretrained/gguf_model_writer.h"
#include "layers/pretrained/load.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

TEST(RedrawnParameters, GiveWeightsBackAsTheirFileHasThem) {
  const testing::TemporaryDirectory directory;
  const std::string json = R"({"type": "llama", "vocab_size": 96, "block_size": 40, "n_layer": 2,
                               "n_head": 2, "n_embd": 64})",
                    file = directory / "model.gguf";
  GgufWriter out;
  write_gguf_model(
      out, plain_model(*testing::make_model(json, DType::f32), testing::model_component(json)),
      GgufTensorType::q8_0);
  out.text("tokenizer.ggml.model", "no_vocab");
  out.save(file);
  const LoadedModel loaded = load_pretrained(file);
  const std::string hash = loaded.model->weights_hash();
  const int64_t widened = widened_for_good(), compact = kept_weights(*loaded.model).compact;
  ASSERT_GT(compact, 0);
  {
    const RedrawnParameters redrawn(*loaded.model, [](const Variable&) { return true; });
    EXPECT_NE(loaded.model->weights_hash(), hash);
  }
  EXPECT_EQ(loaded.model->weights_hash(), hash);
  EXPECT_EQ(kept_weights(*loaded.model).compact, compact);
  EXPECT_EQ(widened_for_good(), widened);
}

TEST(ProbingMode, RecordsAsATrainingStepDoesAndKeepsNoActivations) {
  const std::string json = R"({"type": "gpt2", "vocab_size": 16, "block_size": 8, "n_layer": 1,
                               "n_head": 2, "n_embd": 8})";
  const auto model = testing::make_model(json, DType::f64);
  const Tensor tokens = Tensor::zeros({1, 8}, DType::i32);
  {
    const ProbingMode mode(*model, true, MatmulPrecision::full);
    const Variable hidden = model->hidden(tokens, nullptr);
    EXPECT_TRUE(model->training());
    EXPECT_TRUE(hidden.requires_grad());
    EXPECT_THROW(backward(sum_all(hidden)), InternalError);
  }
  backward(sum_all(model->hidden(tokens, nullptr)));
}

}  // namespace
}  // namespace reverie
