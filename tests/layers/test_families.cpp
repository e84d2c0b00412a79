// What every registered family must have and do, without anybody listing it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "layers/pretrained/gguf_model_writer.h"
#include "pretrained_support.h"
#include "support/golden_models.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::expected;
using testing::golden;
using testing::golden_models_of;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::logits_of;
using testing::refusal;
using testing::TemporaryDirectory;

class EveryFamily : public ::testing::TestWithParam<std::string> {
 protected:
  const Family& family() const { return *family_of_type(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Registered, EveryFamily, ::testing::ValuesIn(testing::family_types()),
                         [](const auto& info) { return info.param; });

// Logits, gradients, greedy tokens (test_pretrained.cpp) and the export (test_hugging_face.cpp) are
// compared with every golden case.
TEST_P(EveryFamily, HasAGoldenOfTransformers) {
  EXPECT_FALSE(golden_models_of(family()).empty())
      << "tests/golden/pretrained has no model of the family \"" << GetParam()
      << "\": add a case to tests/golden/make/make_hf_golden.py and run it";
}

// Gradients, decoding, the causality gate and exports are tested with each of these.
TEST_P(EveryFamily, IsAmongTheTinyModels) {
  std::set<std::string> types;
  for (const testing::NamedModel& m : testing::kTinyModels)
    types.insert(parse_json(m.json).at("type"));
  EXPECT_TRUE(types.contains(GetParam()))
      << "add a model of the family \"" << GetParam() << "\" to tests/support/tiny_models.h";
}

// Writes a golden model, with more keys, as GGUF. The message of what refuses it, or "".
std::string write_golden(
    const std::string& name, const std::string& file,
    const std::function<void(GgufWriter&)>& more = [](GgufWriter&) {}) {
  const LoadedModel loaded = load_pretrained(golden(name));
  const PlainModel plain = plain_model(*loaded.model, loaded.component);
  GgufWriter out;
  try {
    write_gguf_model(out, plain, GgufTensorType::f32);
  } catch (const UserError& e) {
    return e.what();
  }
  out.text("tokenizer.ggml.model", "no_vocab");
  more(out);
  out.save(file);
  return "";
}

TEST_P(EveryFamily, LeavesAsGgufAndGivesTransformersLogits) {
  int written = 0;
  std::string refusals;
  for (const std::string& name : golden_models_of(family())) {
    const TemporaryDirectory directory;
    if (const std::string why = write_golden(name, directory / "model.gguf"); !why.empty()) {
      refusals += "\n  " + name + ": " + why;
      continue;
    }
    const SafetensorsFile want = expected(name);
    const LoadedModel again = load_pretrained(directory / "model.gguf");
    EXPECT_LT(largest_difference(logits_of(again, want.at("tokens")), want.at("logits")), 1e-4)
        << name;
    ++written;
  }
  EXPECT_GE(written, 1) << "no golden model of the family \"" << GetParam()
                        << "\" can be written as GGUF; add a case with its published options to "
                           "tests/golden/make/make_hf_golden.py:"
                        << refusals;
}

TEST_P(EveryFamily, RefusesKeysOfGgufFilesThatItDoesNotRead) {
  const std::string unknown = family().names().architecture + ".attention.new_trick";
  for (const std::string& name : golden_models_of(family())) {
    const TemporaryDirectory directory;
    const auto add = [&](GgufWriter& out) { out.number(unknown, 2); };
    if (!write_golden(name, directory / "model.gguf", add).empty()) continue;
    EXPECT_THAT(refusal(directory / "model.gguf"), HasSubstr(unknown + " is 2")) << name;
  }
}

TEST(Families, EveryNameBelongsToOne) {
  std::set<std::string> model_types, architectures;
  for (const Family* f : families()) {
    ASSERT_FALSE(f->names().model_types.empty()) << f->names().type;
    for (const std::string& m : f->names().model_types) {
      EXPECT_TRUE(model_types.insert(m).second) << m;
      EXPECT_EQ(family_of_model_type(m), f);
    }
    const std::string& architecture = f->names().architecture;
    const Family* reader = family_of_architecture(architecture);
    ASSERT_NE(reader, nullptr) << "nobody reads GGUF files of " << architecture;
    if (f->reads_gguf()) {
      EXPECT_TRUE(architectures.insert(architecture).second) << architecture;
    }
    EXPECT_EQ(reader == f, f->reads_gguf());
  }
  EXPECT_EQ(family_of_type("mamba"), nullptr);
  EXPECT_EQ(family_of_model_type("mamba"), nullptr);
  EXPECT_EQ(family_of_architecture("mamba"), nullptr);
}

// The checks above can fail.
TEST(Families, WhatWasForgottenIsSeen) {
  class Forgotten final : public Family {
   public:
    Forgotten() : Family({"forgotten", {"forgotten"}, "ForgottenForCausalLM", "forgotten"}) {}
    Json from_hugging_face(const HuggingFaceConfig&) const override { return {}; }
    Json to_hugging_face(const Json&, const TransformerShape&) const override { return {}; }
    Json from_gguf(GgufKeys&) const override { return {}; }
    void to_gguf(GgufKeyWriter&, const Json&, const TransformerShape&) const override {}
  };
  EXPECT_TRUE(golden_models_of(Forgotten()).empty());
  EXPECT_EQ(golden_models_of(*family_of_type("llama")),
            (std::vector<std::string>{"llama", "llama3"}));
}

}  // namespace
}  // namespace reverie
