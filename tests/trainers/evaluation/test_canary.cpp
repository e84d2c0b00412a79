// The canary's probes by themselves: cuts, rounding, and that honest models move nothing.

#include "trainers/evaluation/canary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "datasets/token_file.h"
#include "layers/coprocessor/latent_source.h"
#include "layers/memory/memory_module.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"
#include "trainers/checks/mask_check.h"
#include "trainers/evaluation/attacks.h"
#include "trainers/evaluation/cut_sweep.h"
#include "trainers/evaluation/latent_canary.h"
#include "trainers/evaluation/rounding.h"

namespace reverie {
namespace {

using testing::kTinyModels;
using testing::make_model;
using testing::NamedModel;
using testing::random_tokens;

// More seeds than the suite has time for: REVERIE_GATE_SEEDS=1000.
int64_t seeds() {
  const char* set = std::getenv("REVERIE_GATE_SEEDS");
  return set ? std::atoll(set) : 3;
}

// ---- cuts -----------------------------------------------------------------------------------------

TEST(CutSweep, AsksEveryCutAndEveryRow) {
  for (int64_t rows : {1, 2, 3, 5, 16, 40})
    for (int64_t length : {2, 3, 7, 20, 33}) {
      const CutPlan plan = plan_cuts(rows, length, 0, 0);
      EXPECT_EQ(cuts_in(plan, length), length - 1) << rows << " x " << length;
      std::set<int64_t> cut_rows;
      for (const auto& cuts : plan) {
        ASSERT_EQ(int64_t(cuts.size()), rows);
        int64_t whole = 0;
        for (int64_t r = 0; r < rows; ++r) {
          EXPECT_GE(cuts[size_t(r)], 1);
          EXPECT_LE(cuts[size_t(r)], length);
          whole += cuts[size_t(r)] == length;
          if (cuts[size_t(r)] < length) cut_rows.insert(r);
        }
        EXPECT_GE(whole, rows > 1 ? 1 : 0);
      }
      EXPECT_EQ(int64_t(cut_rows.size()), std::min(rows, length)) << rows << " x " << length;
    }
}

TEST(CutSweep, FewForwardsReachEveryCutInTurn) {
  std::set<int64_t> seen;
  int64_t turn = 0;
  for (; turn < 100 && seen.size() < 255; ++turn) {
    const CutPlan plan = plan_cuts(12, 256, 8, turn);
    EXPECT_LE(plan.size(), 8u);
    EXPECT_GE(cuts_in(plan, 256), 80);
    for (const auto& cuts : plan) seen.insert(cuts.begin(), cuts.end());
    EXPECT_TRUE(seen.contains(255));
    seen.erase(256);
  }
  EXPECT_LT(turn, 20);
}

TEST(CutSweep, ReplacesRealTextByRealTextAndAlwaysTheFirstToken) {
  const Tensor tokens = random_tokens(6, 30, 4, 1), donors = random_tokens(6, 30, 4, 2);
  for (int64_t cut = 0; cut <= 30; ++cut) {
    const Tensor other =
        with_other_suffixes(tokens, donors, std::vector<int64_t>(6, cut), 4);
    const int32_t *a = tokens.data<int32_t>(), *b = other.data<int32_t>();
    for (int64_t r = 0; r < 6; ++r) {
      for (int64_t t = 0; t < cut; ++t) EXPECT_EQ(a[r * 30 + t], b[r * 30 + t]);
      if (cut < 30) EXPECT_NE(a[r * 30 + cut], b[r * 30 + cut]);
    }
  }
  // The last window of a split, shorter than the others, gives its text and nothing behind it.
  const Tensor rest = Tensor::from<int32_t>({1, 3}, {1, 2, 3});
  for (int64_t cut = 0; cut < 30; ++cut) {
    const Tensor other = with_other_suffixes(tokens, rest, std::vector<int64_t>(6, cut), 4);
    for (int64_t r = 0; r < 6; ++r)
      for (int64_t t = cut + 1; t < 30; ++t)
        ASSERT_EQ(other.data<int32_t>()[r * 30 + t], 1 + t % 3);
  }
  // A single token everywhere, and a single row that is its own donor.
  const Tensor same = Tensor::from<int32_t>({1, 4}, {2, 2, 2, 2});
  const Tensor changed = with_other_suffixes(same, same, {1}, 5);
  EXPECT_NE(changed.data<int32_t>()[1], 2);
  EXPECT_EQ(changed.data<int32_t>()[0], 2);
}

// ---- honest models --------------------------------------------------------------------------------

class Windows {
 public:
  Windows() {
    std::string bytes(1024, '\0');
    const int32_t header[] = {20240520, 1, 400};
    std::memcpy(bytes.data(), header, sizeof header);
    Generator random(11);
    for (int i = 0; i < 400; ++i) {
      const auto token = uint16_t(random.below(13));
      bytes.append(reinterpret_cast<const char*>(&token), 2);
    }
    std::ofstream(directory_ / "text.bin", std::ios::binary) << bytes;
    OpenTokensOptions options;
    options.vocabulary_size = 13;
    tokens_ = open_tokens(directory_ / "text.bin", options);
  }
  EvaluationWindows of(int64_t length) const { return {tokens_, 4, length, 8}; }

 private:
  testing::TemporaryDirectory directory_;
  TokenFile tokens_;
};

void expect_causal(const Verdict& verdict) {
  EXPECT_TRUE(verdict.causal()) << verdict.line();
}

// Everything that the trainer asks of a live model, for many seeds of weights and text. `worst`:
// largest movement over what is allowed.
void ask_everything(LanguageModel& model, const EvaluationWindows& windows, int64_t seed,
                    double& worst) {
  const int64_t length = model.block_size(), vocabulary = model.vocabulary_size();
  const Tensor tokens = random_tokens(5, length, vocabulary, uint64_t(seed)),
               donors = random_tokens(5, length, vocabulary, uint64_t(seed) + 1000003);
  SequenceState state;
  Verdict verdict;
  if (model.carries_memory()) {
    NoGrad no_graph;
    model.hidden(donors, &state);
  }
  for (const bool train : {false, true})
    for (const MatmulPrecision precision : {MatmulPrecision::full, MatmulPrecision::bf16}) {
      if (precision == MatmulPrecision::bf16 && model.head().dtype() != DType::f32) continue;
      const Asking asking{0, 0, seed, train, precision};
      verdict.merge(
          ask_cuts(model, tokens, donors, model.carries_memory() ? &state : nullptr, asking));
    }
  verdict.merge(score_prefixes(model, windows, single_communicator(), 0).verdict);
  expect_causal(verdict);
  worst = std::max(worst, verdict.largest()->change / verdict.largest()->allowed);
}

class Honest : public ::testing::TestWithParam<NamedModel> {};
TEST_P(Honest, ModelsGiveNoFalseAlarm) {
  if (!GetParam().causal) GTEST_SKIP() << "leaks by definition";
  static const Windows windows;
  double worst = 0;
  for (int64_t seed = 1; seed <= seeds(); ++seed)
    for (const DType dtype : {DType::f32, DType::f64}) {
      Component component = testing::model_component(GetParam().json);
      Generator random{uint64_t(seed)};
      auto model = ModelRegistry::instance().make(component, Build{random, dtype});
      for (auto& [name, parameter] : model->parameters()) {
        Tensor target = parameter.tensor();
        const bool matrix = parameter.rank() >= 2, bias = name.ends_with("bias");
        target.copy_from(random.normal(parameter.shape(), matrix || bias ? 0 : 1,
                                       matrix ? 0.3 : 0.1, DType::f64));
      }
      ask_everything(*model, windows.of(model->block_size()), seed, worst);
    }
  RecordProperty("largest_movement_over_allowed", std::to_string(worst));
  EXPECT_LT(worst, 0.5);  // far from the line
  std::printf("%s: %.3g of what is allowed\n", GetParam().name, worst);
}
INSTANTIATE_TEST_SUITE_P(All, Honest, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

// A leak is one whatever its size is relative to the usual weights.
TEST(Canary, LeakingModelsAreFoundByEveryProbeThatIsMeantForThem) {
  static const Windows windows;
  for (const NamedModel& named : kTinyModels) {
    if (named.causal) continue;
    const auto model = make_model(named.json, DType::f32);
    const Tensor tokens = random_tokens(5, 19, 13), donors = random_tokens(5, 19, 13, 9);
    for (const bool train : {false, true})
      EXPECT_TRUE(ask_cuts(*model, tokens, donors, nullptr, {0, 0, 0, train}).leaks())
          << named.name;
    EXPECT_TRUE(score_prefixes(*model, windows.of(19), single_communicator(), 0).verdict.leaks())
        << named.name;
  }
}

// Each probe is the only one that sees some kind: without it that kind would pass.
struct OnlyProbe {
  const char* kind;
  bool cuts_in_eval, cuts_in_train, prefixes;
};
TEST(Canary, EachProbeSeesAKindThatTheOthersMiss) {
  static const Windows windows;
  const OnlyProbe kinds[] = {
      {"always", true, true, true},          {"length", false, false, true},
      {"train_only", false, true, false},    {"graph_only", false, true, false},
      {"eval_only", true, false, true},      {"batch_of_four", false, false, true},
      {"bf16_only", false, true, false},     {"chunk_of_20", true, true, true},
      {"last_call", true, true, true},       {"first_batch_row", true, true, true},
      {"batch_above_4", true, true, false},      {"many_calls", false, false, false},
  };
  for (const OnlyProbe& k : kinds) {
    testing::reset_attacks();
    const std::string json =
        std::string(R"({"type":"llama","vocab_size":13,"block_size":24,"n_layer":1,"n_head":2,
        "n_embd":8,"memory":{"type":"test_attack","kind":")") + k.kind + "\"}}";
    const Tensor tokens = random_tokens(5, 24, 13), donors = random_tokens(5, 24, 13, 9);
    const auto cuts = [&](bool train) {
      const auto model = make_model(json, DType::f32);
      return ask_cuts(*model, tokens, donors, nullptr,
                      {0, 0, 0, train, train ? MatmulPrecision::bf16 : MatmulPrecision::full})
          .leaks();
    };
    EXPECT_EQ(cuts(false), k.cuts_in_eval) << k.kind;
    EXPECT_EQ(cuts(true), k.cuts_in_train) << k.kind;
    const auto model = make_model(json, DType::f32);
    EXPECT_EQ(score_prefixes(*model, windows.of(24), single_communicator(), 0).verdict.leaks(),
              k.prefixes)
        << k.kind;
  }
}

TEST(Canary, PrefixScoresAreThoseOfTheEvaluation) {
  const Windows windows;
  const auto model = make_model(R"({"type":"llama",)" REVERIE_TINY "}", DType::f32);
  const PrefixScores scores = score_prefixes(*model, windows.of(19), single_communicator(), 7);
  EXPECT_EQ(scores.prefix_only.loss, evaluate_prefix_only(*model, windows.of(19)).loss);
  EXPECT_EQ(scores.same_windows.loss, evaluate(*model, windows.of(19)).loss);
  EXPECT_EQ(scores.verdict.steps(), std::vector<int64_t>{7});
}

TEST(Canary, NotFiniteIsNoLeak) {
  const Windows windows;
  const auto model = make_model(R"({"type":"llama",)" REVERIE_TINY "}", DType::f32);
  Tensor weight = model->parameters()[1].second.tensor();
  weight.fill(std::nan(""));
  const Tensor tokens = random_tokens(5, 19, 13);
  try {
    ask_cuts(*model, tokens, tokens, nullptr, {});
    ADD_FAILURE() << "nothing was thrown";
  } catch (const DivergedError& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("not finite"));
    EXPECT_THAT(e.what(), ::testing::Not(::testing::HasSubstr("LEAKS")));
  }
  EXPECT_THROW(score_prefixes(*model, windows.of(19), single_communicator(), 0), DivergedError);
}

TEST(Canary, GivesModelAndGeneratorBack) {
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY R"(,"dropout":0.3})");
  const Tensor tokens = random_tokens(5, 19, 13), donors = random_tokens(5, 19, 13, 9);
  const std::string before = model->weights_hash();
  default_generator() = Generator(5, 77);
  for (const bool on : {true, false})
    for (const bool train : {true, false}) {
      model->train(on);
      expect_causal(ask_cuts(*model, tokens, donors, nullptr, {0, 0, 0, train}));
      EXPECT_EQ(model->training(), on);
      EXPECT_EQ(default_generator().offset(), 77u);
    }
  EXPECT_EQ(model->weights_hash(), before);
}

// ---- registries -----------------------------------------------------------------------------------

// Whoever adds a memory or a source of latents adds its honest form here, too.
TEST(Registries, EveryMemoryIsAmongTheHonestModels) {
  std::set<std::string> asked;
  for (const NamedModel& named : kTinyModels) {
    const Json json = Json::parse(named.json);
    if (named.causal && json.contains("memory")) asked.insert(json["memory"]["type"]);
  }
  for (const std::string& name : MemoryRegistry::instance().names())
    if (!name.starts_with("test_")) EXPECT_TRUE(asked.contains(name)) << name;
}

struct LatentCase {
  const char* type;
  const char* latents;
  const char* more = "{}";
};
void PrintTo(const LatentCase& c, std::ostream* out) {
  *out << c.type;
}
const LatentCase kLatents[] = {
    {"coprocessor", R"({"type": "coprocessor", "count": 3})"},
    {"coprocessor", R"({"type": "coprocessor", "count": 3, "reads": "last_hidden"})"},
    {"coprocessor", R"({"type": "coprocessor", "count": 3, "writes": "cache"})"},
    {"coprocessor", R"({"type": "coprocessor", "count": 3, "initial": "lora", "rank": 2})",
     R"({"delay": 2})"},
    {"soft_embeddings", R"({"type": "soft_embeddings", "count": 3})"},
    {"gist", R"({"type": "gist", "count": 3})", R"({"train_base": true})"},
    {"icae", R"({"type": "icae", "count": 3, "rank": 2})"},
    {"continuous_thoughts", R"({"type": "continuous_thoughts", "count": 3})",
     R"({"train_base": true})"},
    {"several", R"({"type": "several", "sources": [{"type": "coprocessor", "count": 2},
                   {"type": "soft_embeddings", "count": 1}]})"},
};

// What is not declared is not handed out.
class SecretReader final : public LatentSource {
 public:
  int64_t count() const override { return 1; }
  double flops_per_group(int64_t) const override { return 0; }
  Variable latents(const TextView& view) override { return view.whole(*this).hidden; }
};
TEST(TextView, GivesNoRowBehindTheLastLimitAndTheWholeOnlyToWhoSaysSo) {
  const Variable hidden(Tensor::from<float>({2, 4, 1}, std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
  const Tensor limits = Tensor::from<int32_t>({2, 2}, {1, 3, 2, 2}),
               tokens = Tensor::from<int32_t>({2, 4}, {10, 11, 12, 13, 14, 15, 16, 17});
  const TextView view(KeyValues(), hidden, limits, tokens);
  SecretReader secret;
  EXPECT_THROW(secret.latents(view), InternalError);
  EXPECT_EQ(view.last_hidden().tensor().to_vector(), (std::vector<double>{0, 2, 5, 5}));
  EXPECT_EQ(view.last_tokens().to_vector(), (std::vector<double>{10, 12, 15, 15}));
  class Open final : public LatentSource {
   public:
    int64_t count() const override { return 1; }
    double flops_per_group(int64_t) const override { return 0; }
    bool asks_for_whole_text() const override { return true; }
    Variable latents(const TextView& v) override { return v.whole(*this).hidden; }
  } open;
  const TextView::Whole whole = view.whole(open);
  EXPECT_EQ(whole.length, 3);
  EXPECT_EQ(whole.hidden.shape(), (Shape{2, 3, 1}));
  EXPECT_EQ(whole.tokens.to_vector(), (std::vector<double>{10, 11, 12, 14, 15, 16}));
}

TEST(Registries, EveryLatentSourceIsAsked) {
  std::set<std::string> asked;
  for (const LatentCase& c : kLatents) asked.insert(c.type);
  for (const std::string& name : LatentRegistry::instance().names())
    if (!name.starts_with("test_")) EXPECT_TRUE(asked.contains(name)) << name;
}

class HonestLatents : public ::testing::TestWithParam<LatentCase> {};
TEST_P(HonestLatents, GiveNoFalseAlarm) {
  const LatentCase& c = GetParam();
  double worst = 0;
  for (const char* base : {"gpt2", "llama", "qwen3", "gemma2", "gemma3"})
    for (int64_t seed = 1; seed <= (seeds() + 2) / 3; ++seed)
      for (const DType dtype : {DType::f32, DType::f64}) {
        Json config = {{"type", "augmented"},
                       {"base", std::string(REVERIE_TEST_DIR "/golden/pretrained/") + base},
                       {"latents", Json::parse(c.latents)},
                       {"block_size", 24},
                       {"groups", 5},
                       {"ahead", 4}};
        config.update(Json::parse(c.more));
        Generator random{uint64_t(seed)};
        const auto made = ModelRegistry::instance().make(
            resolve_component(ModelRegistry::instance(), Config(config, "$.model")),
            Build{random, dtype});
        draw_zero_parameters(*made, random);
        auto& model = dynamic_cast<AugmentedModel&>(*made);
        const Tensor tokens = random_tokens(3, 24, model.vocabulary_size(), uint64_t(seed)),
                     donors = random_tokens(3, 24, model.vocabulary_size(), uint64_t(seed) + 77);
        Verdict verdict;
        for (const bool train : {false, true})
          verdict.merge(ask_latents(model, tokens, donors, {5, 4}, {0, 0, seed, train}));
        verdict.merge(ask_separate_groups(model, tokens, {5, 4}, 0, {0, 0, seed}));
        expect_causal(verdict);
        worst = std::max(worst, verdict.largest()->change / verdict.largest()->allowed);
      }
  EXPECT_LT(worst, 0.5);
  std::printf("%s: %.3g of what is allowed\n", c.type, worst);
}
INSTANTIATE_TEST_SUITE_P(All, HonestLatents, ::testing::ValuesIn(kLatents),
                         [](const auto& info) {
                           return std::string(info.param.type) + std::to_string(info.index);
                         });

}  // namespace
}  // namespace reverie
