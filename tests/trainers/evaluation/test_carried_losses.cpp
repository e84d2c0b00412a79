// Losses with memory carried from window to window: against a reading by hand, over ranks, and
// audited.

#include "trainers/evaluation/carried_losses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"
#include "trainers/distributed/ranks.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/probes/movement.h"

namespace reverie {
namespace {

using testing::make_model;
using testing::random_tokens;

constexpr int64_t kVocabulary = 13, kBlock = 7;
constexpr const char* kSlots =
    R"({"type":"gpt2",)" REVERIE_TINY
    R"(,"memory":{"type":"imm","mode":"slots","low_rank_dim":4,"num_slots":3,"chunk_length":2,"carry_state":true}})";

// Documents of random tokens; token 0 begins each.
class Documents {
 public:
  explicit Documents(const std::vector<int64_t>& lengths) {
    const std::string file = directory_ / "text.tok";
    TokenFileWriter writer(file, kVocabulary, "", "");
    uint64_t seed = 3;
    for (const int64_t length : lengths) {
      const auto values = random_tokens(1, length, kVocabulary - 1, seed++).to_vector();
      std::vector<int32_t> tokens;
      for (const double v : values) tokens.push_back(int32_t(v) + 1);
      tokens.front() = 0;
      writer.append(tokens);
    }
    writer.finish();
    tokens_ = open_tokens(file);
  }
  ConsecutiveWindows windows(int64_t batch) const {
    return ConsecutiveWindows(tokens_, DocumentMark{0, true}, batch, kBlock, 0);
  }
  const TokenFile& tokens() const { return tokens_; }

 private:
  testing::TemporaryDirectory directory_;
  TokenFile tokens_;
};

// One document at a time, one forward a window.
double by_hand(LanguageModel& model, const TokenFile& tokens, bool carry) {
  const EvaluationMode mode(model);
  double sum = 0, targets = 0;
  for (const Passage& p : documents_in(tokens, DocumentMark{0, true})) {
    SequenceState state;
    for (int64_t begin = p.begin; begin + 1 < p.end; begin += kBlock) {
      const int64_t end = std::min(p.end - 1, begin + kBlock);
      std::vector<int32_t> in, out;
      for (int64_t i = begin; i < end; ++i) {
        in.push_back(tokens[i]);
        out.push_back(tokens[i + 1]);
      }
      if (!carry) state = {};
      const Variable hidden = model.hidden(Tensor::from<int32_t>({1, end - begin}, in), &state);
      for (const double loss :
           row_losses(model, hidden, Tensor::from<int32_t>({1, end - begin}, out)))
        sum += loss;
      targets += double(end - begin);
    }
  }
  return sum / targets;
}

TEST(CarriedLosses, AreThoseOfOneDocumentAfterAnother) {
  const Documents text({30, 9, 17, 2, 22, 15});
  const auto model = make_model(kSlots);
  const double carried = by_hand(*model, text.tokens(), true),
               reset = by_hand(*model, text.tokens(), false);
  EXPECT_GT(std::abs(carried - reset), 1e-6);
  for (const int64_t batch : {1, 2, 4, 16}) {
    const CarriedResult r = evaluate_carried(*model, text.windows(batch));
    EXPECT_NEAR(r.loss, carried, 1e-9) << batch;
    EXPECT_NEAR(r.loss_reset, reset, 1e-9) << batch;
    EXPECT_EQ(r.predictions, 30 + 9 + 17 + 2 + 22 + 15 - 6);
    EXPECT_EQ(r.texts, 6);
    EXPECT_EQ(r.change.texts, 5);  // one has no second window
    EXPECT_EQ(r.by_position.size(), size_t(kBlock));
    ASSERT_TRUE(r.change.low && r.change.high);
    EXPECT_LE(*r.change.low, r.change.mean);
    EXPECT_GE(*r.change.high, r.change.mean);
  }
}

TEST(CarriedLosses, OfAModelWithoutMemoryAreThoseOfResetWindows) {
  const Documents text({30, 9, 17, 22});
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY "}");
  const CarriedResult r = evaluate_carried(*model, text.windows(3));
  EXPECT_EQ(r.loss, r.loss_reset);
  EXPECT_EQ(r.change.mean, 0);
}

TEST(CarriedLosses, AreTheSameOnAnyNumberOfRanks) {
  const Documents text({30, 9, 17, 2, 22, 15, 8, 40});
  const auto model = make_model(kSlots);
  const Json one = evaluate_carried(*model, text.windows(2)).json();
  const auto errors = testing::run_ranks(2, [&](Communicator& communicator) {
    const auto own = make_model(kSlots);
    EXPECT_EQ(evaluate_carried(*own, text.windows(2), communicator).json(), one);
  });
  EXPECT_THAT(errors, ::testing::Each(""));
}

TEST(CarriedLosses, IntervalsHoldTheMeanAndNeedTwoTexts) {
  std::vector<PairedSums> texts;
  for (int i = 0; i < 20; ++i) texts.push_back({10, 12 + 0.1 * i, 5});
  const LossChange rises = loss_change(texts);
  EXPECT_NEAR(rises.mean, (2 + 0.95) / 5, 1e-12);
  // 0.59 and Student's t of 19 degrees, 2.0930, times 0.11832 / sqrt(20).
  EXPECT_NEAR(*rises.low, 0.534623, 1e-4);
  EXPECT_NEAR(*rises.high, 0.645377, 1e-4);
  EXPECT_TRUE(rises.rises());
  EXPECT_FALSE(rises.falls());
  EXPECT_FALSE(loss_change({texts[0]}).low);
  // However sure, less than a thousandth of a nat is no use.
  std::vector<PairedSums> faint;
  for (int i = 0; i < 20; ++i) faint.push_back({10, 10.004 + 1e-5 * i, 5});
  EXPECT_GT(*loss_change(faint).low, 0);
  EXPECT_FALSE(loss_change(faint).rises());
  // Two texts that agree by luck say little.
  EXPECT_FALSE(loss_change({{10, 11, 5}, {10, 12, 5}}).rises());
  EXPECT_EQ(loss_change({{}, {}}).predictions, 0);
  // As often up as down: no change is found.
  std::vector<PairedSums> noise;
  for (int i = 0; i < 20; ++i) noise.push_back({10, i % 2 ? 11.0 : 9.0, 5});
  EXPECT_FALSE(loss_change(noise).rises());
  EXPECT_FALSE(loss_change(noise).falls());
}

// ---- audits -------------------------------------------------------------------------------------

struct LeakOptions final : Fieldset {
  std::string kind;
  void fields(Fields& f) override { f.text("kind", kind, {}, "which leak"); }
};
// Carries the mean of what it wrote. From the `from`th window of a text on, row t reads row t + 1
// ("ahead"), or the memory of the row above ("other_text").
class CarriedLeak final : public MemoryModule {
 public:
  CarriedLeak(const LeakOptions& o, const MemorySite& site) : kind_(o.kind) {
    write_ = &child<Linear>("write", site.features, site.features, LinearOptions{}, site.build);
  }
  bool incremental() const override { return false; }
  bool carries_memory() const override { return true; }
  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable& x = view.hidden;
    const std::string layer = std::to_string(view.layer) + ".";
    const int64_t batch = x.size(0), time = x.size(1), window = state.counters[layer + "windows"]++;
    const Variable written = write_->forward(x);
    Variable& memory = state.values[layer + "mean"];
    Variable out = x;
    if (memory) {
      Variable read = memory;
      if (kind_ == "other_text" && batch > 1)
        read = concat({slice(memory, 0, batch - 1, batch), slice(memory, 0, 0, batch - 1)}, 0);
      out = add(out, expand(read, 1, time));
    }
    const int64_t from = kind_ == "ahead" ? 1 : kind_ == "ahead_late" ? 9 : 1000;
    if (window >= from && time > 1)
      out = add(out, concat({slice(written, 1, 1, time),
                             Variable(Tensor::zeros({batch, 1, x.size(2)}, x.dtype()))},
                            1));
    memory = reshape(mean(written, 1), {batch, 1, x.size(2)});
    return out;
  }

 private:
  std::string kind_;
  Linear* write_;
};
REVERIE_REGISTER_MEMORY("test_carried_leak", CarriedLeak, LeakOptions, "for tests: it cheats");

Verdict audited(const std::string& kind) {
  const Documents text({90, 85, 70, 88});  // up to 13 windows
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY
                                R"(,"memory":{"type":"test_carried_leak","kind":")" +
                                kind + "\"}}");
  ForwardAudit audit(3, 0);
  evaluate_carried(*model, text.windows(4), single_communicator(), {}, &audit);
  return audit.verdict();
}

TEST(CarriedAudit, MemoryOfEarlierWindowsIsNoLeak) {
  const Verdict verdict = audited("none");
  EXPECT_TRUE(verdict.causal()) << verdict.line();
  EXPECT_TRUE(verdict.not_probed().empty());
}
TEST(CarriedAudit, FindsAMemoryThatReadsAheadOnceItIsCarried) {
  EXPECT_TRUE(audited("ahead").leaks());
}
TEST(CarriedAudit, FindsOneThatReadsAheadInLateWindowsOnly) {
  EXPECT_TRUE(audited("ahead_late").leaks());
}
TEST(CarriedAudit, FindsAnotherTextsMemory) {
  EXPECT_TRUE(audited("other_text").leaks());
}

}  // namespace
}  // namespace reverie
