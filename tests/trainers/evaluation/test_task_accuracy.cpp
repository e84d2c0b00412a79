#include "trainers/evaluation/task_accuracy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "datasets/dataset.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tiny_models.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

// Knows the text by heart, but says it only where it carries the state of a window before of the same
// document; else it says token 0, which is no answer.
class KnowsByHeart final : public LanguageModel {
 public:
  KnowsByHeart(const TokenFile& text, int64_t block_size, bool carries)
      : text_(text), block_size_(block_size), carries_(carries) {
    Tensor one = Tensor::zeros({text.vocabulary_size(), text.vocabulary_size()}, DType::f32);
    for (int64_t i = 0; i < text.vocabulary_size(); ++i)
      one.mutable_data<float>()[i * text.vocabulary_size() + i] = 1;
    head_ = Variable(one);
    std::vector<int32_t> window(static_cast<size_t>(block_size));
    for (int64_t at = 0; at + block_size < text.count(); at += block_size) {
      text.copy(at, window);
      starts_[window] = at;
    }
  }
  int64_t vocabulary_size() const override { return text_.vocabulary_size(); }
  int64_t block_size() const override { return block_size_; }
  Variable hidden(const Tensor& tokens, SequenceState* state) override {
    const int64_t batch = tokens.size(0), time = tokens.size(1), v = vocabulary_size();
    Tensor out = Tensor::zeros({batch, time, v}, DType::f32),
           seen = Tensor::zeros({batch, 1}, DType::f32);
    const Variable before = state ? state->memory.values["document"] : Variable();
    for (int64_t b = 0; b < batch; ++b) {
      const int32_t* row = tokens.data<int32_t>() + b * time;
      const int64_t start = starts_.at(std::vector<int32_t>(row, row + time));
      const auto document = float(1 + start / 90);
      const bool knows = before && before.tensor().contiguous().data<float>()[b] == document;
      seen.mutable_data<float>()[b] = document;
      for (int64_t t = 0; t < time; ++t)
        out.mutable_data<float>()[(b * time + t) * v + (knows ? text_[start + t + 1] : 0)] = 1;
    }
    if (state) state->memory.values["document"] = Variable(seen);
    return Variable(out);
  }
  const Variable& head() const override { return head_; }
  bool incremental() const override { return false; }
  bool carries_memory() const override { return carries_; }
  double forward_flops_per_token(int64_t) const override { return 0; }

 private:
  TokenFile text_;
  int64_t block_size_;
  bool carries_;
  Variable head_;
  std::map<std::vector<int32_t>, int64_t> starts_;
};

class TaskAccuracy : public ::testing::Test {
 protected:
  void SetUp() override {
    DataOptions o;
    o.generated =
        resolve_component(TaskRegistry::instance(), Config(Json{{"type", "recall"},
                                                                {"window", 30},
                                                                {"windows", 3},
                                                                {"documents", 2},
                                                                {"validation_documents", 2},
                                                                {"test_documents", 11}},
                                                           "$"));
    o.prepared_directory = directory_ / "data";
    data_ = prepare_and_open(o);
    std::vector<int32_t> distances(static_cast<size_t>(data_.test.count()));
    read_distances(data_.test_answers, 0, distances);
    for (size_t i = 0; i < distances.size(); ++i) {
      if (distances[i] < 0) continue;
      ++answers_[distances[i]];
      late_answers_[distances[i]] += i % 90 >= 30;
    }
  }
  std::vector<DistanceAccuracy> measure(LanguageModel& model,
                                        CarriedState state = CarriedState::as_model,
                                        int64_t documents = 0) {
    return task_accuracy(model, data_.test, data_.test_answers, *data_.task, documents, 4, state);
  }
  testing::TemporaryDirectory directory_;
  Dataset data_;
  std::map<int64_t, int64_t> answers_, late_answers_;
};

TEST_F(TaskAccuracy, CountsAnswersByTheirDistance) {
  KnowsByHeart model(data_.test, 30, true);
  const auto with = measure(model), without = measure(model, CarriedState::reset);
  ASSERT_EQ(with.size(), 3u);
  for (int64_t d = 0; d < 3; ++d) {
    const DistanceAccuracy &a = with[size_t(d)], &b = without[size_t(d)];
    EXPECT_EQ(a.distance, d);
    EXPECT_EQ(a.chance, 1.0 / 16);
    EXPECT_EQ(a.of, answers_[d]);
    EXPECT_EQ(a.right, late_answers_[d]);
    EXPECT_EQ(b.of, answers_[d]);
    EXPECT_EQ(b.right, 0);
  }
  EXPECT_GT(with[1].right, 0);
  EXPECT_LT(with[0].right, with[0].of) << "the first window is not known";
}
TEST_F(TaskAccuracy, AModelWithoutMemoryIsGivenNone) {
  KnowsByHeart model(data_.test, 30, false);
  for (const DistanceAccuracy& a : measure(model)) EXPECT_EQ(a.right, 0);
}
// 11 documents, four at a time: the memory of the one beside it says nothing. The first windows carry
// none in any case.
TEST_F(TaskAccuracy, AnotherDocumentsMemoryIsAskedInItsPlace) {
  KnowsByHeart model(data_.test, 30, true);
  const auto with = measure(model), swapped = measure(model, CarriedState::swapped);
  for (size_t d = 0; d < 3; ++d) {
    EXPECT_EQ(swapped[d].of, with[d].of);
    EXPECT_EQ(swapped[d].right, 0);
  }
  // A document alone in its batch has none beside it.
  const auto nine = task_accuracy(model, data_.test, data_.test_answers, *data_.task, 9, 4,
                                  CarriedState::swapped),
             eight = task_accuracy(model, data_.test, data_.test_answers, *data_.task, 9, 9,
                                   CarriedState::swapped);
  EXPECT_LT(nine[1].of, eight[1].of);
}
TEST_F(TaskAccuracy, TheForwardsThatAreCountedAreAudited) {
  for (const char* mode : {"as_published", "causal_mean"}) {
    const auto model = testing::make_model(
        fmt::format(R"({{"type":"gpt2","vocab_size":{},"block_size":30,"n_layer":1,"n_head":1,)"
                    R"("n_embd":8,"memory":{{"type":"imm","mode":"{}"}}}})",
                    data_.test.vocabulary_size(), mode),
        DType::f32);
    ForwardAudit audit(3, 0);
    task_accuracy(*model, data_.test, data_.test_answers, *data_.task, 0, 4, CarriedState::as_model,
                  &audit);
    EXPECT_EQ(audit.verdict().leaks(), std::string(mode) == "as_published") << mode;
    EXPECT_FALSE(audit.verdict().probed().empty());
    EXPECT_THAT(audit.verdict().not_probed(), ::testing::IsEmpty());
  }
}
TEST_F(TaskAccuracy, RefusesToReplaceAMemoryThatIsNotThere) {
  KnowsByHeart model(data_.test, 30, false);
  for (const CarriedState state : {CarriedState::reset, CarriedState::swapped})
    EXPECT_THAT(testing::message_of<UserError>([&] { measure(model, state); }),
                ::testing::HasSubstr("carries no memory"));
}
TEST_F(TaskAccuracy, ReadsSomeDocuments) {
  KnowsByHeart model(data_.test, 30, true);
  int64_t all = 0, some = 0;
  for (const DistanceAccuracy& a : measure(model)) all += a.of;
  for (const DistanceAccuracy& a : measure(model, CarriedState::as_model, 3)) some += a.of;
  EXPECT_GT(some, 0);
  EXPECT_LT(some, all / 2);
}
TEST_F(TaskAccuracy, WantsBlocksOfWindows) {
  KnowsByHeart model(data_.test, 20, true);
  EXPECT_THROW(measure(model), UserError);
}

}  // namespace
}  // namespace reverie
