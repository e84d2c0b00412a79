// Rematerialised blocks in every context that trains: the same bits, fewer bytes. (Plain models:
// test_transformer.cpp.)

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/precision.h"
#include "core/storage.h"
#include "layers/memory/explicit_decoder.h"
#include "layers/model_checks.h"
#include "support/registered_components.h"

namespace reverie {
namespace {

using testing::build_model;
using testing::fill_zero_parameters;
using testing::model_with_latents;
using testing::random_tokens;
using testing::RegisteredCase;

const std::string kBases = testing::test_directory() + "/golden/pretrained/";

// A loss and the gradients of everything that is trained.
struct Step {
  Tensor loss;
  std::vector<std::pair<std::string, Tensor>> gradients;
  size_t peak = 0;  // bytes, besides what was there before
};

Step step_of(Module& module, const std::function<Variable()>& loss) {
  Allocator& memory = allocator(Device{});
  memory.reset_peak();
  const size_t before = memory.stats().in_use;
  Step step;
  {
    const Variable made = loss();
    backward(made);
    step.loss = made.tensor();
  }
  step.peak = memory.stats().peak - before;
  for (auto& [name, parameter] : module.parameters())
    if (parameter.requires_grad()) {
      step.gradients.emplace_back(name, parameter.grad());
      parameter.clear_grad();
    }
  return step;
}

void expect_same_bits(const Step& plain, const Step& again) {
  EXPECT_TRUE(bit_identical(plain.loss, again.loss));
  ASSERT_EQ(plain.gradients.size(), again.gradients.size());
  ASSERT_FALSE(plain.gradients.empty());
  for (size_t i = 0; i < plain.gradients.size(); ++i) {
    const auto& [name, gradient] = plain.gradients[i];
    const Tensor& other = again.gradients[i].second;
    ASSERT_EQ(gradient.defined(), other.defined()) << name;
    if (!gradient.defined()) continue;
    EXPECT_TRUE(bit_identical(gradient, other))
        << name << ", largest difference " << testing::largest_difference(gradient, other);
  }
}

// A model's step, after a first one in which threads get their scratch.
Step model_step(Json config, bool rematerialize, DType dtype, int64_t length,
                MatmulPrecision products = MatmulPrecision::full) {
  if (rematerialize) config["rematerialize"] = true;
  const auto model = build_model(config, dtype, 3);
  fill_zero_parameters(*model, 3);
  model->train(true);
  const Tensor tokens = random_tokens(3, length, model->vocabulary_size(), 5);
  Tensor targets = random_tokens(3, length, model->vocabulary_size(), 6);
  targets.mutable_data<int32_t>()[4] = -1;
  const auto loss = [&] {
    const MatmulPrecisionScope forward(products);
    default_generator() = Generator(99);
    return model->loss(tokens, targets, 0.05);
  };
  step_of(*model, loss);
  return step_of(*model, loss);
}

void expect_the_same_in_less(const Json& config, int64_t length) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    SCOPED_TRACE(name_of(dtype));
    const Step plain = model_step(config, false, dtype, length),
               again = model_step(config, true, dtype, length);
    expect_same_bits(plain, again);
    EXPECT_LT(again.peak, plain.peak);
  }
}

// ---- models around published ones -------------------------------------------------------------

class EveryRematerializedSource : public ::testing::TestWithParam<RegisteredCase> {};

TEST_P(EveryRematerializedSource, ChangesNoBitAndTakesFewerBytes) {
  bool built = false;
  for (const bool train_base : {false, true})
    for (const std::string base : {"llama", "gemma2", "gpt2"}) {
      Json config = model_with_latents(GetParam().component, base);
      config["train_base"] = train_base;
      config["groups"] = 12;
      if (!testing::build_error(config).empty()) continue;  // refused by the source
      built = true;
      SCOPED_TRACE(base + (train_base ? ", trained" : ", frozen"));
      expect_the_same_in_less(config, 24);
    }
  EXPECT_TRUE(built);
}
INSTANTIATE_TEST_SUITE_P(Registered, EveryRematerializedSource,
                         ::testing::ValuesIn(testing::registered_sources()),
                         [](const auto& info) { return info.param.name; });

TEST(Rematerialized, LatentsThatArriveLateOrInFrontOfTargets) {
  Json config = model_with_latents({{"type", "coprocessor"}, {"count", 3}});
  config["groups"] = 12;
  config["delay"] = 2;
  expect_the_same_in_less(config, 24);
}

TEST(Rematerialized, ModelsThatBeginWithAPublishedOne) {
  for (const std::string base : {"llama", "gemma2", "gpt2", "qwen3"}) {
    SCOPED_TRACE(base);
    Json config = {{"type", "pretrained"}, {"path", kBases + base}};
    expect_the_same_in_less(config, 32);
    config["rank"] = 2;
    expect_the_same_in_less(config, 32);
  }
}

// Each pass reads the keys and values of those before it, and gradients flow through all of them.
TEST(Rematerialized, ThoughtsThatAreFedBack) {
  for (const std::string base : {"llama", "gpt2"}) {
    SCOPED_TRACE(base);
    // A token that model_step() draws, behind the text's begin.
    const int32_t thought = random_tokens(3, 24, 61, 5).data<int32_t>()[10];
    const Json config = {{"type", "coconut"}, {"base", kBases + base}, {"thought_token", thought}};
    for (const DType dtype : {DType::f32, DType::f64})
      expect_same_bits(model_step(config, false, dtype, 24), model_step(config, true, dtype, 24));
  }
}

// Some rows are kept in bf16, and backward comes after the scope's end.
TEST(Rematerialized, ProductsOfBf16Operands) {
  const auto expect_same = [](const Json& config, int64_t length) {
    const Step plain = model_step(config, false, DType::f32, length, MatmulPrecision::bf16),
               again = model_step(config, true, DType::f32, length, MatmulPrecision::bf16);
    expect_same_bits(plain, again);
    EXPECT_FALSE(bit_identical(plain.loss, model_step(config, false, DType::f32, length).loss));
  };
  for (const char* initial : {"base", "lora"}) {
    Json config =
        model_with_latents({{"type", "coprocessor"}, {"count", 3}, {"initial", initial}}, "gemma2");
    config["groups"] = 12;
    expect_same(config, 24);
  }
  expect_same({{"type", "pretrained"}, {"path", kBases + "gpt2"}}, 32);
}

// ---- memory modules -----------------------------------------------------------------------------

class EveryRematerializedMemory : public ::testing::TestWithParam<RegisteredCase> {
 protected:
  // Dropout everywhere that has it.
  Json config() const {
    Json memory = GetParam().component;
    memory["dropout"] = 0.3;
    if (!testing::build_error(with(memory)).empty()) memory.erase("dropout");
    return with(memory);
  }
  static Json with(const Json& memory) {
    Json config = testing::model_with_memory(memory);
    config["type"] = "gpt2";
    config["n_layer"] = 3;
    config["dropout"] = 0.3;
    return config;
  }
  // A loss over three windows, of a state that goes on where the module carries it.
  static Variable loss_over_windows(LanguageModel& model, MatmulPrecision products,
                                    SequenceState& state) {
    const MatmulPrecisionScope forward(products);
    default_generator() = Generator(99);
    Variable sum;
    for (const int64_t length : {17, 11, 19}) {
      const auto drawn = [&](uint64_t seed) {
        return random_tokens(3, length, model.vocabulary_size(), seed + uint64_t(length));
      };
      const Variable own =
          model.loss(drawn(5), drawn(6), 0.05, model.carries_memory() ? &state : nullptr);
      sum = sum ? add(sum, own) : own;
    }
    return sum;
  }
  Step step(bool rematerialize, DType dtype, MatmulPrecision products, MemoryState& left) const {
    Json all = config();
    all["rematerialize"] = rematerialize;
    const auto model = build_model(all, dtype, 3);
    fill_zero_parameters(*model, 3);
    model->train(true);
    const auto loss = [&] {
      SequenceState state;
      const Variable made = loss_over_windows(*model, products, state);
      left = state.memory;
      return made;
    };
    step_of(*model, loss);
    return step_of(*model, loss);
  }
};

TEST_P(EveryRematerializedMemory, ChangesNoBitAndTakesFewerBytes) {
  ASSERT_EQ(testing::missing_options(GetParam(), config()), "");
  for (const auto& [dtype, products] :
       {std::pair{DType::f32, MatmulPrecision::full}, std::pair{DType::f64, MatmulPrecision::full},
        std::pair{DType::f32, MatmulPrecision::bf16}}) {
    SCOPED_TRACE(std::string(name_of(dtype)) +
                 (products == MatmulPrecision::bf16 ? ", products in bf16" : ""));
    MemoryState left, left_again;
    const Step plain = step(false, dtype, products, left),
               again = step(true, dtype, products, left_again);
    expect_same_bits(plain, again);
    EXPECT_LT(again.peak, plain.peak);
    // What the next window would begin with, and whether its gradient goes back.
    EXPECT_EQ(left.counters, left_again.counters);
    ASSERT_EQ(left.values.size(), left_again.values.size());
    for (const auto& [name, value] : left.values) {
      ASSERT_TRUE(left_again.values.contains(name)) << name;
      const Variable& other = left_again.values.at(name);
      EXPECT_TRUE(bit_identical(value.tensor(), other.tensor())) << name;
      EXPECT_EQ(value.requires_grad(), other.requires_grad()) << name;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Registered, EveryRematerializedMemory,
                         ::testing::ValuesIn(testing::registered_memories()),
                         [](const auto& info) { return info.param.name; });

// Against a module that keeps something beside its state: it is called twice.
struct CallsOptions final : Fieldset {
  void fields(Fields&) override {}
};
class CallsMemory final : public MemoryModule {
 public:
  CallsMemory(const CallsOptions&, const MemorySite& site) {
    weight_ = parameter("weight", site.build.weights({site.features}, 0.5));
  }
  Variable before_block(const LayerView& view, MemoryState& state) override {
    ++calls;
    state.counters["calls"] += 1;
    return scale(multiply(view.hidden, weight_), double(state.counters["calls"]));
  }
  bool incremental() const override { return true; }
  static inline int calls = 0;

 private:
  Variable weight_;
};
REVERIE_REGISTER_MEMORY("test_calls", CallsMemory, CallsOptions, "counts its calls");

TEST(Rematerialized, MemoryIsCalledAgainWithTheStateThatItHad) {
  const Json config = testing::model_with_memory({{"type", "test_calls"}});
  CallsMemory::calls = 0;
  const Step plain = model_step(config, false, DType::f64, 19);
  EXPECT_EQ(CallsMemory::calls, 2 * 2);  // two steps, two layers
  const Step again = model_step(config, true, DType::f64, 19);
  EXPECT_EQ(CallsMemory::calls, 3 * 2 * 2);
  expect_same_bits(plain, again);
}

// A module that leaves what it was given: in backward, the input of a layer and a value of its
// state are one Variable.
class LeavesRows final : public MemoryModule {
 public:
  LeavesRows(const CallsOptions&, const MemorySite& site) {
    weight_ = parameter("weight", site.build.weights({site.features}, 0.5));
  }
  Variable before_block(const LayerView& view, MemoryState& state) override {
    state.values["in"] = view.hidden;
    return view.hidden;
  }
  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable y = add(multiply(view.hidden, weight_), scale(state.values.at("in"), 0.5));
    state.values["out"] = y;
    return y;
  }
  bool incremental() const override { return true; }

 private:
  Variable weight_;
};
REVERIE_REGISTER_MEMORY("test_leaves_rows", LeavesRows, CallsOptions, "leaves rows as they are");

TEST(Rematerialized, MemoryThatLeavesWhatItWasGiven) {
  Json config = testing::model_with_memory({{"type", "test_leaves_rows"}});
  config["n_layer"] = 3;
  expect_the_same_in_less(config, 19);
}

// With one sequence, rows of a cache are a view of the whole cache; keeping them keeps all of it.
TEST(Rematerialized, AStateKeepsItsOwnRowsAlone) {
  const Json config = {
      {"type", "gpt2"},
      {"vocab_size", 13},
      {"block_size", 64},
      {"n_layer", 8},
      {"n_head", 2},
      {"n_embd", 32},
      {"rematerialize", true},
      {"memory",
       {{"type", "attention_cache"}, {"length", 4}, {"heads", 2}, {"carry_state", true}}}};
  const auto model = build_model(config, DType::f64, 3);
  model->train(true);
  // Bytes behind the forward pass: the inputs of all layers, and the state.
  const auto kept_by = [&](int64_t sequences) {
    const Tensor tokens = random_tokens(sequences, 64, 13, 5);
    size_t kept = 0;
    for (int run = 0; run < 2; ++run) {  // threads get their scratch in the first
      const size_t before = allocator(Device{}).stats().in_use;
      SequenceState state;
      const Variable loss = model->loss(tokens, tokens, 0.05, &state);
      kept = allocator(Device{}).stats().in_use - before;
      EXPECT_EQ(state.memory.values.size(), 8u);
      for (const auto& [name, value] : state.memory.values)
        EXPECT_EQ(value.tensor().storage()->bytes(), value.tensor().bytes()) << name;
    }
    return double(kept);
  };
  EXPECT_LT(kept_by(1), 0.6 * kept_by(2));
}

// ---- contexts, with dropout ---------------------------------------------------------------------

std::unique_ptr<LanguageModel> dropping(bool rematerialize, DType dtype) {
  return build_model({{"type", "gpt2"},
                      {"vocab_size", 13},
                      {"block_size", 40},
                      {"n_layer", 4},
                      {"n_head", 2},
                      {"n_embd", 16},
                      {"dropout", 0.3},
                      {"rematerialize", rematerialize}},
                     dtype, 3);
}

using Loss = std::function<Variable(const Transformer&, const Variable& rows)>;
void expect_same_bits_with_dropout(const Loss& loss) {
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::vector<Step> steps;
    for (const bool rematerialize : {false, true}) {
      const auto model = dropping(rematerialize, dtype);
      model->train(true);
      const auto& transformer = dynamic_cast<const Transformer&>(*model);
      const Tensor tokens = random_tokens(2, 12, 13);
      const auto made = [&] {
        default_generator() = Generator(7);
        return loss(transformer, transformer.token_rows(tokens));
      };
      step_of(*model, made);
      steps.push_back(step_of(*model, made));
    }
    expect_same_bits(steps[0], steps[1]);
    EXPECT_LT(steps[1].peak, steps[0].peak);
  }
}

Variable sum_of_keys(const KeyValues& keys) {
  Variable sum;
  for (const LayerKeyValues& layer : keys.layers)
    for (const Variable& rows : {layer.key, layer.value}) {
      const Variable one = sum_all(multiply(rows, rows));
      sum = sum ? add(sum, one) : one;
    }
  return sum;
}

// The keys and values that were kept are read by others, and have gradients of their own.
TEST(Rematerialized, RecordedTextsWithDropout) {
  expect_same_bits_with_dropout([](const Transformer& model, const Variable& rows) {
    KeyValues kept;
    CausalContext causal(rows.size(1));
    RecordingContext recording(causal, kept);
    const Variable hidden =
        model.blocks().forward(model.placed(rows, recording.positions()), recording);
    EXPECT_EQ(kept.layers.size(), 4u);
    return add(sum_all(multiply(hidden, hidden)), sum_of_keys(kept));
  });
}

TEST(Rematerialized, KeysAndValuesAloneWithDropout) {
  expect_same_bits_with_dropout([](const Transformer& model, const Variable& rows) {
    CausalContext causal(rows.size(1));
    return sum_of_keys(
        model.blocks().keys_and_values(model.placed(rows, causal.positions()), causal));
  });
}

TEST(Rematerialized, PassesBehindEachOtherWithDropout) {
  expect_same_bits_with_dropout([](const Transformer& model, const Variable& rows) {
    KeyValues known;
    Variable sum, x = rows;
    for (int pass = 0; pass < 3; ++pass) {
      GrowingPrefixContext context(known, x.size(1));
      x = model.blocks().forward(model.placed(x, context.positions()), context);
      const Variable one = sum_all(multiply(x, x));
      sum = sum ? add(sum, one) : one;
    }
    EXPECT_EQ(known.length(), 36);
    return add(sum, sum_of_keys(known));
  });
}

TEST(Rematerialized, DecodersOfMemoriesWithDropout) {
  const DecoderShape shape{5, 6, 11, 12};
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::vector<Step> steps;
    for (const bool rematerialize : {false, true}) {
      DecoderOptions options;
      options.n_layer = 3;
      options.n_embd = 16;
      options.dropout = 0.3;
      options.rematerialize = rematerialize;
      Generator random(4);
      ExplicitDecoder decoder(options, shape, Build{random, dtype});
      fill_zero_parameters(decoder, 3);
      decoder.train(true);
      const Variable memory(Generator(5).normal({2, 5, 6}, 0, 1, DType::f64).to(dtype));
      const Tensor tokens = random_tokens(2, 9, 11);
      const auto loss = [&] {
        default_generator() = Generator(7);
        const Variable hidden = decoder.forward(memory, tokens);
        return sum_all(multiply(hidden, hidden));
      };
      step_of(decoder, loss);
      steps.push_back(step_of(decoder, loss));
    }
    expect_same_bits(steps[0], steps[1]);
    EXPECT_LT(steps[1].peak, steps[0].peak);
  }
}

// Guards the tests above: another text gives other bits.
TEST(Rematerialized, TheComparisonSeesAnotherStep) {
  const Json config = {{"type", "pretrained"}, {"path", kBases + "llama"}};
  const Step one = model_step(config, true, DType::f32, 32),
             other = model_step(config, true, DType::f32, 31);
  EXPECT_FALSE(bit_identical(one.loss, other.loss));
  EXPECT_FALSE(bit_identical(one.gradients[0].second, other.gradients[0].second));
}

}  // namespace
}  // namespace reverie
