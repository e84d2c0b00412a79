// Model directories that are damaged, or ask for what is not built: one clear error each.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/json.h"
#include "pretrained_support.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using testing::golden;
using ::testing::HasSubstr;
using testing::ModelCopy;
using ::testing::Not;
using testing::refusal;
using testing::TemporaryDirectory;

TEST(Refusals, OneErrorListsEveryTensorThatDoesNotFit) {
  const ModelCopy copy("llama");
  copy.change([](NamedTensors& tensors) {
    for (auto& [name, t] : tensors) {
      if (name == "model.norm.weight") name = "model.final.weight";
      if (name == "model.layers.0.mlp.up_proj.weight") t = t.transpose(0, 1).contiguous();
      if (name == "lm_head.weight") t = Tensor::zeros({61, 15}, DType::f32);
      if (name == "model.layers.1.self_attn.v_proj.weight") name = "model.layers.1.v.weight";
    }
  });
  EXPECT_THAT(
      refusal(copy.path()),
      AllOf(HasSubstr(copy.path()), HasSubstr("missing: model.norm.weight"),
            HasSubstr("missing: model.layers.1.self_attn.v_proj.weight"),
            HasSubstr("transposed: model.layers.0.mlp.up_proj.weight is [16, 24], the model wants "
                      "[24, 16]"),
            HasSubstr("wrong shape: lm_head.weight is [61, 15], the model wants [61, 16]"),
            HasSubstr("unexpected: model.final.weight f32[16]"),
            HasSubstr("unexpected: model.layers.1.v.weight f32[12, 16]")));
  EXPECT_THROW(load_pretrained(copy.path()), DataError);
}

TEST(Refusals, AnUntiedModelWantsItsHead) {
  const ModelCopy copy("llama3");
  copy.patch({{"tie_word_embeddings", false}});
  EXPECT_THAT(refusal(copy.path()), HasSubstr("missing: lm_head.weight"));
}

TEST(Refusals, DamagedFiles) {
  const auto truncated = [](const std::string& file, size_t bytes) {
    testing::write(file, read_file(file).substr(0, bytes));
  };
  {
    const ModelCopy copy("llama");
    truncated(copy / "model.safetensors", 20000);
    EXPECT_THROW(load_pretrained(copy.path()), DataError);
    EXPECT_THAT(refusal(copy.path()), HasSubstr("model.safetensors"));
  }
  const std::string second = "model-00002-of-00005.safetensors";
  {
    const ModelCopy copy("qwen2");
    truncated(copy / second, 3000);
    EXPECT_THROW(load_pretrained(copy.path()), DataError);
    EXPECT_THAT(refusal(copy.path()), HasSubstr(second));
  }
  {
    const ModelCopy copy("qwen2");
    std::filesystem::remove(copy / second);
    EXPECT_THROW(load_pretrained(copy.path()), DataError);
    EXPECT_THAT(refusal(copy.path()), AllOf(HasSubstr("missing"), HasSubstr(second)));
  }
  {
    const ModelCopy copy("qwen2");
    std::filesystem::copy(copy / "model-00001-of-00005.safetensors", copy / second,
                          std::filesystem::copy_options::overwrite_existing);
    EXPECT_THROW(load_pretrained(copy.path()), DataError);
  }
  for (const char* text : {"", "{", "[]", R"({"model_type":7})", "{}"}) {
    const ModelCopy copy("llama");
    testing::write(copy / "config.json", text);
    EXPECT_THROW(load_pretrained(copy.path()), DataError) << text;
    EXPECT_THAT(refusal(copy.path()), HasSubstr("config.json")) << text;
  }
}

TEST(Refusals, AnIndexThatLies) {
  const auto with_index = [](const Json& map) {
    const ModelCopy copy("qwen2");
    Json index = parse_json(read_file(copy / "model.safetensors.index.json"));
    index.merge_patch(map);
    testing::write(copy / "model.safetensors.index.json", json_text(index));
    EXPECT_THROW(load_pretrained(copy.path()), DataError);
    return refusal(copy.path());
  };
  const char* name = "model.norm.weight";
  EXPECT_THAT(with_index({{"weight_map", nullptr}}), HasSubstr("no object \"weight_map\""));
  EXPECT_THAT(with_index({{"weight_map", 3}}), HasSubstr("no object \"weight_map\""));
  for (const Json& shard : {Json("../secret.safetensors"), Json("/etc/passwd"), Json(".."), Json(3),
                            Json("a/b.safetensors"), Json("")})
    EXPECT_THAT(with_index({{"weight_map", {{name, shard}}}}),
                AllOf(HasSubstr(name), HasSubstr("beside the index")))
        << shard;
  EXPECT_THAT(with_index({{"weight_map", {{"absent", "model-00001-of-00005.safetensors"}}}}),
              HasSubstr("absent in model-00001-of-00005.safetensors"));
}

struct Unsupported {
  const char* base;
  const char* patch;
  const char* said;  // the key and why
};

TEST(Refusals, FeaturesThatAreNotBuiltAreNamed) {
  const Unsupported cases[] = {
      {"llama", R"({"model_type":"mamba"})", "\"model_type\" is \"mamba\": known are gemma2, "},
      {"llama", R"({"model_type":null})", "\"model_type\" is not given: wanted a string"},
      {"llama", R"({"rope_parameters":{"rope_type":"yarn"}})",
       "\"rope_parameters.rope_type\" is \"yarn\""},
      {"llama", R"({"rope_parameters":null,"rope_scaling":{"type":"dynamic","factor":2}})",
       "\"rope_scaling.type\" is \"dynamic\""},
      {"llama", R"({"rope_parameters":{"rope_type":"linear"}})",
       "\"rope_parameters.factor\" is not given: wanted a number"},
      {"llama", R"({"rope_parameters":{"partial_rotary_factor":0.5}})",
       "\"rope_parameters.partial_rotary_factor\" is 0.5"},
      {"llama", R"({"attention_bias":true})", "\"attention_bias\" is true"},
      {"llama", R"({"mlp_bias":true})", "\"mlp_bias\" is true"},
      {"llama", R"({"hidden_act":"relu2"})", "\"hidden_act\" is \"relu2\""},
      {"llama", R"({"hidden_size":null})", "\"hidden_size\" is"},
      {"llama", R"({"hidden_size":"16"})", "\"hidden_size\" is \"16\": wanted an integer"},
      {"llama", R"({"num_hidden_layers":1.5})", "\"num_hidden_layers\" is 1.5"},
      {"llama", R"({"num_attention_heads":0})", "\"num_attention_heads\" is 0"},
      {"llama", R"({"quantization_config":{"bits":4}})", "\"quantization_config\" is"},
      {"llama", R"({"layer_types":["full_attention","sliding_attention"]})", "\"layer_types\" is"},
      {"llama", R"({"use_sliding_window":true})", "\"use_sliding_window\" is true"},
      {"qwen2", R"({"layer_types":["full_attention","sliding_attention"]})", "\"layer_types\" is"},
      {"qwen2_windows", R"({"sliding_window":0})", "\"sliding_window\" is 0"},
      {"qwen2_windows", R"({"layer_types":["full_attention"]})", "wanted one for each of 3 layers"},
      {"qwen3_windows",
       R"({"layer_types":["full_attention","sliding_attention","full_attention"]})",
       "layer 2 is \"full_attention\" behind the first with a window"},
      {"mistral", R"({"sliding_window":-1})", "\"sliding_window\" is -1"},
      {"mistral", R"({"layer_types":["full_attention","full_attention"]})", "\"layer_types\" is"},
      {"qwen3", R"({"rope_parameters":{"rope_type":"linear","factor":2}})",
       "rope scaling is not supported for qwen3"},
      {"gemma2", R"({"hidden_activation":"silu"})", "\"hidden_activation\" is \"silu\""},
      {"gemma2", R"({"use_bidirectional_attention":true})", "attention is causal"},
      {"gemma3", R"({"attn_logit_softcapping":50})", "\"attn_logit_softcapping\" is 50"},
      {"gemma3",
       R"({"layer_types":["full_attention","sliding_attention","full_attention","full_attention"]})",
       "layer 1 breaks the only supported pattern"},
      {"gemma3", R"({"layer_types":["full_attention"]})", "wanted one for each of 4 layers"},
      {"gpt2", R"({"tie_word_embeddings":false})", "\"tie_word_embeddings\" is false"},
      {"gpt2", R"({"activation_function":"relu"})", "\"activation_function\" is \"relu\""},
      {"gpt2", R"({"scale_attn_by_inverse_layer_idx":true})",
       "\"scale_attn_by_inverse_layer_idx\" is true"},
  };
  for (const Unsupported& c : cases) {
    const ModelCopy copy(c.base);
    copy.patch(parse_json(c.patch));
    EXPECT_THROW(load_pretrained(copy.path()), DataError) << c.patch;
    EXPECT_THAT(refusal(copy.path()), AllOf(HasSubstr("config.json"), HasSubstr(c.said)))
        << c.patch;
  }
}

// What no memory holds is refused before it is asked for; so are sizes that fit nothing.
TEST(Refusals, HostileSizes) {
  for (const char* patch :
       {R"({"hidden_size":1048576,"num_hidden_layers":1000})", R"({"vocab_size":2000000000})",
        R"({"intermediate_size":1000000000000})", R"({"num_hidden_layers":1000000})",
        R"({"num_hidden_layers":0})", R"({"hidden_size":-16})", R"({"vocab_size":-1})",
        R"({"num_key_value_heads":3})", R"({"num_key_value_heads":0})", R"({"head_dim":5})",
        R"({"head_dim":9223372036854775807})", R"({"hidden_size":18446744073709551615})",
        R"({"num_attention_heads":1024})", R"({"rms_norm_eps":-1})",
        R"({"max_position_embeddings":0})"}) {
    const ModelCopy copy("llama");
    copy.patch(parse_json(patch));
    EXPECT_THROW(load_pretrained(copy.path()), UserError) << patch;
    EXPECT_THAT(refusal(copy.path()), Not(HasSubstr("bug in reverie"))) << patch;
  }
}

TEST(Refusals, PathsThatAreNoModel) {
  const TemporaryDirectory directory;
  EXPECT_THAT(refusal(directory / "absent"), HasSubstr("no such file"));
  EXPECT_THAT(refusal(directory.path()), HasSubstr("no config.json"));
  testing::write(directory / "model.pt", "torch");
  EXPECT_THAT(refusal(directory / "model.pt"), HasSubstr("wanted a Hugging Face directory"));
  testing::write(directory / "model.gguf", "no");
  EXPECT_THROW(load_pretrained(directory / "model.gguf"), DataError);
  const ModelCopy copy("llama");
  std::filesystem::rename(copy / "model.safetensors", copy / "pytorch_model.bin");
  EXPECT_THAT(refusal(copy.path()), HasSubstr("save the model again with safetensors"));
}

}  // namespace
}  // namespace reverie
