// Models that transformers wrote: the same logits, loss, gradients and greedy tokens
// (tests/golden/make/make_hf_golden.py), whatever the directory looks like.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/json.h"
#include "pretrained_support.h"
#include "support/golden_models.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::expected;
using testing::golden;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::logits_of;
using testing::ModelCopy;
using testing::options;
using testing::refusal;

class Pretrained : public ::testing::TestWithParam<std::string> {};

TEST_P(Pretrained, LogitsAreTransformers) {
  const SafetensorsFile want = expected(GetParam());
  for (const DType dtype : {DType::f32, DType::f64}) {
    const LoadedModel loaded = load_pretrained(golden(GetParam()), options(dtype));
    const double difference =
        largest_difference(logits_of(loaded, want.at("tokens")), want.at("logits"));
    EXPECT_LT(difference, 1e-4);  // transformers' own f32 is up to 3e-5 from its f64
    RecordProperty(dtype == DType::f32 ? "f32" : "f64", std::to_string(difference));
  }
}

TEST_P(Pretrained, LossAndGradientsAreTransformersInF64) {
  const SafetensorsFile want = expected(GetParam());
  const LoadedModel loaded = load_pretrained(golden(GetParam()), options(DType::f64, false));
  const Tensor& targets = want.at("targets");
  const Variable loss =
      loaded.model->loss(want.at("tokens"), targets, 1.0 / double(targets.numel() - 2));
  EXPECT_NEAR(loss.tensor().item(), want.at("loss").item(), 1e-10);
  backward(loss);
  int compared = 0;
  for (const auto& [name, parameter] : loaded.model->parameters())
    if (const Tensor* gradient = want.find("grad." + name)) {
      EXPECT_LT(largest_difference(parameter.grad(), *gradient), 1e-9) << name;
      ++compared;
    }
  EXPECT_GE(compared, 1);
}

// One token at a time, through the cache.
TEST_P(Pretrained, GreedyTokensAreTransformers) {
  const SafetensorsFile want = expected(GetParam());
  const LoadedModel loaded = load_pretrained(golden(GetParam()));
  NoGrad guard;
  SequenceState state;
  state.use_cache = true;
  Tensor next = want.at("tokens").slice(0, 0, 1).contiguous();
  std::vector<double> greedy;
  while (greedy.size() < size_t(want.at("greedy").numel())) {
    const auto logits = loaded.model->logits(next, &state).tensor();
    const auto last = logits.select(1, logits.size(1) - 1).to_vector();
    const auto best = std::max_element(last.begin(), last.end()) - last.begin();
    greedy.push_back(double(best));
    next = Tensor::from<int32_t>({1, 1}, {int32_t(best)});
  }
  EXPECT_EQ(greedy, want.at("greedy").to_vector());
}

TEST_P(Pretrained, SaysWhatItIs) {
  const LoadedModel loaded = load_pretrained(golden(GetParam()));
  // The component builds a model of the same parameters.
  Generator random;
  const auto again = ModelRegistry::instance().make(loaded.component, Build{random});
  const auto a = loaded.model->parameters(), b = again->parameters();
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].first, b[i].first);
    EXPECT_EQ(a[i].second.shape(), b[i].second.shape());
    EXPECT_FALSE(a[i].second.requires_grad());
  }
  EXPECT_FALSE(loaded.model->training());
  EXPECT_EQ(loaded.bos, 1);
  EXPECT_EQ(loaded.ends, std::vector<int32_t>{2});
}

INSTANTIATE_TEST_SUITE_P(All, Pretrained, ::testing::ValuesIn(testing::golden_models()),
                         [](const auto& info) { return info.param; });

// The comparison can fail: one weight off by a hundredth.
TEST(PretrainedSelfTest, OnePerturbedWeightIsSeen) {
  const SafetensorsFile want = expected("gemma2");
  const ModelCopy copy("gemma2");
  copy.change([](NamedTensors& tensors) {
    for (auto& [name, t] : tensors)
      if (name == "model.layers.1.self_attn.q_proj.weight") t.mutable_data<float>()[5] += 0.01f;
  });
  const LoadedModel loaded = load_pretrained(copy.path());
  EXPECT_GT(largest_difference(logits_of(loaded, want.at("tokens")), want.at("logits")), 1e-4);
}

// ---- what directories may differ in -------------------------------------------------------------

// Logits of a changed copy, against the original's.
double difference_after(const std::string& name, const std::function<void(NamedTensors&)>& change,
                        const Json& patch = Json::object()) {
  const ModelCopy copy(name);
  copy.change(change);
  copy.patch(patch);
  const Tensor tokens = expected(name).at("tokens");
  return largest_difference(logits_of(load_pretrained(copy.path()), tokens),
                            logits_of(load_pretrained(golden(name)), tokens));
}

TEST(HuggingFace, NamesMayLackTheRootOrStandDeeper) {
  const auto rename = [](const std::string& from, const std::string& to) {
    return [=](NamedTensors& tensors) {
      for (auto& [name, t] : tensors)
        if (name.starts_with(from)) name = to + name.substr(from.size());
    };
  };
  EXPECT_EQ(difference_after("gpt2", rename("transformer.", "")), 0);
  EXPECT_EQ(difference_after("llama", rename("model.", "")), 0);
  EXPECT_EQ(difference_after("gemma3", rename("model.", "language_model.model.")), 0);
  EXPECT_EQ(difference_after("gemma3", rename("model.", "model.language_model.")), 0);
}

TEST(HuggingFace, ATextModelInsideOneWithImages) {
  const Json inner = parse_json(read_file(golden("gemma3") + "/config.json"));
  const ModelCopy copy("gemma3");
  testing::write(copy / "config.json", json_text(Json{{"model_type", "gemma3"},
                                                      {"text_config", inner},
                                                      {"eos_token_id", {1, 106}}}));
  copy.change([](NamedTensors& tensors) {
    for (auto& [name, t] : tensors) name = "language_model." + name;
    tensors.emplace_back("vision_tower.patch.weight", Tensor::zeros({3, 3}, DType::f32));
    tensors.emplace_back("multi_modal_projector.weight", Tensor::zeros({3}, DType::f32));
  });
  const LoadedModel loaded = load_pretrained(copy.path());
  const Tensor tokens = expected("gemma3").at("tokens");
  EXPECT_EQ(largest_difference(logits_of(loaded, tokens),
                               logits_of(load_pretrained(golden("gemma3")), tokens)),
            0);
  EXPECT_EQ(loaded.ends, (std::vector<int32_t>{1, 106}));
}

TEST(HuggingFace, KnownBuffersAndATiedHeadAreIgnored) {
  EXPECT_EQ(difference_after("gpt2",
                             [](NamedTensors& tensors) {
                               const Tensor mask = Tensor::zeros({1, 1, 48, 48}, DType::f32);
                               tensors.emplace_back("transformer.h.0.attn.bias", mask);
                               tensors.emplace_back("transformer.h.0.attn.masked_bias",
                                                    Tensor::zeros({1}, DType::f32));
                               tensors.emplace_back("lm_head.weight", tensors[0].second);
                             }),
            0);
  EXPECT_EQ(difference_after(
                "qwen3",
                [](NamedTensors& tensors) {
                  tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq",
                                       Tensor::zeros({3}, DType::f32));
                  tensors.emplace_back("lm_head.weight", Tensor::zeros({61, 16}, DType::f32));
                }),
            0);
}

// Half precision is exact in f32, so that its file gives the logits of an f32 file that holds the
// rounded values: to the bit.
TEST(HuggingFace, HalfPrecisionFilesAreRead) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    const ModelCopy half("gemma2"), rounded("gemma2");
    half.change([&](NamedTensors& tensors) {
      for (auto& [name, t] : tensors) t = t.to(dtype);
    });
    rounded.change([&](NamedTensors& tensors) {
      for (auto& [name, t] : tensors) t = t.to(dtype).to(DType::f32);
    });
    const Tensor tokens = expected("gemma2").at("tokens");
    const auto logits = [&](const std::string& path) {
      return logits_of(load_pretrained(path), tokens);
    };
    EXPECT_EQ(largest_difference(logits(half.path()), logits(rounded.path())), 0) << name_of(dtype);
    EXPECT_GT(largest_difference(logits(half.path()), logits(golden("gemma2"))), 0)
        << "nothing was rounded";
  }
}

// The words of transformers 4 for the same model.
TEST(HuggingFace, OlderConfigsMeanTheSame) {
  const auto nothing = [](NamedTensors&) {};
  EXPECT_EQ(difference_after("llama3", nothing,
                             {{"rope_parameters", nullptr},
                              {"rope_theta", 100},
                              {"rope_scaling",
                               {{"rope_type", "llama3"},
                                {"factor", 8},
                                {"low_freq_factor", 1},
                                {"high_freq_factor", 4},
                                {"original_max_position_embeddings", 32}}}}),
            0);
  EXPECT_EQ(difference_after("gemma3", nothing,
                             {{"rope_parameters", nullptr},
                              {"layer_types", nullptr},
                              {"_sliding_window_pattern", nullptr},
                              {"sliding_window_pattern", 3},
                              {"rope_theta", 200},
                              {"rope_local_base_freq", 10},
                              {"rope_scaling", {{"type", "linear"}, {"factor", 4}}}}),
            0);
  EXPECT_EQ(difference_after("gemma2", nothing, {{"layer_types", nullptr}}), 0);
  for (const char* windows : {"qwen2_windows", "qwen3_windows"}) {
    EXPECT_EQ(difference_after(windows, nothing, {{"layer_types", nullptr}}), 0) << windows;
    EXPECT_GT(difference_after(windows, nothing, {{"sliding_window", 64}}), 0.001) << windows;
    EXPECT_GT(difference_after(windows, nothing,
                               {{"use_sliding_window", false}, {"layer_types", nullptr}}),
              0.001)
        << windows;
    EXPECT_GT(
        difference_after(windows, nothing, {{"layer_types", nullptr}, {"max_window_layers", 3}}),
        0.001)
        << windows;
  }
  EXPECT_GT(difference_after("mistral", nothing, {{"sliding_window", nullptr}}), 0.001);
  // And the words have an effect.
  EXPECT_GT(difference_after("gemma2", nothing, {{"final_logit_softcapping", nullptr}}), 0.01);
  EXPECT_GT(difference_after("gemma2", nothing, {{"attn_logit_softcapping", nullptr}}), 0.001);
  EXPECT_GT(difference_after("gemma2", nothing, {{"sliding_window", 64}}), 0.001);
  EXPECT_GT(difference_after("gemma2", nothing, {{"query_pre_attn_scalar", 16}}), 0.001);
  EXPECT_GT(difference_after("llama3", nothing, {{"rope_parameters", {{"factor", 2}}}}), 0.001);
}

TEST(HuggingFace, GenerationConfigSaysWhatEndsAText) {
  const ModelCopy copy("llama");
  const auto ends = [&] { return load_pretrained(copy.path()).ends; };
  copy.patch({{"eos_token_id", {2, 5}}});
  EXPECT_EQ(ends(), (std::vector<int32_t>{2, 5}));
  testing::write(copy / "generation_config.json", R"({"temperature": 0.6})");
  EXPECT_EQ(ends(), (std::vector<int32_t>{2, 5}));
  testing::write(copy / "generation_config.json", R"({"eos_token_id": [7, 3]})");
  EXPECT_EQ(ends(), (std::vector<int32_t>{7, 3}));
  testing::write(copy / "generation_config.json", R"({"eos_token_id": 4})");
  EXPECT_EQ(ends(), (std::vector<int32_t>{4}));
  testing::write(copy / "generation_config.json", R"({"eos_token_id": "</s>"})");
  EXPECT_THAT(refusal(copy.path()), HasSubstr("\"eos_token_id\" is \"</s>\""));
  // A run that goes on from it knows them too.
  testing::write(copy / "generation_config.json", R"({"eos_token_id": [7, 3]})");
  Generator random;
  for (const Json& json : {Json{{"type", "pretrained"}, {"path", copy.path()}},
                           Json{{"type", "coconut"}, {"base", copy.path()}}}) {
    const Component component =
        resolve_component(ModelRegistry::instance(), Config(json, "$", "test"));
    EXPECT_EQ(ModelRegistry::instance().make(component, Build{random})->ends_of_text(),
              (std::vector<int32_t>{7, 3}))
        << json;
  }
}

// Old GPT-2 files hold their causal masks, of bytes or truth values.
TEST(HuggingFace, MasksOfAnyTypeArePassedOver) {
  for (const char* type : {"BOOL", "I8", "F8_E4M3"}) {
    ModelCopy masked("gpt2");
    masked.change([](NamedTensors& tensors) {
      tensors.emplace_back("transformer.h.0.attn.bias", Tensor::zeros({1, 1, 6, 6}, DType::u8));
    });
    std::string bytes = read_file(masked / "model.safetensors");
    const size_t at = bytes.find("\"U8\"");
    ASSERT_NE(at, std::string::npos);
    std::string header = bytes.substr(8, *reinterpret_cast<const uint64_t*>(bytes.data()));
    const std::string data = bytes.substr(8 + header.size());
    header.replace(at - 8, 4, "\"" + std::string(type) + "\"");
    const uint64_t length = header.size();
    testing::write(masked / "model.safetensors",
                   std::string(reinterpret_cast<const char*>(&length), 8) + header + data);
    const Tensor tokens = expected("gpt2").at("tokens");
    EXPECT_EQ(largest_difference(logits_of(load_pretrained(masked.path()), tokens),
                                 logits_of(load_pretrained(golden("gpt2")), tokens)),
              0)
        << type;
  }
}

TEST(HuggingFace, AnotherBlockSize) {
  for (const char* name : {"gpt2", "gemma3"}) {
    const Tensor tokens = expected(name).at("tokens");
    PretrainedOptions shorter = options(DType::f32);
    shorter.block_size = 24;
    const LoadedModel loaded = load_pretrained(golden(name), shorter);
    EXPECT_EQ(loaded.model->block_size(), 24);
    EXPECT_EQ(largest_difference(logits_of(loaded, tokens),
                                 logits_of(load_pretrained(golden(name)), tokens)),
              0);
    shorter.block_size = 1000;
    if (std::string(name) == "gpt2")
      EXPECT_THAT(refusal(golden(name), shorter), HasSubstr("learned positions end at 48"));
    else
      EXPECT_EQ(load_pretrained(golden(name), shorter).model->block_size(), 1000);
  }
}

}  // namespace
}  // namespace reverie
