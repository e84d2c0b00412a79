// Latents that are made while the base writes: the same text as when it waits, and a whole one
// whatever becomes of the coprocessor.

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <thread>
#include <tuple>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/json.h"
#include "support/tests_directory.h"
#include "trainers/checks/mask_check.h"
#include "trainers/generation/generate.h"
#include "trainers/generation/latents_aside.h"

namespace reverie::aside_tests {
namespace {

using Tokens = std::vector<int32_t>;
using Text = AugmentedModel::Text;

constexpr const char* kEmbeddings = R"({"type": "coprocessor", "count": 5, "initial": "scratch"})";
constexpr const char* kCacheRows =
    R"({"type": "coprocessor", "count": 4, "initial": "scratch", "writes": "cache"})";
const Tokens kBeginning = {7, 3, 55, 20, 1, 42, 9, 33, 60};
constexpr int64_t kLength = 12;
constexpr double kPatience = 60;

std::shared_ptr<AugmentedModel> beside(const std::string& base, const char* latents,
                                       DType dtype = DType::f64, uint64_t seed = 11) {
  const Json config = {{"type", "augmented"},
                       {"base", testing::test_directory() + "/golden/pretrained/" + base},
                       {"latents", parse_json(latents)},
                       {"block_size", 32},
                       {"groups", 2},
                       {"ahead", 4}};
  Generator random(seed);
  const ModelRegistry& models = ModelRegistry::instance();
  std::shared_ptr<LanguageModel> model =
      models.make(resolve_component(models, Config(config, "$.model")), Build{random, dtype});
  draw_zero_parameters(*model, random);
  model->train(false);
  return std::dynamic_pointer_cast<AugmentedModel>(model);
}

GenerateOptions drawn(int64_t tokens, std::vector<std::shared_ptr<LatentSupplier>> latents) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.temperature = 1.5;
  options.seed = 3;
  options.latents = std::move(latents);
  return options;
}
Tokens written(AugmentedModel& model, std::vector<std::shared_ptr<LatentSupplier>> latents,
               const Tokens& prompt = kBeginning, int64_t tokens = kLength) {
  return generate(model.base(), prompt, drawn(tokens, std::move(latents)));
}
std::shared_ptr<LatentSupplier> waited_for(AugmentedModel& model, int64_t late) {
  return std::make_shared<BlockingLatents>(model, late);
}
std::shared_ptr<LatentsAside> made_aside(std::shared_ptr<AugmentedModel> model, Aside where,
                                         std::optional<int64_t> late, MakeLatents make = {},
                                         double longest_wait = kPatience) {
  return std::make_shared<LatentsAside>(std::move(model), AsideOptions{where, late, longest_wait},
                                        std::move(make));
}

// ---- the same text ---------------------------------------------------------------
struct Kind {
  const char* name;
  const char* base;
  const char* latents;
  DType dtype;
};
void PrintTo(const Kind& c, std::ostream* out) {
  *out << c.name;
}

class PinnedLatents : public ::testing::TestWithParam<Kind> {};
TEST_P(PinnedLatents, GiveTheTextOfABaseThatWaits) {
  const Kind& c = GetParam();
  const auto model = beside(c.base, c.latents, c.dtype);
  const Tokens alone = written(*model, {});
  for (const int64_t late : {0, 3}) {
    const Tokens waited = written(*model, {waited_for(*model, late)});
    EXPECT_NE(waited, alone);
    for (const Aside where : {Aside::thread, Aside::process}) {
      const auto latents = made_aside(model, where, late);
      EXPECT_EQ(written(*model, {latents}), waited) << late;
      EXPECT_EQ(latents->report().failure, "");
      EXPECT_EQ(latents->report().arrived_after, late);
      EXPECT_GE(latents->report().seconds.value_or(-1), 0);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(
    Kinds, PinnedLatents,
    ::testing::Values(
        Kind{"llama", "llama", kEmbeddings, DType::f32},
        Kind{"gpt2", "gpt2", kEmbeddings, DType::f64},
        Kind{"gemma3", "gemma3", kEmbeddings, DType::f64},
        Kind{"cache", "llama", kCacheRows, DType::f32},
        Kind{"lora", "llama", R"({"type": "coprocessor", "count": 5, "initial": "lora"})",
             DType::f64},
        Kind{"last_hidden", "llama",
             R"({"type": "coprocessor", "count": 4, "reads": "last_hidden", "initial": "scratch"})",
             DType::f64},
        Kind{"icae", "llama", R"({"type": "icae", "count": 5, "rank": 3})", DType::f64},
        Kind{"soft", "llama", R"({"type": "soft_embeddings", "count": 3})", DType::f64}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(LatentsMadeAside, AreThoseOfABaseThatWaitsToTheBit) {
  const auto model = beside("llama", kEmbeddings, DType::f32);
  const NoGrad no_grad;
  SequenceState state;
  state.use_cache = true;
  const Tensor tokens = Tensor::from<int32_t>({1, int64_t(kBeginning.size())}, kBeginning);
  const Variable hidden = model->base().hidden(tokens, &state);
  const Tensor waited = model->latents_for(state, hidden, tokens).tensor();
  for (const Aside where : {Aside::thread, Aside::process}) {
    const auto latents = made_aside(model, where, 0);
    latents->begin(state, hidden, tokens);
    EXPECT_TRUE(bit_identical(latents->due(0).tensor(), waited));
  }
}

TEST(LatentsMadeAside, EnterAtTheFirstTokenAfterTheyAreReady) {
  const auto model = beside("llama", kCacheRows);
  for (const int64_t ready_after : {1, 4, 11}) {
    // The coprocessor begins when the base has written so many tokens: it must still see the text
    // as it was at the prompt's end.
    std::atomic<bool> begin{false};
    const auto latents =
        made_aside(model, Aside::thread, {}, [&](AugmentedModel& m, const Text& text) {
          while (!begin) std::this_thread::sleep_for(std::chrono::microseconds(50));
          return m.latents_for(text);
        });
    int64_t count = 0;
    const Tokens text =
        generate(model->base(), kBeginning, drawn(kLength, {latents}), [&](int32_t) {
          if (++count != ready_after) return;
          begin = true;
          EXPECT_TRUE(latents->ended_within(kPatience));
        });
    EXPECT_EQ(latents->report().arrived_after, ready_after);
    EXPECT_EQ(text, written(*model, {waited_for(*model, ready_after)}));
  }
}

TEST(LatentsMadeAside, EnterSeveralTextsAtOnce) {
  const auto model = beside("llama", kEmbeddings);
  const auto write = [&](std::shared_ptr<LatentSupplier> latents) {
    return generate_samples(model->base(), kBeginning, 3, drawn(kLength, {std::move(latents)}));
  };
  EXPECT_EQ(write(made_aside(model, Aside::thread, 2)), write(waited_for(*model, 2)));
}

// ---- several coprocessors ----------------------------------------------------------
// The likeliest tokens behind a prompt, with latents of `models` at `late`, put in by hand.
Tokens written_by_hand(const std::vector<std::shared_ptr<AugmentedModel>>& models,
                       const std::vector<int64_t>& late) {
  const NoGrad no_grad;
  Transformer& base = models[0]->base();
  SequenceState state;
  state.use_cache = true;
  Tensor read = Tensor::from<int32_t>({1, int64_t(kBeginning.size())}, kBeginning);
  Variable hidden = base.hidden(read, &state);
  std::vector<Variable> latents;
  for (const auto& model : models) latents.push_back(model->latents_for(state, hidden, read));
  Tokens text;
  Tensor last = Tensor::from<int32_t>({1, 1}, {kBeginning.back()});
  for (int64_t i = 0; i < kLength; ++i) {
    if (i > 0) hidden = base.hidden(last, &state);
    for (size_t m = 0; m < models.size(); ++m)
      if (late[m] == i) hidden = models[m]->insert(state, last, latents[m]);
    const auto logits =
        base.logits_of(slice(hidden, 1, hidden.size(1) - 1, hidden.size(1))).tensor().to_vector();
    text.push_back(int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    last = Tensor::from<int32_t>({1, 1}, {text.back()});
  }
  return text;
}

TEST(SeveralCoprocessors, ArriveAtTheirOwnTimes) {
  const auto rows = beside("llama", kCacheRows), first = beside("llama", kEmbeddings),
             second = beside("llama", R"({"type": "soft_embeddings", "count": 3})", DType::f64, 5);
  const std::vector<std::tuple<int64_t, int64_t, int64_t>> cases = {
      {2, 5, 7}, {4, 4, 4}, {6, 0, 1}, {0, 0, 0}};
  for (const auto& [late_first, late_rows, late_second] : cases) {
    // Where they come together, the one that writes into the cache goes first.
    const Tokens wanted =
        written_by_hand({rows, first, second}, {late_rows, late_first, late_second});
    const auto options = [](std::vector<std::shared_ptr<LatentSupplier>> latents) {
      GenerateOptions o = drawn(kLength, std::move(latents));
      o.temperature = 0;
      return o;
    };
    EXPECT_EQ(generate(first->base(), kBeginning,
                       options({waited_for(*first, late_first), waited_for(*rows, late_rows),
                                waited_for(*second, late_second)})),
              wanted);
    for (const Aside where : {Aside::thread, Aside::process})
      EXPECT_EQ(generate(first->base(), kBeginning,
                         options({made_aside(first, where, late_first),
                                  made_aside(rows, where, late_rows),
                                  made_aside(second, where, late_second)})),
                wanted);
  }
}

TEST(SeveralCoprocessors, OneThatFailsLeavesTheOthers) {
  const auto first = beside("llama", kEmbeddings), second = beside("llama", kCacheRows);
  const auto broken =
      made_aside(first, Aside::thread, 2, [](AugmentedModel&, const Text&) -> Variable {
        throw std::runtime_error("no memory of it");
      });
  EXPECT_EQ(written(*first, {broken, made_aside(second, Aside::thread, 3)}),
            written(*first, {waited_for(*second, 3)}));
  EXPECT_EQ(broken->report().failure, "no memory of it");
}

TEST(SeveralCoprocessors, OneThatHidesTheTextIsRefused) {
  const auto icae = beside("llama", R"({"type": "icae", "count": 5, "rank": 3})"),
             other = beside("llama", kEmbeddings);
  EXPECT_THROW(written(*icae, {waited_for(*icae, 0), waited_for(*other, 0)}), UserError);
}

// ---- a coprocessor that fails --------------------------------------------------------
struct Failure {
  const char* name;
  MakeLatents make;
  const char* message;
};
const std::vector<Failure>& failures() {
  static const std::vector<Failure> all = {
      {"throws",
       [](AugmentedModel&, const Text&) -> Variable { throw std::runtime_error("broken"); },
       "broken"},
      {"throws a number", [](AugmentedModel&, const Text&) -> Variable { throw 42; },
       "no std::exception"},
      {"runs out of memory",
       [](AugmentedModel&, const Text&) -> Variable { throw std::bad_alloc(); }, "out of memory"},
      {"gives none", [](AugmentedModel&, const Text&) { return Variable(); }, "(none)"},
      {"gives another shape",
       [](AugmentedModel& m, const Text& text) { return slice(m.latents_for(text), 1, 0, 2); },
       "[1, 2, "},
      {"gives no numbers",
       [](AugmentedModel& m, const Text& text) {
         Tensor broken = m.latents_for(text).tensor().clone();
         broken.fill(std::numeric_limits<double>::quiet_NaN());
         return Variable(broken);
       },
       "not finite"}};
  return all;
}

TEST(FailingCoprocessor, LeavesTheBasesOwnText) {
  const auto model = beside("llama", kEmbeddings);
  // The longer prompt fills the context: room that was kept for latents is given back.
  for (const Tokens& prompt : {kBeginning, Tokens(200, 4)}) {
    const Tokens alone = written(*model, {}, prompt);
    for (const Failure& f : failures())
      for (const Aside where : {Aside::thread, Aside::process})
        for (const auto late :
             {std::optional<int64_t>(0), std::optional<int64_t>(5), std::optional<int64_t>()}) {
          const auto latents = made_aside(model, where, late, f.make);
          EXPECT_EQ(written(*model, {latents}, prompt), alone) << f.name;
          EXPECT_TRUE(latents->ended_within(kPatience));
          EXPECT_NE(latents->report().failure.find(f.message), std::string::npos)
              << f.name << ": " << latents->report().failure;
          EXPECT_FALSE(latents->report().arrived_after) << f.name;
        }
  }
}

TEST(FailingCoprocessor, MayEndItsProcessInAnyWay) {
  const auto model = beside("llama", kEmbeddings);
  const Tokens alone = written(*model, {});
  for (const int signal : {SIGSEGV, SIGABRT, SIGKILL}) {
    const auto latents =
        made_aside(model, Aside::process, 3, [signal](AugmentedModel&, const Text&) -> Variable {
          ::signal(signal, SIG_DFL);  // without a sanitizer's report
          ::raise(signal);
          return {};
        });
    EXPECT_EQ(written(*model, {latents}), alone);
    EXPECT_NE(latents->report().failure.find("signal " + std::to_string(signal)), std::string::npos)
        << latents->report().failure;
  }
}

TEST(CoprocessorThatTakesForEver, LeavesTheBasesOwnText) {
  const auto model = beside("llama", kEmbeddings);
  const Tokens alone = written(*model, {});
  std::atomic<bool> end{false};
  const MakeLatents waits = [&end](AugmentedModel& m, const Text& text) {
    while (!end) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return m.latents_for(text);
  };
  for (const auto late :
       {std::optional<int64_t>(0), std::optional<int64_t>(5), std::optional<int64_t>()}) {
    for (const Aside where : {Aside::thread, Aside::process}) {
      const auto latents = made_aside(model, where, late, waits, 0.02);
      EXPECT_EQ(written(*model, {latents}), alone);
      EXPECT_EQ(latents->report().failure, late ? "no latents after 0.02 seconds" : "");
      EXPECT_FALSE(latents->report().arrived_after);
      EXPECT_FALSE(latents->report().seconds);
    }
  }
  // Threads are left to themselves, and processes are not.
  EXPECT_EQ(LatentsAside::left_alone(), 3);
  end = true;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::duration<double>(kPatience);
  while (LatentsAside::left_alone() > 0 && std::chrono::steady_clock::now() < limit)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(LatentsAside::left_alone(), 0);
}

// ---- the context -----------------------------------------------------------------------
TEST(LateLatents, LeaveTheBasesOwnTextBeforeThemAlsoWhereTheContextIsFull) {
  const auto model = beside("llama", kEmbeddings);
  const int64_t block = model->base().block_size();
  for (const int64_t prompt : {block - 6, block - 2, block + 9})
    for (const int64_t late : {1, 4, 30}) {
      const Tokens text(size_t(prompt), 4);
      const Tokens alone = written(*model, {}, text, 50),
                   with = written(*model, {waited_for(*model, late)}, text, 50);
      EXPECT_EQ(with.size(), 50u);
      EXPECT_EQ(Tokens(with.begin(), with.begin() + late),
                Tokens(alone.begin(), alone.begin() + late));
      EXPECT_NE(with, alone);
      EXPECT_EQ(written(*model, {made_aside(model, Aside::thread, late)}, text, 50), with);
    }
}

TEST(LatentsMadeAside, RefuseWhatCannotBe) {
  const auto model = beside("llama", kEmbeddings);
  EXPECT_THROW(made_aside(model, Aside::thread, -1), UserError);
  EXPECT_THROW(made_aside(model, Aside::thread, 0, {}, -1), UserError);
  EXPECT_THROW(waited_for(*model, -1), UserError);
  GenerateOptions both = drawn(3, {waited_for(*model, 0)});
  both.latents_late = 0;
  EXPECT_THROW(generate(*model, kBeginning, both), UserError);
  // Dropout must be off, and stay so.
  model->train(true);
  EXPECT_THROW(made_aside(model, Aside::thread, 0), InternalError);
}

}  // namespace
}  // namespace reverie::aside_tests
