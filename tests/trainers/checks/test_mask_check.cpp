// Packed groups against separate forwards, in f64, for every kind of base and source; and that a
// source which reads behind its limit is found out.

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "core/json.h"
#include "support/tests_directory.h"
#include "trainers/checks/mask_check.h"

namespace reverie {
namespace {

// Reads one row more than it may: the mistake that the check exists for.
struct NoOptions final : Fieldset {
  void fields(Fields&) override {}
};
class PeekingSource final : public LatentSource {
 public:
  PeekingSource(const NoOptions&, const LatentSite& site) {
    weight_ = parameter("weight", site.base.typical_rows(1, site.build.random));
  }
  int64_t count() const override { return 1; }
  bool asks_for_whole_text() const override { return true; }
  Variable latents(const TextView& view) override {
    const int64_t batch = view.batch(), groups = view.groups(), features = weight_.size(1);
    const Variable hidden = view.whole(*this).hidden;
    std::vector<Variable> rows;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t limit = int64_t(view.limits().select(0, b).select(0, g).item()),
                      row = std::min(limit, hidden.size(1) - 1);
        const Variable seen = slice(slice(hidden, 0, b, b + 1), 1, row, row + 1);
        rows.push_back(add(seen, reshape(weight_, {1, 1, features})));
      }
    return reshape(concat(rows, 1), {batch, groups, features});
  }
  double flops_per_group(int64_t) const override { return 0; }

 private:
  Variable weight_;
};
const bool registered = LatentRegistry::instance().add<PeekingSource, NoOptions>(
    "test_peeking", "for tests: it cheats");

// Has a parameter that its latents do not depend on.
class IdleSource final : public LatentSource {
 public:
  IdleSource(const NoOptions&, const LatentSite& site) {
    used_ = parameter("used", site.base.typical_rows(1, site.build.random));
    parameter("unused", site.base.typical_rows(1, site.build.random));
  }
  int64_t count() const override { return 1; }
  Variable latents(const TextView& view) override { return for_each_group(used_, view.limits()); }
  double flops_per_group(int64_t) const override { return 0; }

 private:
  Variable used_;
};
const bool idle_registered = LatentRegistry::instance().add<IdleSource, NoOptions>(
    "test_idle", "for tests: half of it is idle");

Tensor some_tokens(int64_t batch, int64_t time) {
  Tensor tokens = Tensor::empty({batch, time}, DType::i32);
  for (int64_t i = 0; i < tokens.numel(); ++i)
    tokens.mutable_data<int32_t>()[i] = int32_t((i * i * 7 + 3 * i + i / time) % 61);
  return tokens;
}

std::unique_ptr<LanguageModel> augmented(const std::string& base, const Json& latents,
                                         const Json& more = Json::object()) {
  Json config = {
      {"type", "augmented"}, {"base", testing::test_directory() + "/golden/pretrained/" + base},
      {"latents", latents},  {"block_size", 24},
      {"groups", 3},         {"ahead", 4}};
  config.update(more);
  Generator random(7);
  const ModelRegistry& models = ModelRegistry::instance();
  auto model =
      models.make(resolve_component(models, Config(config, "$.model")), Build{random, DType::f64});
  draw_zero_parameters(*model, random);
  return model;
}

// Limits of every kind: the first row alone, equal ones, the last possible.

AugmentedModel& as_augmented(LanguageModel& model) {
  return dynamic_cast<AugmentedModel&>(model);
}
// The first is the earliest that a delay allows.
Tensor limits_of(LanguageModel& model) {
  const auto first = int32_t(1 + as_augmented(model).options().delay);
  return Tensor::from<int32_t>({2, 3}, {first, 9, 21, 6, 6, 20});
}
MaskCheck check(LanguageModel& model) {
  return check_mask(as_augmented(model), some_tokens(2, 24), limits_of(model));
}

struct Case {
  const char* name;
  const char* base;
  const char* latents;
  const char* more;
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class PackedGroups : public ::testing::TestWithParam<Case> {};
TEST_P(PackedGroups, EqualSeparateForwards) {
  const Case& c = GetParam();
  const auto model = augmented(c.base, parse_json(c.latents), parse_json(c.more));
  const MaskCheck result = check(*model);
  EXPECT_TRUE(result.ok(1e-9)) << result.text();
  EXPECT_EQ(result.groups, 6);
  int64_t targets = 0;  // the last of the 24 tokens has no successor to predict
  for (const double limit : limits_of(*model).to_vector())
    targets += std::min(as_augmented(*model).options().ahead, 24 - int64_t(limit));
  EXPECT_EQ(result.targets, targets);
  EXPECT_GT(result.gradients.size(), 0u);
}
constexpr const char* kCoprocessor = R"({"type": "coprocessor", "count": 3})";
constexpr const char* kLora =
    R"({"type": "coprocessor", "count": 3, "initial": "lora", "rank": 2, "alpha": 4})";
constexpr const char* kCache = R"({"type": "coprocessor", "count": 3, "writes": "cache"})";
INSTANTIATE_TEST_SUITE_P(
    Kinds, PackedGroups,
    ::testing::Values(
        Case{"gpt2", "gpt2", kCoprocessor, "{}"}, Case{"llama", "llama", kCoprocessor, "{}"},
        Case{"qwen3", "qwen3", kCoprocessor, "{}"}, Case{"gemma2", "gemma2", kCoprocessor, "{}"},
        Case{"gemma3", "gemma3", kCoprocessor, "{}"},
        Case{"from_scratch", "llama",
             R"({"type": "coprocessor", "count": 2, "initial": "scratch"})", "{}"},
        Case{"lora", "llama", kLora, "{}"}, Case{"lora_gpt2", "gpt2", kLora, "{}"},
        Case{"lora_gemma3", "gemma3", kLora, "{}"},
        Case{"last_hidden", "llama",
             R"({"type": "coprocessor", "count": 3, "reads": "last_hidden"})", "{}"},
        Case{"gain", "llama", R"({"type": "coprocessor", "count": 3, "gain": "embeddings"})", "{}"},
        Case{"gain_zero", "gpt2", R"({"type": "coprocessor", "count": 3, "gain": "zero"})", "{}"},
        Case{"last_token", "llama", R"({"type": "coprocessor", "count": 3, "last": "token"})",
             "{}"},
        Case{"last_token_alone", "gpt2", R"({"type": "coprocessor", "count": 1, "last": "token"})",
             "{}"},
        Case{"last_token_late", "gemma3",
             R"({"type": "coprocessor", "count": 2, "last": "token", "gain": "zero"})",
             R"({"delay": 2})"},
        Case{"cache", "llama", kCache, "{}"}, Case{"cache_gpt2", "gpt2", kCache, "{}"},
        Case{"cache_qwen3", "qwen3", kCache, "{}"}, Case{"cache_gemma2", "gemma2", kCache, "{}"},
        Case{"cache_gemma3", "gemma3", kCache, "{}"},
        Case{"cache_late", "llama", kCache, R"({"delay": 2})"},
        Case{"cache_trained_base", "llama", kCache, R"({"train_base": true})"},
        Case{"cache_lora", "llama",
             R"({"type": "coprocessor", "count": 3, "writes": "cache", "initial": "lora",
                 "rank": 2})",
             "{}"},
        Case{"cache_last_hidden", "llama",
             R"({"type": "coprocessor", "count": 3, "writes": "cache", "reads": "last_hidden"})",
             "{}"},
        Case{"cache_one_ahead", "llama", kCache, R"({"ahead": 1})"},
        Case{"shallow", "gemma3", R"({"type": "coprocessor", "count": 3, "n_layer": 2})", "{}"},
        Case{"deep", "gemma3", R"({"type": "coprocessor", "count": 3, "n_layer": 6})", "{}"},
        Case{"shallow_lora", "gemma3",
             R"({"type": "coprocessor", "count": 3, "n_layer": 1, "initial": "lora", "rank": 2})",
             "{}"},
        Case{"narrow", "llama",
             R"({"type": "coprocessor", "count": 3, "initial": "scratch", "n_embd": 10,
                 "n_head": 2})",
             "{}"},
        Case{"wide_cache", "qwen3",
             R"({"type": "coprocessor", "count": 3, "initial": "scratch", "n_embd": 24,
                 "n_head": 6, "n_hidden": 20, "writes": "cache"})",
             "{}"},
        Case{"several", "llama",
             R"({"type": "several", "sources": [{"type": "coprocessor", "count": 2},
                 {"type": "coprocessor", "count": 1, "initial": "lora", "rank": 2},
                 {"type": "soft_embeddings", "count": 1}]})",
             "{}"},
        Case{"several_caches", "gpt2",
             R"({"type": "several", "sources": [
                 {"type": "coprocessor", "count": 2, "writes": "cache"},
                 {"type": "coprocessor", "count": 1, "writes": "cache", "initial": "scratch"}]})",
             "{}"},
        Case{"soft_embeddings", "gpt2", R"({"type": "soft_embeddings", "count": 3})", "{}"},
        Case{"gist", "llama", R"({"type": "gist", "count": 3})", R"({"train_base": true})"},
        Case{"gist_frozen", "gpt2", R"({"type": "gist", "count": 2})", "{}"},
        Case{"gist_windowed", "gemma3", R"({"type": "gist", "count": 3})",
             R"({"train_base": true})"},
        Case{"gist_one_ahead", "qwen3", R"({"type": "gist", "count": 2})", R"({"ahead": 1})"},
        Case{"gist_and_text", "llama", R"({"type": "gist", "count": 3, "tokens_see": "all"})",
             R"({"train_base": true})"},
        Case{"gist_masked_too", "llama", R"({"type": "gist", "count": 3, "tokens_see": "nothing"})",
             R"({"train_base": true})"},
        Case{"icae", "llama", R"({"type": "icae", "count": 3, "rank": 2})", "{}"},
        Case{"icae_with_end", "gpt2", R"({"type": "icae", "count": 2, "rank": 3, "end_token": 1})",
             "{}"},
        Case{"icae_without_giving_back", "gemma3",
             R"({"type": "icae", "count": 3, "rank": 2, "lm_ratio": 1})", R"({"ahead": 1})"},
        Case{"thoughts", "llama", R"({"type": "continuous_thoughts", "count": 3})",
             R"({"train_base": true})"},
        Case{"thoughts_late", "gpt2", R"({"type": "continuous_thoughts", "count": 2})",
             R"({"train_base": true, "delay": 2})"},
        Case{"one_thought", "gemma2", R"({"type": "continuous_thoughts", "count": 1})",
             R"({"train_base": true})"},
        Case{"late", "llama", kCoprocessor, R"({"delay": 2})"},
        Case{"trained_base", "llama", kCoprocessor, R"({"train_base": true})"},
        Case{"one_ahead", "llama", kCoprocessor, R"({"ahead": 1})"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(MaskCheck, FindsASourceThatPeeks) {
  const MaskCheck result = check(*augmented("llama", {{"type", "test_peeking"}}));
  EXPECT_FALSE(result.ok()) << result.text();
  EXPECT_NE(result.text().find("DIFFER"), std::string::npos);
}

TEST(MaskCheck, NamesWhatNoGradientReaches) {
  const MaskCheck result = check(*augmented("llama", {{"type", "test_idle"}}));
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.without_gradient, std::vector<std::string>{"latents.unused"});
  EXPECT_NE(result.text().find("latents.unused"), std::string::npos);
}

}  // namespace
}  // namespace reverie
