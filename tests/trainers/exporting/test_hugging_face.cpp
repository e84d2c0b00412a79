// What is exported is what transformers writes of the same model, and is read back as that.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/gguf.h"
#include "core/safetensors.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "layers/families/family.h"
#include "layers/pretrained/load.h"
#include "support/golden_models.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"
#include "trainers/exporting/gguf.h"
#include "trainers/exporting/hugging_face.h"
#include "trainers/runs/exported_verdict.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/stored_run.h"
#include "trainers/runs/trained_state.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::kTinyModels;
using testing::largest_difference;
using testing::make_model;
using testing::model_component;
using testing::NamedModel;
using testing::random_tokens;
using testing::TemporaryDirectory;

class HfExport : public ::testing::TestWithParam<NamedModel> {};

TEST_P(HfExport, IsReadBackAsTheSameModel) {
  const TemporaryDirectory directory;
  const auto model = make_model(GetParam().json, DType::f32);
  export_hugging_face(*model, model_component(GetParam().json), nullptr, directory.path());
  const LoadedModel loaded = load_pretrained(directory.path());
  NoGrad guard;
  const Tensor tokens = random_tokens(2, 19, 13);
  EXPECT_LT(
      largest_difference(loaded.model->logits(tokens).tensor(), model->logits(tokens).tensor()),
      1e-5);
  const SafetensorsFile said = read_safetensors(directory / "reverie_logits.safetensors");
  EXPECT_LT(largest_difference(loaded.model->logits(said.at("tokens")).tensor(), said.at("logits")),
            1e-5);
}

std::vector<NamedModel> without_memory() {
  std::vector<NamedModel> models;
  for (const NamedModel& m : kTinyModels) {
    if (std::string(m.json).find("memory") == std::string::npos) models.push_back(m);
  }
  return models;
}
INSTANTIATE_TEST_SUITE_P(All, HfExport, ::testing::ValuesIn(without_memory()),
                         [](const auto& info) { return std::string(info.param.name); });

// ---- beside what transformers' save_pretrained wrote ------------------------------------------

std::string golden(const std::string& name) {
  return testing::test_directory() + "/golden/pretrained/" + name;
}
Json json_of(const std::string& file) {
  return Json::parse(read_file(file));
}

class BesideTransformers : public ::testing::TestWithParam<std::string> {
 protected:
  // In f64, so that reading and writing Gemma's norms is exact.
  BesideTransformers()
      : loaded_(load_pretrained(golden(GetParam()), {.dtype = DType::f64, .block_size = {}})) {
    export_hugging_face(*loaded_.model, loaded_.component, nullptr, directory_.path());
  }
  TemporaryDirectory directory_;
  LoadedModel loaded_;
};

TEST_P(BesideTransformers, EveryTensorIsTheSame) {
  const SafetensorsFile ours = read_safetensors(directory_ / "model.safetensors");
  size_t theirs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden(GetParam()))) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("model") || !name.ends_with(".safetensors")) continue;
    for (const auto& [tensor, value] : read_safetensors(entry.path()).tensors) {
      ++theirs;
      const Tensor* written = ours.find(tensor);
      ASSERT_NE(written, nullptr) << tensor;
      EXPECT_TRUE(bit_identical(*written, value)) << tensor;
    }
  }
  EXPECT_EQ(ours.tensors.size(), theirs);
}

TEST_P(BesideTransformers, EveryKeyThatChangesAResultIsTheSame) {
  const Json ours = json_of(directory_ / "config.json"),
             theirs = json_of(golden(GetParam()) + "/config.json");
  // Keys about training, other tasks, or the file itself.
  const std::vector<std::string> about = {
      "transformers_version",
      "initializer_range",
      "resid_pdrop",
      "embd_pdrop",
      "attn_pdrop",
      "summary_activation",
      "summary_first_dropout",
      "summary_proj_to_labels",
      "summary_type",
      "summary_use_proj",
      "_sliding_window_pattern",  // read where there are no layer_types
      "max_window_layers"};       // of windows that are not used
  for (const auto& [key, value] : theirs.items()) {
    if (std::find(about.begin(), about.end(), key) != about.end()) continue;
    ASSERT_TRUE(ours.contains(key)) << key;
    if (key == "bos_token_id" || key == "eos_token_id")
      EXPECT_TRUE(ours.at(key).is_null()) << key;  // exported without a tokenizer
    else if (key == "n_inner" && value.is_null())
      EXPECT_EQ(ours.at(key), 4 * theirs.at("n_embd").get<int64_t>());
    else if (key == "use_bidirectional_attention")
      EXPECT_EQ(ours.at(key), false);
    else
      EXPECT_EQ(nlohmann::json::parse(ours.at(key).dump()), nlohmann::json::parse(value.dump()))
          << key;
  }
  const Json generation = json_of(directory_ / "generation_config.json");
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    EXPECT_TRUE(generation.at(key).is_null()) << key;
}

TEST_P(BesideTransformers, TheLogitsAreTransformers) {
  const SafetensorsFile wanted = read_safetensors(golden(GetParam()) + "/expected.safetensors");
  NoGrad guard;
  const LoadedModel again = load_pretrained(directory_.path());
  EXPECT_LT(
      largest_difference(again.model->logits(wanted.at("tokens")).tensor(), wanted.at("logits")),
      1e-4);
}
INSTANTIATE_TEST_SUITE_P(All, BesideTransformers, ::testing::ValuesIn(testing::golden_models()),
                         [](const auto& info) { return info.param; });

// transformers 4 reads these words, 5 "rope_parameters".
TEST(HfExport, RotaryAnglesAreSaidInBothWords) {
  const auto config = [](const char* name) {
    const LoadedModel loaded = load_pretrained(golden(name));
    const TemporaryDirectory directory;
    export_hugging_face(*loaded.model, loaded.component, nullptr, directory.path());
    return json_of(directory / "config.json");
  };
  const Json llama3 = config("llama3"), gemma3 = config("gemma3"), qwen3 = config("qwen3");
  EXPECT_EQ(llama3.at("rope_theta"), 100.0);
  EXPECT_EQ(llama3.at("rope_scaling"), Json({{"rope_type", "llama3"},
                                             {"factor", 8.0},
                                             {"low_freq_factor", 1.0},
                                             {"high_freq_factor", 4.0},
                                             {"original_max_position_embeddings", 32}}));
  EXPECT_EQ(gemma3.at("rope_theta"), 200.0);
  EXPECT_EQ(gemma3.at("rope_local_base_freq"), 10.0);
  EXPECT_EQ(gemma3.at("rope_scaling"), Json({{"rope_type", "linear"}, {"factor", 4.0}}));
  EXPECT_TRUE(qwen3.at("rope_scaling").is_null());
}

// ---- whatever a run is
// ---------------------------------------------------------------------------

TEST(HfExport, TextEndsWhereTheTokenizerSaysAndNowhereElse) {
  const std::string json = R"({"type":"llama","vocab_size":3,"block_size":8,"n_layer":1,"n_head":1,
                               "n_embd":8})";
  const TemporaryDirectory directory;
  const CharTokenizer tokenizer({'a', 'b', 'c'});
  export_hugging_face(*make_model(json), model_component(json), &tokenizer, directory.path());
  for (const char* file : {"config.json", "generation_config.json"})
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      const Json config = json_of(directory / file);
      ASSERT_TRUE(config.contains(key)) << file << " " << key;
      EXPECT_TRUE(config.at(key).is_null()) << file << " " << key;
    }
  EXPECT_EQ(json_of(directory / "reverie_texts.json").at("texts").size(), 2000u);
  EXPECT_EQ(load_tokenizer_for(directory.path())->hash(), tokenizer.hash());
  // An earlier export is replaced, another directory is not touched.
  export_hugging_face(*make_model(json), model_component(json), &tokenizer, directory.path());
  const TemporaryDirectory other;
  write_file_atomically(other / "model.safetensors.index.json", "{}");
  EXPECT_THROW(
      export_hugging_face(*make_model(json), model_component(json), &tokenizer, other.path()),
      UserError);
  EXPECT_EQ(other.entries(), 1u);
  // A tokenizer of another model.
  const CharTokenizer larger({'a', 'b', 'c', 'd'});
  EXPECT_THROW(
      export_hugging_face(*make_model(json), model_component(json), &larger, directory / "new"),
      UserError);
  EXPECT_FALSE(std::filesystem::exists(directory / "new"));
}

// transformers 5 brings Qwen2's own rules to every tokenizer of a qwen2, whatever the files say.
TEST(HfExport, AVocabularyThatTransformersWouldReadByOtherRulesIsRefused) {
  const TemporaryDirectory directory;
  const std::string qwen2 = R"({"type": "qwen2", "vocab_size": 3, "block_size": 8, "n_layer": 1,
                                "n_head": 1, "n_embd": 8})";
  const CharTokenizer characters({'a', 'b', 'c'});
  EXPECT_THAT(testing::message_of<UserError>([&] {
                export_hugging_face(*make_model(qwen2), model_component(qwen2), &characters,
                                    directory / "new");
              }),
              HasSubstr("Qwen2's"));
  EXPECT_FALSE(std::filesystem::exists(directory / "new"));
  const Json own = parse_json(
      R"({"normalizer": {"type": "NFC"}, "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE"},
          "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "behavior": "Isolated", "invert": false, "pattern": {"Regex":
             "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}})");
  const Family& family = *family_of_type("qwen2");
  EXPECT_EQ(family.tokenizer_conflict(own), "");
  Json other = own;
  other["normalizer"] = nullptr;
  EXPECT_NE(family.tokenizer_conflict(other), "");
  other = own;
  other["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\\\s+";
  EXPECT_NE(family.tokenizer_conflict(other), "");
  EXPECT_EQ(family_of_type("qwen3")->tokenizer_conflict(other), "");
}

TEST(HfExport, ModelsAroundAPlainOneAreWrittenAsThat) {
  for (const char* type : {"pretrained", "coconut"}) {
    const std::string json =
        Json({{"type", type}, {type == std::string("coconut") ? "base" : "path", golden("qwen2")}})
            .dump();
    Generator random(1);
    const Component component = model_component(json);
    const auto model = ModelRegistry::instance().make(component, Build{random, DType::f32});
    const TemporaryDirectory directory;
    export_hugging_face(*model, component, nullptr, directory.path());
    EXPECT_EQ(json_of(directory / "config.json").at("model_type"), "qwen2");
    const SafetensorsFile ours = read_safetensors(directory / "model.safetensors");
    for (const auto& [name, tensor] : load_pretrained(golden("qwen2")).model->state())
      EXPECT_TRUE(bit_identical(ours.at(name), tensor)) << name;
  }
}

// alpha / rank B A, from the run's own options.
TEST(HfExport, LowRankUpdatesLeaveInsideTheWeights) {
  const Component component = model_component(
      Json({{"type", "pretrained"}, {"path", golden("llama")}, {"rank", 2}, {"alpha", 6}}).dump());
  Generator random(1);
  const auto model = ModelRegistry::instance().make(component, Build{random, DType::f32});
  for (auto& [name, parameter] : model->parameters()) {
    Tensor value = parameter.tensor();
    if (name.ends_with("lora_b")) value.copy_from(random.normal(value.shape(), 0, 0.1, DType::f32));
  }
  const TemporaryDirectory directory;
  export_hugging_face(*model, component, nullptr, directory.path());
  const SafetensorsFile expected = read_safetensors(golden("llama") + "/expected.safetensors");
  const Tensor tokens = expected.at("tokens");
  NoGrad guard;
  model->train(false);
  const Tensor wanted = model->logits(tokens).tensor();
  EXPECT_LT(
      largest_difference(load_pretrained(directory.path()).model->logits(tokens).tensor(), wanted),
      1e-4);
  EXPECT_GT(largest_difference(expected.at("logits"), wanted), 0.01);
}

TEST(TrainedState, IsWhatWasTrainedAndSaysWhatItIs) {
  Verdict leaking;
  leaking.add({.probe = "a probe", .where = "here", .change = 1});
  const auto exported = [](const std::string& json, const std::string& directory,
                           const Verdict& verdict) {
    Generator random(1);
    const Component component = model_component(json);
    auto model = ModelRegistry::instance().make(component, Build{random, DType::f32});
    export_trained_state({*model, component, nullptr, verdict}, directory);
    return model;
  };
  const TemporaryDirectory directory;
  const std::string augmented = Json({{"type", "augmented"},
                                      {"base", golden("llama")},
                                      {"latents", {{"type", "soft_embeddings"}, {"count", 2}}},
                                      {"block_size", 16},
                                      {"ahead", 2}})
                                    .dump();
  const auto beside = exported(augmented, directory / "latents", Verdict());
  const Json config = json_of(directory / "latents/config.json");
  EXPECT_EQ(config.at("model_type"), "reverie_augmented");
  EXPECT_EQ(config.at("what"), "latents (soft_embeddings) beside a frozen base");
  EXPECT_EQ(config.at("base").at("weights_hash"),
            load_pretrained(golden("llama")).model->weights_hash());
  EXPECT_TRUE(config.at("label").is_null());
  const SafetensorsFile latents = read_safetensors(directory / "latents/state.safetensors");
  ASSERT_EQ(latents.tensors.size(), 1u);  // nothing of the base
  EXPECT_EQ(latents.tensors[0].first.find("latents."), 0u);
  EXPECT_EQ(latents.tensors[0].second.shape(), Shape({2, 16}));
  ASSERT_TRUE(is_trained_state(directory / "latents"));
  EXPECT_EQ(load_trained_state(directory / "latents").model->weights_hash(),
            beside->weights_hash());

  const auto with_memory =
      exported(R"({"type":"gpt2",)" REVERIE_TINY R"(,"memory":{"type":"imm"}})",
               directory / "memory", leaking);
  EXPECT_EQ(json_of(directory / "memory/config.json").at("label"), "LEAKS");
  const SafetensorsFile all = read_safetensors(directory / "memory/state.safetensors"),
                        memory = read_safetensors(directory / "memory/memory.safetensors");
  EXPECT_EQ(all.tensors.size(), with_memory->parameters().size());
  const LoadedState again = load_trained_state(directory / "memory");
  EXPECT_EQ(again.model->weights_hash(), with_memory->weights_hash());
  EXPECT_TRUE(again.verdict.leaks());
  EXPECT_GT(memory.tensors.size(), 0u);
  EXPECT_LT(memory.tensors.size(), all.tensors.size());
  for (const auto& [name, tensor] : memory.tensors) {
    EXPECT_THAT(name, HasSubstr(".memory."));
    EXPECT_TRUE(bit_identical(tensor, all.at(name)));
  }
}

TEST(ExportedVerdict, GoesWithTheModelAndToWhatStandsBesideIt) {
  Verdict verdict;
  verdict.add({.probe = "a probe", .where = "here", .change = 1, .allowed = 0, .step = 40});
  verdict.add_not_probed("decoding");
  verdict.set_shrunk(4);
  const TemporaryDirectory directory;
  const std::string json = R"({"type":"llama",)" REVERIE_TINY "}";
  const auto model = make_model(json, DType::f32);
  const Component component = model_component(json);
  export_hugging_face(*model, component, nullptr, directory / "hf", &verdict);
  export_gguf(*model, component, nullptr, GgufTensorType::f32, directory / "model.gguf", &verdict);
  EXPECT_EQ(json_of(directory / "hf/config.json").at("reverie").at("label"), "LEAKS, shrunk by 4");
  EXPECT_EQ(read_gguf(directory / "model.gguf").text("reverie.label"), "LEAKS, shrunk by 4");
  for (const std::string& path : {directory / "hf", directory / "model.gguf"}) {
    EXPECT_EQ(verdict_of_export(path).json(), verdict.json());
    EXPECT_EQ(load_pretrained(path).component.type, "llama");
    for (const char* key : {"base", "path"}) {
      Json beside = Json::object();
      beside[key] = path;
      EXPECT_THAT(verdict_of_base(beside).line(), HasSubstr("LEAKS: the base " + path));
    }
  }
}

// A table's runs stand on exports that lie in other runs.
TEST(ExportedVerdict, ALeakThatIsFoundAfterTheExportIsKnownBesideIt) {
  const TemporaryDirectory directory;
  const std::string run = directory / "run", json = R"({"type":"llama",)" REVERIE_TINY "}";
  std::filesystem::create_directory(run);
  write_file_atomically(file_in(run, kConfigFile), R"({"model": {"type": "llama"}})");
  export_hugging_face(*make_model(json, DType::f32), model_component(json), nullptr,
                      run + "/hugging_face");
  const Json beside = {{"base", run + "/hugging_face"}};
  EXPECT_FALSE(verdict_of_base(beside).leaks());
  Verdict verdict;
  verdict.add({.probe = "a probe", .where = "here", .change = 1, .allowed = 0, .step = 40});
  keep_leak(run, verdict);
  EXPECT_TRUE(verdict_of_base(beside).leaks());
}

TEST(ExportedVerdict, IsUnknownWhereOthersPublishedTheModelAndRefusedWhereItIsDamaged) {
  for (const std::string& path : {golden("llama"), std::string("nowhere"), std::string()})
    EXPECT_EQ(verdict_of_export(path).json(), Verdict().json());
  const TemporaryDirectory directory;
  write_file_atomically(directory / "config.json",
                        R"({"reverie": {"verdict": {"state": "causal"}}})");
  EXPECT_THAT(testing::message_of<DataError>([&] { verdict_of_export(directory.path()); }),
              HasSubstr(directory / "config.json"));
}

TEST(HfExport, RefusesWhatTransformersLacks) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& json) -> std::string {
    try {
      export_hugging_face(*make_model(json), model_component(json), nullptr, directory.path());
    } catch (const UserError& e) {
      return e.what();
    }
    return "exported";
  };
  EXPECT_THAT(message(R"({"type":"gpt2",)" REVERIE_TINY R"(,"memory":{"type":"imm"}})"),
              HasSubstr("memory module (imm)"));
  EXPECT_THAT(message(R"({"type":"qwen2",)" REVERIE_TINY R"(,"head_dim":6})"),
              HasSubstr("n_embd / n_head alone"));
}

}  // namespace
}  // namespace reverie
