#include "trainers/probes/causality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"
#include "support/message_of.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using testing::kTinyModels;
using testing::model_component;
using testing::NamedModel;
using ::testing::Not;

// ---- memories with one fault each
// ----------------------------------------------------------------

struct NoOptions final : Fieldset {
  void fields(Fields&) override {}
};

class FaultyMemory : public MemoryModule {
 public:
  FaultyMemory(const NoOptions&, const MemorySite& site) {
    write_ = &child<Linear>("write", site.features, site.features, LinearOptions{}, site.build);
  }
  bool incremental() const override { return true; }

 protected:
  Linear* write_;
};

// Row t reads row t + 1.
class NextRowMemory : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState&) override { return peek(view.hidden); }
  bool incremental() const override { return false; }

 protected:
  Variable peek(const Variable& x) const {
    const Variable nothing(Tensor::zeros({x.size(0), 1, x.size(2)}, x.dtype()));
    return add(x, slice(concat({write_->forward(x), nothing}, 1), 1, 1, x.size(1) + 1));
  }
};
REVERIE_REGISTER_MEMORY("test_next_row", NextRowMemory, NoOptions, "leaks the next row");

// The same, too faint for what f32 rounds.
class FaintMemory final : public NextRowMemory {
 public:
  using NextRowMemory::NextRowMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    const Variable& x = view.hidden;
    return add(x, scale(subtract(peek(x), x), 3e-7));
  }
};
REVERIE_REGISTER_MEMORY("test_faint", FaintMemory, NoOptions, "leaks the next row faintly");

// The same, in train mode only.
class TrainOnlyMemory final : public NextRowMemory {
 public:
  using NextRowMemory::NextRowMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    return training() ? peek(view.hidden) : view.hidden;
  }
  bool incremental() const override { return true; }
};
REVERIE_REGISTER_MEMORY("test_train_only", TrainOnlyMemory, NoOptions, "leaks when training");

// Only the very last row leaks, and only into the one before it.
class LastRowMemory final : public NextRowMemory {
 public:
  using NextRowMemory::NextRowMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    const Variable& x = view.hidden;
    if (x.size(1) < 2) return x;
    const int64_t keep = x.size(1) - 2;
    const Variable tail = slice(x, 1, keep, x.size(1));
    return keep == 0 ? peek(tail) : concat({slice(x, 1, 0, keep), peek(tail)}, 1);
  }
};
REVERIE_REGISTER_MEMORY("test_last_row", LastRowMemory, NoOptions, "leaks the last row");

// Knows how long the text will be, and nothing else of the future.
class LengthMemory final : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    return scale(view.hidden, 1 + 0.1 * double(view.hidden.size(1)));
  }
  bool incremental() const override { return false; }
};
REVERIE_REGISTER_MEMORY("test_length", LengthMemory, NoOptions, "leaks the length");

// Every row of the batch reads its neighbour.
class OtherRowMemory final : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    const Variable& x = view.hidden;
    const Variable nothing(Tensor::zeros({1, x.size(1), x.size(2)}, x.dtype()));
    return add(x, concat({nothing, slice(write_->forward(x), 0, 0, x.size(0) - 1)}, 0));
  }
};
REVERIE_REGISTER_MEMORY("test_other_row", OtherRowMemory, NoOptions, "leaks between rows");

// Adds what the place in the batch says.
class PlaceMemory final : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    const Variable& x = view.hidden;
    std::vector<double> place;
    for (int64_t r = 0; r < x.size(0); ++r) place.push_back(1 + 0.1 * double(r));
    return multiply(x, Variable(Tensor::from<double>({x.size(0), 1, 1}, place).to(x.dtype())));
  }
};
REVERIE_REGISTER_MEMORY("test_place", PlaceMemory, NoOptions, "depends on the place in the batch");

// Remembers the previous call in the module itself.
class HiddenStateMemory final : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    const Variable& x = view.hidden;
    const double before = remembered_;
    remembered_ = x.tensor().to_vector()[0];
    return scale(x, 1 + 0.1 * std::tanh(before));
  }

 private:
  double remembered_ = 0;
};
REVERIE_REGISTER_MEMORY("test_hidden_state", HiddenStateMemory, NoOptions, "keeps hidden state");

// Carried state in which the rows of the batch are mixed.
class MixedStateMemory final : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable& x = view.hidden;
    Variable& memory = state.values[std::to_string(view.layer)];
    const Variable out = memory ? add(x, expand(expand(memory, 1, x.size(1)), 0, x.size(0))) : x;
    memory = reshape(mean(mean(write_->forward(x), 1), 0), {1, 1, x.size(2)});
    return out;
  }
  bool incremental() const override { return false; }
  bool carries_memory() const override { return true; }
};
REVERIE_REGISTER_MEMORY("test_mixed_state", MixedStateMemory, NoOptions, "mixes carried state");

// Says that it decodes in pieces, and forgets between them.
class ForgetfulMemory final : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    return add(view.hidden, cumulative_sum(write_->forward(view.hidden), 1));
  }
};
REVERIE_REGISTER_MEMORY("test_forgetful", ForgetfulMemory, NoOptions, "forgets between pieces");

// Not a number, at the last row.
class NanMemory final : public FaultyMemory {
 public:
  using FaultyMemory::FaultyMemory;
  Variable after_block(const LayerView& view, MemoryState&) override {
    return affine(view.hidden, NAN);
  }
};
REVERIE_REGISTER_MEMORY("test_nan", NanMemory, NoOptions, "is not a number");

// ---- helpers
// -------------------------------------------------------------------------------------

std::string with_memory(const std::string& memory) {
  return R"({"type":"gpt2",)" REVERIE_TINY R"(,"memory":{"type":")" + memory + "\"}}";
}
CausalityReport report_of(const std::string& json) {
  return probe_causality(*probing_copy(model_component(json), nullptr), {});
}
std::vector<std::string> failed(const CausalityReport& report) {
  std::vector<std::string> names;
  for (const Probe& p : report.probes)
    if (!p.ok) names.push_back(p.name);
  return names;
}
const Probe& find(const CausalityReport& report, const std::string& name,
                  const std::string& where) {
  for (const Probe& p : report.probes)
    if (p.name == name && p.where.find(where) != std::string::npos) return p;
  throw InternalError("no such probe: " + name + ", " + where);
}

// ---- the house's models
// --------------------------------------------------------------------------

class Verdicts : public ::testing::TestWithParam<NamedModel> {};

TEST_P(Verdicts, LeaksWhatItsModeLeaksAndNothingElse) {
  const CausalityReport report = report_of(GetParam().json);
  EXPECT_EQ(report.causal(), GetParam().causal) << report.text();
  if (report.causal()) {
    EXPECT_LT(report.max_future_logit_change, 1e-10);
    EXPECT_THAT(report.text(), HasSubstr("\ncausal: no logit moved by more than "));
  } else {
    EXPECT_GT(report.max_future_logit_change, 1e-3);
    EXPECT_THAT(report.text(), HasSubstr("\nLEAKS: "));
    for (const Probe& p : report.probes) EXPECT_TRUE(p.ok || p.future) << p.name << ", " << p.where;
  }
  // A row of the table fits a terminal; where a logit moved stands below it.
  std::istringstream lines(report.text());
  size_t rows = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.ends_with("  ok") && !line.ends_with("  FAILED") && !line.ends_with("  -")) continue;
    EXPECT_LE(line.size(), 80u) << line;
    ++rows;
  }
  EXPECT_EQ(rows, report.probes.size());
  for (const Probe& p : report.probes) {
    EXPECT_TRUE(p.where.ends_with(p.site)) << p.where;
    if (!p.ok) {
      EXPECT_THAT(report.text(), HasSubstr("\n    at " + p.where + "\n"));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(All, Verdicts, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Causality, TheUsualSmallWeightsInF32ShowTheLeakToo) {
  Generator random(1);
  const auto model = ModelRegistry::instance().make(
      model_component(R"({"type":"gpt2","vocab_size":65,"block_size":32,"n_layer":2,"n_head":2,
                         "n_embd":32,"memory":{"type":"imm","mode":"as_published"}})"),
      Build{random});
  EXPECT_FALSE(probe_causality(*model, {}).causal());
}

TEST(Causality, TrainedWeightsAreProbedInF64) {
  const std::string json = R"({"type":"llama",)" REVERIE_TINY "}";
  const auto trained = testing::make_model(json, DType::f32);
  const NamedTensors weights = trained->state();
  const auto copy = probing_copy(model_component(json), &weights);
  EXPECT_EQ(copy->head().dtype(), DType::f64);
  const Tensor tokens = testing::random_tokens(2, 9, 13);
  NoGrad guard;
  EXPECT_LT(
      testing::largest_difference(copy->logits(tokens).tensor(), trained->logits(tokens).tensor()),
      1e-4);
  EXPECT_TRUE(probe_causality(*trained, {}).causal());  // in f32, with its own tolerance
  EXPECT_THAT(probe_causality(*trained, {}).subject, HasSubstr("f32"));
}

// ---- the gate
// -------------------------------------------------------------------------------------------------

class Gate : public ::testing::TestWithParam<NamedModel> {};

TEST_P(Gate, JudgesAsTheFullProbeDoesAndNeedsNoToleranceForACausalModel) {
  const CausalityReport report = gate_causality(model_component(GetParam().json), DType::f32);
  EXPECT_EQ(report.causal(), GetParam().causal) << report.text();
  // What moves by more than f32 rounds needs no other dtype to be a leak.
  EXPECT_THAT(report.subject, HasSubstr("f32"));
  EXPECT_EQ(report.beyond_rounding(), !GetParam().causal);
  for (const Probe& p : report.probes) {
    if (GetParam().causal && p.future && p.name.starts_with("changing")) {
      EXPECT_EQ(p.change, 0);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(All, Gate, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Causality, TheGateSeesWhatF32sToleranceWouldHide) {
  const std::string json = with_memory("test_faint");
  const auto copy = probing_copy(model_component(json), nullptr, DType::f32);
  EXPECT_THAT(failed(probe_causality(*copy, {})),
              Not(Contains("changing all tokens from the cut on")));
  EXPECT_THAT(failed(probe_causality(*copy, {.exact = true})),
              Contains("changing all tokens from the cut on"));
  const CausalityReport report = gate_causality(model_component(json), DType::f32);
  EXPECT_FALSE(report.causal());
  EXPECT_THAT(report.subject, HasSubstr("f64"));
}

TEST(Causality, ARunInF64IsJudgedInF64) {
  const std::string json = R"({"type":"llama",)" REVERIE_TINY "}";
  EXPECT_THAT(gate_causality(model_component(json), DType::f64).subject, HasSubstr("f64"));
}

// ---- each fault by the probe that is meant for it
// ------------------------------------------------

TEST(Causality, ALookAheadIsCaughtAtEveryCut) {
  const CausalityReport report = report_of(with_memory("test_next_row"));
  EXPECT_FALSE(report.causal());
  EXPECT_THAT(failed(report), Contains("changing all tokens from the cut on"));
  EXPECT_THAT(failed(report), Contains("changing the last token"));
  EXPECT_THAT(report.text(), HasSubstr("LEAKS: "));
  EXPECT_THAT(report.worst, HasSubstr("moves the logit of position"));
}

TEST(Causality, ALeakOfTheLastRowAloneIsCaught) {
  const CausalityReport report = report_of(with_memory("test_last_row"));
  const Probe& last = find(report, "changing the last token", "eval mode, 19 tokens");
  EXPECT_FALSE(last.ok);
  EXPECT_TRUE(last.future);
  // Two layers: the row before last is all that can move.
  EXPECT_THAT(last.where, HasSubstr("cut 18, position 17, row "));
  EXPECT_GE(report.max_future_logit_change, last.change);
}

TEST(Causality, ALeakInTrainModeOnlyIsCaughtInTrainModeOnly) {
  const CausalityReport report = report_of(with_memory("test_train_only"));
  EXPECT_FALSE(report.causal());
  for (const Probe& p : report.probes) {
    const bool in_train_mode = p.where.find("train mode") != std::string::npos;
    EXPECT_TRUE(p.ok || in_train_mode) << p.name << ", " << p.where;
    if (p.name == "changing the last token") {
      EXPECT_EQ(p.ok, !in_train_mode) << p.where;
    }
  }
  EXPECT_THAT(report.worst, HasSubstr("train mode"));
}

TEST(Causality, ALeakOfTheLengthIsCaughtByLeavingOut) {
  const CausalityReport report = report_of(with_memory("test_length"));
  EXPECT_THAT(failed(report), Contains("leaving out all tokens from the cut on"));
  EXPECT_THAT(failed(report), Not(Contains("changing all tokens from the cut on")));
}

TEST(Causality, ALeakBetweenRowsIsCaughtByChangingAnother) {
  const CausalityReport report = report_of(with_memory("test_other_row"));
  EXPECT_THAT(failed(report), Contains("changing another row"));
  EXPECT_THAT(failed(report), Not(Contains("changing the last token")));
  EXPECT_FALSE(find(report, "changing the first piece of another row", "KV cache").ok);
  EXPECT_EQ(report.max_future_logit_change, 0);
  EXPECT_THAT(report.worst, HasSubstr("changing another row moves"));
}

TEST(Causality, DependingOnThePlaceInTheBatchIsCaughtByPermuting) {
  const CausalityReport report = report_of(with_memory("test_place"));
  EXPECT_THAT(failed(report), Contains("permuting the rows"));
  EXPECT_THAT(failed(report), Not(Contains("changing another row")));
  EXPECT_THAT(report.text(), HasSubstr("\nFAILS: permuting the rows moves"));
}

TEST(Causality, HiddenStateIsCaughtByRunningAgain) {
  const CausalityReport report = report_of(with_memory("test_hidden_state"));
  EXPECT_THAT(failed(report), Contains("running it again after an unrelated input"));
  EXPECT_THAT(report.worst, HasSubstr("again"));  // the gravest, before the cuts that fail as well
}

TEST(Causality, MixedCarriedStateIsCaughtByChangingTheOtherRowsPast) {
  const CausalityReport report = report_of(with_memory("test_mixed_state"));
  ASSERT_THAT(failed(report), Contains("changing the first piece of another row"));
  for (const std::string& name : failed(report))
    EXPECT_EQ(name, "changing the first piece of another row");
  EXPECT_THAT(report.worst, HasSubstr("19 + 19 tokens with carried memory"));
}

TEST(Causality, ADecoderThatForgetsIsCaught) {
  const CausalityReport report = report_of(with_memory("test_forgetful"));
  EXPECT_THAT(failed(report), ::testing::ElementsAre("decoding token by token",
                                                     "decoding in pieces of 3, 1, 5 and 7 tokens"));
  EXPECT_THAT(report.text(), HasSubstr("\nFAILS: decoding "));
}

TEST(Causality, NotANumberFails) {
  // Nothing can be said of it, and that is said: neither causal nor a leak.
  const std::string said =
      testing::message_of<DivergedError>([] { report_of(with_memory("test_nan")); });
  EXPECT_THAT(said, HasSubstr("not finite"));
  EXPECT_THAT(said, Not(HasSubstr("LEAKS")));
}

// ---- the report
// ----------------------------------------------------------------------------------

TEST(Causality, LeavesTheModelAndTheDropoutGeneratorAsTheyWere) {
  const auto model = testing::make_model(R"({"type":"gpt2",)" REVERIE_TINY R"(,"dropout":0.3})");
  default_generator() = Generator(5, 77);
  for (const bool train : {true, false}) {
    model->train(train);
    EXPECT_TRUE(probe_causality(*model, {}).causal());
    EXPECT_EQ(model->training(), train);
  }
  EXPECT_EQ(default_generator().seed(), 5u);
  EXPECT_EQ(default_generator().offset(), 77u);
}

TEST(Causality, SaysWhereALongBlockIsCutShort) {
  const auto model = testing::make_model(R"({"type":"gpt2",)" REVERIE_TINY "}");
  CausalityOptions options;
  options.max_length = 9;
  const CausalityReport report = probe_causality(*model, options);
  EXPECT_TRUE(report.causal());
  EXPECT_THAT(report.subject,
              HasSubstr("9 random tokens (and of 5), cut short from block_size 19"));
  for (const Probe& p : report.probes) EXPECT_THAT(p.where, Not(HasSubstr("19"))) << p.name;
}

TEST(Causality, JsonHoldsEveryProbe) {
  const CausalityReport report = report_of(kTinyModels[4].json);
  const Json json = report.json();
  EXPECT_EQ(json.at("causal"), false);
  EXPECT_EQ(json.at("max_future_logit_change"), report.max_future_logit_change);
  ASSERT_EQ(json.at("probes").size(), report.probes.size());
  EXPECT_EQ(json.at("probes")[2].at("name"), report.probes[2].name);
  EXPECT_EQ(json.at("probes")[2].at("change"), report.probes[2].change);
}

TEST(Causality, NothingProbedIsNotCausal) {
  EXPECT_FALSE(CausalityReport().causal());
}

TEST(Causality, TinyBlocksAndVocabularies) {
  for (const char* size :
       {R"("vocab_size":2,"block_size":2)", R"("vocab_size":2,"block_size":1)"}) {
    const CausalityReport report =
        report_of(std::string(R"({"type":"gpt2","n_layer":1,"n_head":1,"n_embd":4,)") + size + "}");
    EXPECT_TRUE(report.causal()) << report.text();
  }
  EXPECT_THROW(report_of(R"({"type":"gpt2","vocab_size":1,"n_layer":1,"n_head":1,"n_embd":4})"),
               UserError);
  const auto model = testing::make_model(R"({"type":"gpt2",)" REVERIE_TINY "}");
  CausalityOptions one_row;
  one_row.sequences = 1;
  EXPECT_THROW(probe_causality(*model, one_row), UserError);
}

}  // namespace
}  // namespace reverie
