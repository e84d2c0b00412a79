#include "trainers/evaluation/evaluate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::kTinyModels;
using testing::make_model;
using testing::NamedModel;
using testing::random_tokens;

constexpr int64_t kVocabulary = 13;

// `count` random tokens as a token file.
class Text {
 public:
  explicit Text(int64_t count) {
    const std::string file = directory_ / "text.tok";
    TokenFileWriter writer(file, kVocabulary, "", "");
    const auto values = random_tokens(1, count, kVocabulary, 11).to_vector();
    writer.append(std::vector<int32_t>(values.begin(), values.end()));
    writer.finish();
    tokens_ = open_tokens(file);
  }
  const TokenFile& tokens() const { return tokens_; }

 private:
  testing::TemporaryDirectory directory_;
  TokenFile tokens_;
};

// -log softmax(logits)[target], from the definition.
double negative_log_probability(const double* logits, int32_t target) {
  double total = 0;
  for (int64_t i = 0; i < kVocabulary; ++i) total += std::exp(logits[i]);
  return std::log(total) - logits[target];
}

// One window at a time, straight from the definition. `prefix_only`: row t from rows 0..t alone.
EvaluationResult by_hand(LanguageModel& model, const EvaluationWindows& windows, bool prefix_only) {
  NoGrad guard;
  EvaluationResult result;
  for (int64_t b = 0; b < windows.batch_count(); ++b) {
    const Batch batch = windows.batch(b);
    for (int64_t row = 0; row < batch.tokens.size(0); ++row) {
      const Tensor tokens = batch.tokens.slice(0, row, row + 1).contiguous();
      const int64_t length = tokens.size(1);
      for (int64_t t = 0; t < length; ++t) {
        const int64_t seen = prefix_only ? t + 1 : length;
        const auto logits =
            model.logits(tokens.slice(1, 0, seen).contiguous()).tensor().to_vector();
        const int32_t target = batch.targets.data<int32_t>()[row * length + t];
        result.loss += negative_log_probability(&logits[size_t(t * kVocabulary)], target);
        ++result.targets;
      }
    }
  }
  result.loss /= double(result.targets);
  return result;
}

class EveryModel : public ::testing::TestWithParam<NamedModel> {};

// Rows shorter than the model's block, a batch with fewer of them, and a shorter last window.
TEST_P(EveryModel, AgreesWithTheDefinition) {
  const Text text(60);
  const EvaluationWindows windows(text.tokens(), 3, 11, 0);
  ASSERT_EQ(windows.window_count(), 6);
  const auto model = make_model(GetParam().json);
  model->train(false);
  const EvaluationResult teacher_forced = evaluate(*model, windows);
  const EvaluationResult prefix_only = evaluate_prefix_only(*model, windows);
  EXPECT_EQ(teacher_forced.targets, 59);
  EXPECT_EQ(prefix_only.targets, 59);
  EXPECT_NEAR(teacher_forced.loss, by_hand(*model, windows, false).loss, 1e-9);
  EXPECT_NEAR(prefix_only.loss, by_hand(*model, windows, true).loss, 1e-9);
  if (GetParam().causal) {
    EXPECT_NEAR(prefix_only.loss, teacher_forced.loss, 1e-9);
  } else {
    EXPECT_GT(std::abs(prefix_only.loss - teacher_forced.loss), 1e-3);
  }
}
INSTANTIATE_TEST_SUITE_P(Evaluate, EveryModel, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Evaluate, DropsNothingRecordsNothingAndRestoresTheMode) {
  const Text text(60);
  const EvaluationWindows windows(text.tokens(), 2, 19, 0);
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY R"(,"dropout":0.5})");
  const uint64_t place = default_generator().offset();
  model->train(false);
  const double quiet = evaluate(*model, windows).loss;
  const double quiet_prefix = evaluate_prefix_only(*model, windows).loss;
  EXPECT_FALSE(model->training());
  model->train(true);
  EXPECT_EQ(evaluate(*model, windows).loss, quiet);
  EXPECT_TRUE(model->training());
  EXPECT_EQ(evaluate_prefix_only(*model, windows).loss, quiet_prefix);
  EXPECT_TRUE(model->training());
  EXPECT_EQ(default_generator().offset(), place);
  EXPECT_TRUE(grad_enabled());
  for (const auto& [name, parameter] : model->parameters())
    EXPECT_FALSE(parameter.grad().defined()) << name;
}

// A loss() of its own, which is handed the targets, is what training follows; figures are of the
// logits.
class WithItsOwnLoss final : public LanguageModel {
 public:
  explicit WithItsOwnLoss(LanguageModel& model) : model_(model) {}
  int64_t vocabulary_size() const override { return model_.vocabulary_size(); }
  int64_t block_size() const override { return model_.block_size(); }
  Variable hidden(const Tensor& tokens, SequenceState* state) override {
    return model_.hidden(tokens, state);
  }
  const Variable& head() const override { return model_.head(); }
  bool incremental() const override { return false; }
  bool carries_memory() const override { return false; }
  double forward_flops_per_token(int64_t) const override { return 0; }
  Variable loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                SequenceState* state) override {
    return model_.loss(tokens, targets, weight_per_target / 4, state);
  }

 private:
  LanguageModel& model_;
};

TEST(Evaluate, ScoresLogitsWhateverLossTheModelIsTrainedWith) {
  const Text text(60);
  const EvaluationWindows windows(text.tokens(), 2, 19, 0);
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY "}");
  WithItsOwnLoss other(*model);
  EXPECT_EQ(evaluate(other, windows).loss, evaluate(*model, windows).loss);
  EXPECT_EQ(evaluate_prefix_only(other, windows).loss, evaluate_prefix_only(*model, windows).loss);
}

TEST(ForwardAudit, WithoutACopyThisProcessReadsThePrefixesFirst) {
  for (const NamedModel& named : kTinyModels) {
    const auto model = make_model(named.json);
    const EvaluationMode mode(*model);
    ForwardAudit audit(3, 0, 2);  // of two ranks
    audit.hidden(*model, random_tokens(3, 17, kVocabulary, 5));
    ASSERT_TRUE(audit.verdict().asked()) << named.name;
    EXPECT_EQ(audit.verdict().causal(), named.causal) << audit.verdict().line();
    ASSERT_EQ(audit.verdict().not_probed().size(), 1);
    EXPECT_THAT(audit.verdict().not_probed()[0], HasSubstr("would lack the others"));
    EXPECT_THAT(audit.verdict().probed()[0], HasSubstr("forwards of this process that saw"));
  }
}

TEST(ForwardAudit, WhereOneEvaluationIsAllMoreOfItIsAudited) {
  const auto audited = [](const ForwardAudit& audit, int64_t batches) {
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < batches; ++i)
      if (audit.audits(i, batches)) chosen.push_back(i);
    return chosen;
  };
  const ForwardAudit once = ForwardAudit::once(60), one_of_many(60, 3);
  for (const int64_t batches : {1, 2, 3, 8, 9, 40, 1000}) {
    const std::vector<int64_t> most = audited(once, batches), few = audited(one_of_many, batches);
    EXPECT_EQ(int64_t(most.size()), std::min<int64_t>(batches, ForwardAudit::kOnceBetween + 2));
    EXPECT_EQ(int64_t(few.size()), std::min<int64_t>(batches, 3));
    EXPECT_EQ(most.front(), 0);
    EXPECT_EQ(most.back(), batches - 1);
  }
}

TEST(Evaluate, TheModeIsRestoredAfterAnError) {
  const Text text(60);
  const EvaluationWindows too_long(text.tokens(), 2, 25, 0);  // the model's block is 19
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY "}");
  EXPECT_THROW(evaluate(*model, too_long), UserError);
  EXPECT_TRUE(model->training());
  EXPECT_TRUE(grad_enabled());
}

TEST(Evaluate, ALossThatIsNotFiniteIsNoResult) {
  const Text text(60);
  const EvaluationWindows windows(text.tokens(), 2, 19, 0);
  const auto model = make_model(R"({"type":"gpt2",)" REVERIE_TINY "}");
  for (auto& [name, parameter] : model->parameters()) {
    Tensor values = parameter.tensor();
    values.copy_from(Tensor::full(values.shape(), NAN, values.dtype()));
  }
  EXPECT_THROW(evaluate(*model, windows), DivergedError);
  EXPECT_THROW(evaluate_prefix_only(*model, windows), DivergedError);
  EXPECT_TRUE(model->training());
}

TEST(Evaluate, AnF32ModelLosesNothingOverManyBatches) {
  const Text text(8000);
  const EvaluationWindows windows(text.tokens(), 4, 19, 0);
  const char* json = R"({"type":"gpt2",)" REVERIE_TINY "}";
  const double wanted = evaluate(*make_model(json, DType::f64), windows).loss;
  EXPECT_NEAR(evaluate(*make_model(json, DType::f32), windows).loss, wanted, 1e-6 * wanted);
}

}  // namespace
}  // namespace reverie
