// Frozen models whose weights stay as their files have them compute what the widened ones do.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "autograd/precision.h"
#include "core/compact_weights.h"
#include "core/cuda.h"
#include "core/dry_run.h"
#include "core/files.h"
#include "core/gguf_writer.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "layers/kept_weights.h"
#include "layers/linear.h"
#include "layers/pretrained/gguf_model_writer.h"
#include "pretrained_support.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::largest_difference;
using testing::make_model;
using testing::model_component;
using testing::TemporaryDirectory;

constexpr int kVocabulary = 96;
constexpr const char* kModels[] = {
    R"({"type":"llama","vocab_size":96,"block_size":40,"n_layer":2,"n_head":2,"n_embd":64,
        "n_kv_head":1,"tie_weights":true})",
    R"({"type":"gemma3","vocab_size":96,"block_size":40,"n_layer":7,"n_head":2,"n_embd":64,
        "sliding_window":5})",
    R"({"type":"gpt2","vocab_size":96,"block_size":40,"n_layer":2,"n_head":2,"n_embd":64,
        "bias":true,"activation":"gelu_tanh"})"};

void write_model(const std::string& json, GgufTensorType type, const std::string& file) {
  const auto model = make_model(json, DType::f32);
  GgufWriter out;
  write_gguf_model(out, plain_model(*model, model_component(json)), type);
  out.text("tokenizer.ggml.model", "no_vocab");
  out.save(file);
}

LoadedModel load_wide(const std::string& path, const PretrainedOptions& options = {}) {
  ::setenv("REVERIE_WEIGHTS", "f32", 1);
  LoadedModel loaded = load_pretrained(path, options);
  ::unsetenv("REVERIE_WEIGHTS");
  return loaded;
}

// Logits of a text, all at once and token by token.
struct Logits {
  Tensor at_once, by_token;
};
Logits logits_of_both_ways(LanguageModel& model, const Tensor& tokens) {
  const NoGrad guard;
  SequenceState state;
  state.use_cache = true;
  Tensor by_token = Tensor::empty({tokens.size(1), kVocabulary}, DType::f32);
  for (int64_t i = 0; i < tokens.size(1); ++i) {
    const Tensor one = tokens.slice(1, i, i + 1).contiguous();
    by_token.slice(0, i, i + 1)
        .copy_from(model.logits(one, &state).tensor().view({1, kVocabulary}));
  }
  return {model.logits(tokens).tensor().clone(), by_token};
}
// Largest |difference| over the largest |wanted|.
double relative(const Tensor& got, const Tensor& wanted) {
  return largest_difference(got, wanted) /
         largest_difference(wanted, Tensor::zeros(wanted.shape(), wanted.dtype()));
}

class CompactModels : public ::testing::TestWithParam<std::tuple<const char*, GgufTensorType>> {
 protected:
  void SetUp() override {
    write_model(std::get<0>(GetParam()), std::get<1>(GetParam()), file_);
    compact_ = load_pretrained(file_);
    wide_ = load_wide(file_);
  }
  bool in_out() const {
    return dynamic_cast<const Transformer&>(*wide_.model).shape().layout == WeightLayout::in_out;
  }
  // Those whose rows are whole blocks; learned positions are added as they are.
  int64_t matrices() const {
    const auto block = int64_t(gguf_layout(uint32_t(std::get<1>(GetParam())))->elements);
    int64_t count = 0;
    for (const auto& [name, v] : wide_.model->parameters())
      count += v.rank() == 2 && !name.ends_with("wpe.weight") &&
               v.shape()[in_out() ? 0 : 1] % block == 0;
    return count;
  }
  TemporaryDirectory directory_;
  std::string file_ = directory_ / "model.gguf";
  LoadedModel compact_, wide_;
};

TEST_P(CompactModels, GiveTheLogitsOfTheWidenedOnes) {
  const Tensor tokens = testing::random_tokens(1, 24, kVocabulary);
  const int64_t before = widened_for_good();
  const Logits got = logits_of_both_ways(*compact_.model, tokens),
               wanted = logits_of_both_ways(*wide_.model, tokens);
  // Token by token the same sums are made in the same order, but where a wide matrix is [in, out]
  // and the file has it the other way round. At once, sums differ in their order alone: some
  // roundings of 2^-24 in each of up to 7 layers.
  if (in_out()) {
    EXPECT_LT(relative(got.by_token, wanted.by_token), 2e-5);
  } else {
    EXPECT_TRUE(bit_identical(got.by_token, wanted.by_token));
  }
  EXPECT_LT(relative(got.at_once, wanted.at_once), 2e-5);
  EXPECT_EQ(widened_for_good(), before);
  const KeptWeights kept = kept_weights(*compact_.model), widened = kept_weights(*wide_.model);
  EXPECT_EQ(kept.compact, matrices());
  EXPECT_EQ(widened.compact, 0);
  EXPECT_LT(kept.bytes, widened.bytes);
  EXPECT_EQ(kept.wide, widened.bytes);
  EXPECT_EQ(kept_in_words(kept).substr(0, 8), "kept in ");
}

TEST_P(CompactModels, HaveTheHashAndTheValuesOfTheWidenedOnes) {
  const int64_t before = widened_for_good();
  EXPECT_EQ(compact_.model->weights_hash(), wide_.model->weights_hash());
  const auto copy = make_model(std::get<0>(GetParam()));
  copy->load(compact_.model->state());
  const NamedTensors wanted = wide_.model->state(), got = copy->state();
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_TRUE(bit_identical(got[i].second, wanted[i].second.to(DType::f64))) << wanted[i].first;
  EXPECT_EQ(widened_for_good(), before);
}

// The gradient of what is trained beside a frozen model flows through it.
TEST_P(CompactModels, PassGradientsOnAsTheWidenedOnesDo) {
  const Tensor tokens = testing::random_tokens(1, 24, kVocabulary),
               targets = testing::random_tokens(1, 24, kVocabulary, 4);
  const int64_t before = widened_for_good();
  for (const auto precision : {MatmulPrecision::full, MatmulPrecision::bf16}) {
    const MatmulPrecisionScope scope(precision);
    std::vector<NamedTensors> gradients;
    for (LanguageModel* model : {compact_.model.get(), wide_.model.get()}) {
      Generator random(5);
      if (precision == MatmulPrecision::full)
        add_low_rank_updates(*model, 2, 4, Build{random, DType::f32});
      for (auto& [name, v] : model->parameters()) Variable(v).clear_grad();
      backward(model->loss(tokens, targets, 1.0 / 24));
      gradients.emplace_back();
      for (const auto& [name, v] : model->parameters())
        if (name.ends_with("lora_b")) gradients.back().emplace_back(name, v.grad());
    }
    ASSERT_GT(gradients[0].size(), 4u);
    ASSERT_EQ(gradients[0].size(), gradients[1].size());
    for (size_t i = 0; i < gradients[0].size(); ++i)
      EXPECT_LT(relative(gradients[0][i].second, gradients[1][i].second),
                precision == MatmulPrecision::full ? 5e-5 : 0.02)
          << gradients[0][i].first;
  }
  EXPECT_EQ(widened_for_good(), before);
}

TEST_P(CompactModels, AreWidenedWhereTheyAreTrained) {
  PretrainedOptions options;
  options.frozen = false;
  const LoadedModel trained = load_pretrained(file_, options);
  EXPECT_EQ(kept_weights(*trained.model).compact, 0);
  EXPECT_EQ(trained.model->weights_hash(), compact_.model->weights_hash());
}

// A checkpoint may hold other weights than the file: they are f32 from then on, and lie as before.
TEST_P(CompactModels, CanBeWritten) {
  compact_.model->load(wide_.model->state());
  EXPECT_EQ(kept_weights(*compact_.model).compact, 0);
  const Tensor tokens = testing::random_tokens(1, 12, kVocabulary);
  for (const auto precision : {MatmulPrecision::full, MatmulPrecision::bf16}) {
    const MatmulPrecisionScope scope(precision);
    EXPECT_LT(
        relative(compact_.model->logits(tokens).tensor(), wide_.model->logits(tokens).tensor()),
        2e-5);
  }
}

// On a GPU, too: few rows read weights as they are stored, and many widen them for each product.
TEST_P(CompactModels, StayAsStoredOnAGpu) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  PretrainedOptions on_gpu;
  on_gpu.device = {DeviceKind::cuda, 0};
  const int64_t before = widened_for_good();
  Allocator& memory = allocator(on_gpu.device);
  const size_t in_use = memory.stats().in_use;
  memory.reset_peak();
  const LoadedModel compact = load_pretrained(file_, on_gpu);
  const KeptWeights kept = kept_weights(*compact.model);
  EXPECT_LT(memory.stats().peak - in_use, 1.1 * double(kept.bytes) + 256 * 200);  // blocks of 256
  EXPECT_EQ(kept.bytes, kept_weights(*compact_.model).bytes);
  EXPECT_EQ(kept.compact, kept_weights(*compact_.model).compact);
  EXPECT_EQ(compact.model->weights_hash(), wide_.model->weights_hash());
  const LoadedModel wide = load_wide(file_, on_gpu);
  EXPECT_EQ(kept_weights(*wide.model).compact, 0);
  const Tensor tokens = testing::random_tokens(1, 12, kVocabulary),
               targets = testing::random_tokens(1, 12, kVocabulary, 4).to(on_gpu.device);
  const Logits got = logits_of_both_ways(*compact.model, tokens),
               wanted = logits_of_both_ways(*wide.model, tokens);
  EXPECT_LT(relative(got.at_once, wanted.at_once), 2e-5);
  EXPECT_LT(relative(got.by_token, wanted.by_token), 2e-5);
  for (const auto precision : {MatmulPrecision::full, MatmulPrecision::bf16}) {
    const MatmulPrecisionScope scope(precision);
    std::vector<NamedTensors> gradients;
    for (LanguageModel* model : {compact.model.get(), wide.model.get()}) {
      Generator random(5);
      if (precision == MatmulPrecision::full)
        add_low_rank_updates(*model, 2, 4, Build{random, DType::f32, on_gpu.device});
      for (auto& [name, v] : model->parameters()) Variable(v).clear_grad();
      backward(model->loss(tokens.to(on_gpu.device), targets, 1.0 / 12));
      gradients.emplace_back();
      for (const auto& [name, v] : model->parameters())
        if (name.ends_with("lora_b"))
          gradients.back().emplace_back(name, v.grad().to(Device{}).contiguous());
    }
    ASSERT_GT(gradients[0].size(), 4u);
    ASSERT_EQ(gradients[0].size(), gradients[1].size());
    for (size_t i = 0; i < gradients[0].size(); ++i)
      EXPECT_LT(relative(gradients[0][i].second, gradients[1][i].second),
                precision == MatmulPrecision::full ? 5e-5 : 0.02)
          << gradients[0][i].first;
  }
  EXPECT_EQ(widened_for_good(), before);
}

INSTANTIATE_TEST_SUITE_P(Files, CompactModels,
                         ::testing::Combine(::testing::ValuesIn(kModels),
                                            ::testing::Values(GgufTensorType::q8_0,
                                                              GgufTensorType::bf16,
                                                              GgufTensorType::f16)),
                         [](const auto& info) { return std::to_string(info.index); });

// A Hugging Face directory of kModels[0] with weights in 16 bits.
void write_narrow_directory(const TemporaryDirectory& directory, DType dtype) {
  const auto model = make_model(kModels[0], DType::f32);
  int64_t hidden = 0;
  for (const auto& [name, t] : model->state())
    if (name.ends_with("gate_proj.weight")) hidden = t.size(0);
  testing::write(directory / "config.json", R"({"model_type":"llama","vocab_size":96,
        "max_position_embeddings":40,"num_hidden_layers":2,"num_attention_heads":2,
        "num_key_value_heads":1,"hidden_size":64,"intermediate_size":)" +
                                                std::to_string(hidden) +
                                                R"(,"tie_word_embeddings":true,
        "rms_norm_eps":1e-5,"rope_theta":10000.0,"hidden_act":"silu"})");
  NamedTensors narrow;
  for (const auto& [name, t] : model->state()) narrow.emplace_back(name, t.to(dtype));
  write_safetensors(directory / "model.safetensors", narrow);
}
constexpr int64_t kMatrices = 1 + 2 * 7;  // the table, and those of two blocks

TEST(CompactSafetensors, StayMapped) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const TemporaryDirectory directory;
    write_narrow_directory(directory, dtype);
    const LoadedModel compact = load_pretrained(directory.path()),
                      wide = load_wide(directory.path());
    EXPECT_EQ(kept_weights(*compact.model).compact, kMatrices);
    EXPECT_EQ(kept_weights(*wide.model).compact, 0);
    const Tensor tokens = testing::random_tokens(1, 24, kVocabulary);
    const Logits got = logits_of_both_ways(*compact.model, tokens),
                 wanted = logits_of_both_ways(*wide.model, tokens);
    EXPECT_TRUE(bit_identical(got.by_token, wanted.by_token));
    EXPECT_LT(relative(got.at_once, wanted.at_once), 2e-5);
  }
}

// A dry run looks at how weights are stored where they are, and at config.json alone where not.
TEST(CompactSafetensors, ADryRunKnowsThem) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const TemporaryDirectory directory;
    write_narrow_directory(directory, dtype);
    const DryRun dry;
    EXPECT_EQ(kept_weights(*load_pretrained(directory.path()).model).compact, kMatrices);
    const int64_t kept = kept_weights(*load_pretrained(directory.path()).model).bytes;
    std::filesystem::remove(directory / "model.safetensors");
    EXPECT_EQ(kept_weights(*load_pretrained(directory.path()).model).compact, 0);
    // Where config.json says in which type they were saved, they count so.
    for (const char* key : {"dtype", "torch_dtype"}) {
      Json config = parse_json(read_file(directory / "config.json"));
      config.erase("dtype");
      config[key] = dtype == DType::bf16 ? "bfloat16" : "float16";
      testing::write(directory / "config.json", json_text(config));
      const size_t before = allocator({}).stats().in_use;
      const LoadedModel shape = load_pretrained(directory.path());
      EXPECT_EQ(kept_weights(*shape.model).compact, kMatrices) << key;
      EXPECT_EQ(kept_weights(*shape.model).bytes, kept) << key;
      EXPECT_LT(allocator({}).stats().in_use - before, size_t(kept) / 2) << "vectors alone";
    }
    Json config = parse_json(read_file(directory / "config.json"));
    config["dtype"] = "float32";  // counts before the older key
    testing::write(directory / "config.json", json_text(config));
    EXPECT_EQ(kept_weights(*load_pretrained(directory.path()).model).compact, 0);
  }
}

// A plan counts compact weights itself: those whose rows are put in another order must not be in
// the allocator's count as well.
TEST(CompactGguf, ADryRunAllocatesNoCompactWeights) {
  const TemporaryDirectory directory;
  write_model(kModels[0], GgufTensorType::bf16, directory / "model.gguf");
  const DryRun dry;
  const size_t before = allocator({}).stats().in_use;
  const LoadedModel model = load_pretrained(directory / "model.gguf");
  EXPECT_EQ(kept_weights(*model.model).compact, kMatrices);
  EXPECT_LT(allocator({}).stats().in_use - before, size_t(kept_weights(*model.model).bytes) / 20);
}

// On a GPU they stay so: bf16 in products of bf16 is read as it is, and all else is widened for the
// product alone. The same numbers are multiplied, by the same library.
TEST(CompactSafetensors, StayNarrowOnAGpu) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  PretrainedOptions on_gpu;
  on_gpu.device = {DeviceKind::cuda, 0};
  const int64_t before = widened_for_good();
  for (const DType dtype : {DType::bf16, DType::f16}) {
    const TemporaryDirectory directory;
    write_narrow_directory(directory, dtype);
    Allocator& memory = allocator(on_gpu.device);
    const size_t in_use = memory.stats().in_use;
    memory.reset_peak();
    const LoadedModel compact = load_pretrained(directory.path(), on_gpu);
    // Never in f32, not even before they are read.
    EXPECT_LT(memory.stats().peak - in_use, 0.75 * double(kept_weights(*compact.model).wide));
    const LoadedModel wide = load_wide(directory.path(), on_gpu);
    EXPECT_EQ(kept_weights(*compact.model).compact, kMatrices);
    EXPECT_EQ(kept_weights(*wide.model).compact, 0);
    EXPECT_EQ(compact.model->weights_hash(), wide.model->weights_hash());
    const Tensor tokens = testing::random_tokens(1, 24, kVocabulary).to(on_gpu.device),
                 targets = testing::random_tokens(1, 24, kVocabulary, 4).to(on_gpu.device);
    for (const auto precision : {MatmulPrecision::full, MatmulPrecision::bf16}) {
      const MatmulPrecisionScope scope(precision);
      std::vector<Tensor> logits, gradients;
      for (LanguageModel* model : {compact.model.get(), wide.model.get()}) {
        logits.push_back(model->logits(tokens).tensor());
        Generator random(5);
        if (precision == MatmulPrecision::full)
          add_low_rank_updates(*model, 2, 4, Build{random, DType::f32, on_gpu.device});
        for (auto& [name, v] : model->parameters()) Variable(v).clear_grad();
        backward(model->loss(tokens, targets, 1.0 / 24));
        for (const auto& [name, v] : model->parameters())
          if (name.ends_with("0.self_attn.q_proj.lora_b")) gradients.push_back(v.grad());
      }
      EXPECT_TRUE(bit_identical(logits[0], logits[1]));
      ASSERT_EQ(gradients.size(), 2u);
      EXPECT_TRUE(bit_identical(gradients[0], gradients[1]));
    }
  }
  EXPECT_EQ(widened_for_good(), before);
}

}  // namespace
}  // namespace reverie
