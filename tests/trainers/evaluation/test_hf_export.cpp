// What is exported is read back as the same model.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/safetensors.h"
#include "layers/pretrained/load.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"
#include "trainers/evaluation/hf_export.h"

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
  export_hf(*model, model_component(GetParam().json), directory.path());
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

TEST(HfExport, RefusesWhatTransformersLacks) {
  const TemporaryDirectory directory;
  const auto message = [&](const std::string& json) -> std::string {
    try {
      export_hf(*make_model(json), model_component(json), directory.path());
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
