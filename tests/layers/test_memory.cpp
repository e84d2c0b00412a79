#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "autograd/ops/norm.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/linear.h"
#include "layers/memory/imm.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::largest_difference;

constexpr int64_t kFeatures = 6;

// An IMM with weights of ordinary size, for layers of width kFeatures.
std::unique_ptr<Imm> make_imm(const ImmOptions& options, int64_t features = kFeatures) {
  Generator random(5);
  const Build build{random, DType::f64};
  auto imm = std::make_unique<Imm>(options, MemorySite{features, 2, build});
  for (auto& [name, parameter] : imm->parameters()) {
    Tensor target = parameter.tensor();
    target.copy_from(random.normal(parameter.shape(), 0, 0.5, DType::f64));
  }
  return imm;
}
ImmOptions imm_options(const std::string& mode) {
  ImmOptions options;
  options.mode = mode;
  options.low_rank_dim = 4;
  options.num_slots = 3;
  options.segment_length = options.chunk_length = 4;
  return options;
}
Variable rows(int64_t batch, int64_t time, uint64_t seed = 9) {
  Generator random(seed);
  return Variable(random.normal({batch, time, kFeatures}, 0, 1, DType::f64));
}
// Runs x through `imm` in pieces of the given lengths, with the state carried.
Variable in_pieces(Imm& imm, const Variable& x, const std::vector<int64_t>& lengths,
                   MemoryState& state, int64_t layer = 0) {
  std::vector<Variable> parts;
  int64_t begin = 0;
  for (size_t i = 0; begin < x.size(1); ++i) {
    const int64_t end = std::min(x.size(1), begin + lengths[i % lengths.size()]);
    parts.push_back(imm.after_block({layer, slice(x, 1, begin, end)}, state));
    begin = end;
  }
  return concat(parts, 1);
}
Variable whole(Imm& imm, const Variable& x) {
  MemoryState state;
  return imm.after_block({0, x}, state);
}
Variable parameter_of(const Module& module, const std::string& name) {
  for (const auto& [n, v] : module.parameters())
    if (n == name) return v;
  throw InternalError("no parameter " + name);
}

// ---- IMM ----------------------------------------------------------------------------------------

// What imm.md and the paper's code give: 2 d^2 + 2 d + 2 d k + k.
TEST(Imm, HasThePublishedNumberOfParameters) {
  ImmOptions options;
  options.mode = "as_published";
  EXPECT_EQ(make_imm(options, 128)->parameter_count(), 65920);
  EXPECT_EQ(make_imm(options, 256)->parameter_count(), 197248);
  EXPECT_EQ(make_imm(options, 384)->parameter_count(), 394112);
  options.mode = "full_rank";  // no projection, queries of size d
  EXPECT_EQ(make_imm(options, 128)->parameter_count(), 3 * 128 * 128 + 3 * 128);
}

TEST(Imm, AutoSlotsAreTheRootOfTheWidth) {
  for (const auto& [features, slots] : {std::pair{35, 5}, std::pair{36, 6}, std::pair{1, 1}}) {
    ImmOptions by_hand = imm_options("as_published"), automatic = by_hand;
    by_hand.num_slots = slots;
    automatic.num_slots.reset();
    Generator random(2);
    const Variable x(random.normal({2, 5, features}, 0, 1, DType::f64));
    const auto wanted = whole(*make_imm(by_hand, features), x).tensor().to_vector();
    EXPECT_EQ(whole(*make_imm(automatic, features), x).tensor().to_vector(), wanted);
    if (features == 1) continue;
    by_hand.num_slots = slots + 1;
    EXPECT_NE(whole(*make_imm(by_hand, features), x).tensor().to_vector(), wanted);
  }
}

TEST(Imm, CarryingTheStateOfAWholeBlockIsAConfigError) {
  for (const char* mode : {"as_published", "full_rank"}) {
    ImmOptions options = imm_options(mode);
    options.carry_state = true;
    EXPECT_THROW(make_imm(options), ConfigError);
    options.carry_state = false;
    EXPECT_FALSE(make_imm(options)->incremental());
  }
}

TEST(Imm, CarriesOnlyWhereAsked) {
  for (const char* mode : {"causal_mean", "segment", "slots"}) {
    ImmOptions options = imm_options(mode);
    EXPECT_FALSE(make_imm(options)->carries_memory());
    EXPECT_TRUE(make_imm(options)->incremental());
    options.carry_state = true;
    EXPECT_TRUE(make_imm(options)->carries_memory());
  }
}

TEST(Imm, CausalModesInPiecesEqualTheWhole) {
  for (const char* mode : {"causal_mean", "segment", "slots"}) {
    for (const int64_t length : {1, 3, 4, 5, 100}) {
      for (const int64_t slots : {1, 2, 7}) {
        ImmOptions options = imm_options(mode);
        options.segment_length = options.chunk_length = length;
        options.num_slots = slots;
        const auto imm = make_imm(options);
        const Variable x = rows(2, 23);
        const Variable wanted = whole(*imm, x);
        for (const auto& pieces :
             {std::vector<int64_t>{1}, {2}, {4}, {5}, {3, 1, 7}, {22, 1}, {1, 22}}) {
          MemoryState state;
          EXPECT_LT(largest_difference(in_pieces(*imm, x, pieces, state).tensor(), wanted.tensor()),
                    1e-12)
              << mode << ", pieces " << ::testing::PrintToString(pieces) << ", length " << length
              << ", " << slots << " slots";
        }
      }
    }
  }
}

// Layers do not see each other's memory, and rows of a batch do not either.
TEST(Imm, LayersAndSequencesKeepApart) {
  for (const char* mode : {"causal_mean", "segment", "slots"}) {
    const auto imm = make_imm(imm_options(mode));
    const Variable x = rows(2, 9, 1), y = rows(2, 9, 2), z = rows(2, 9, 3);
    MemoryState alone, both;
    imm->after_block({0, x}, alone);
    imm->after_block({0, x}, both);
    imm->after_block({1, y}, both);
    const Variable wanted = imm->after_block({0, z}, alone);
    EXPECT_TRUE(bit_identical(imm->after_block({0, z}, both).tensor(), wanted.tensor())) << mode;
    // One row by itself.
    MemoryState single;
    imm->after_block({0, slice(x, 0, 1, 2)}, single);
    const Variable own = imm->after_block({0, slice(z, 0, 1, 2)}, single);
    EXPECT_LT(largest_difference(own.tensor(), wanted.tensor().slice(0, 1, 2)), 1e-13) << mode;
  }
}

TEST(Imm, CausalMeanOfOneRowIsAsPublished) {
  auto published = make_imm(imm_options("as_published"));
  auto causal = make_imm(imm_options("causal_mean"));
  const Variable x = rows(3, 1);
  EXPECT_LT(largest_difference(whole(*published, x).tensor(), whole(*causal, x).tensor()), 1e-13);
  // And so is the last row of any block: its mean is over the whole of it.
  const Variable longer = rows(3, 8);
  EXPECT_LT(largest_difference(whole(*published, longer).tensor().slice(1, 7, 8),
                               whole(*causal, longer).tensor().slice(1, 7, 8)),
            1e-13);
}

// All slots are zero at first: their value is the bias, whatever the query.
TEST(Imm, TheFirstSegmentReadsEmptySlots) {
  const auto imm = make_imm(imm_options("segment"));
  const Variable x = rows(2, 9);
  const Variable wanted = layer_norm(add(x, parameter_of(*imm, "value.bias")), {}, {}, 1e-5);
  const Tensor y = whole(*imm, x).tensor();
  EXPECT_LT(largest_difference(y.slice(1, 0, 4), wanted.tensor().slice(1, 0, 4)), 1e-13);
  EXPECT_GT(largest_difference(y.slice(1, 4, 5), wanted.tensor().slice(1, 4, 5)), 1e-3);
}

TEST(Imm, TheFirstChunkPassesUntouched) {
  const auto imm = make_imm(imm_options("slots"));
  const Variable x = rows(2, 9);
  const Tensor y = whole(*imm, x).tensor();
  EXPECT_EQ(largest_difference(y.slice(1, 0, 4), x.tensor().slice(1, 0, 4)), 0);
  EXPECT_GT(largest_difference(y.slice(1, 4, 5), x.tensor().slice(1, 4, 5)), 1e-3);
}

// A segment is readable until num_slots later ones have been written.
TEST(Imm, ASlotIsForgottenWhenItIsWrittenAgain) {
  const auto imm = make_imm(imm_options("segment"));  // 3 slots, segments of 4
  const Variable x = rows(1, 20);
  Tensor other = x.tensor().clone();
  other.mutable_data<double>()[0] += 1;  // row 0, in segment 0
  const Tensor y = whole(*imm, x).tensor(), moved = whole(*imm, Variable(other)).tensor();
  auto change = [&](int64_t segment) {
    return largest_difference(y.slice(1, 4 * segment, 4 * segment + 4),
                              moved.slice(1, 4 * segment, 4 * segment + 4));
  };
  for (const int64_t segment : {1, 2, 3}) EXPECT_GT(change(segment), 1e-6) << segment;
  EXPECT_EQ(change(4), 0);
}

TEST(Imm, DropsReadWeightsInTrainModeOnly) {
  for (const char* mode : {"as_published", "full_rank", "causal_mean", "segment", "slots"}) {
    ImmOptions options = imm_options(mode);
    options.dropout = 0.5;
    const auto imm = make_imm(options);
    const Variable x = rows(2, 9);
    auto run = [&](uint64_t seed) {
      default_generator() = Generator(seed);
      return whole(*imm, x).tensor().to_vector();
    };
    EXPECT_NE(run(1), run(2)) << mode;
    imm->train(false);
    EXPECT_EQ(run(1), run(2)) << mode;
    options.dropout = 0;
    EXPECT_EQ(run(1), whole(*make_imm(options), x).tensor().to_vector()) << mode;
  }
}

TEST(MemoryState, DetachCutsTheGraphAndKeepsTheValues) {
  for (const char* mode : {"causal_mean", "segment", "slots"}) {
    const auto imm = make_imm(imm_options(mode));
    MemoryState state;
    imm->after_block({0, Variable(rows(2, 9).tensor(), true)}, state);
    ASSERT_FALSE(state.values.empty());
    std::map<std::string, std::vector<double>> before;
    for (const auto& [name, v] : state.values) {
      EXPECT_TRUE(v.requires_grad()) << mode << ", " << name;
      before[name] = v.tensor().to_vector();
    }
    state.detach();
    for (const auto& [name, v] : state.values) {
      EXPECT_FALSE(v.requires_grad()) << mode << ", " << name;
      EXPECT_EQ(v.tensor().to_vector(), before[name]);
    }
  }
}

// A checkpoint holds values and counters by name; what they restore goes on as if never
// interrupted.
TEST(MemoryState, NamesValuesAndCountersAreTheWholeState) {
  for (const char* mode : {"causal_mean", "segment", "slots"}) {
    const auto imm = make_imm(imm_options(mode));
    MemoryState state, restored;
    imm->after_block({0, rows(2, 10, 1)}, state);
    for (const auto& [name, v] : state.values) restored.values[name] = Variable(v.tensor().clone());
    restored.counters = state.counters;
    const Variable next = rows(2, 10, 2);
    EXPECT_TRUE(bit_identical(imm->after_block({0, next}, state).tensor(),
                              imm->after_block({0, next}, restored).tensor()))
        << mode;
  }
}

// ---- any memory module --------------------------------------------------------------------------

struct RecorderOptions final : Fieldset {
  int64_t size = 2;
  void fields(Fields& f) override { f.integer("size", size, {1, 9}, "of its parameter"); }
};
std::vector<std::string> recorded;  // calls, in order

class RecorderMemory final : public MemoryModule {
 public:
  RecorderMemory(const RecorderOptions& o, const MemorySite& site) {
    parameter("kept", Tensor::zeros({o.size, site.features, site.layers}, site.build.dtype));
  }
  MemoryState initial(int64_t batch, DType dtype, Device) const override {
    recorded.push_back("initial " + std::to_string(batch) + " " + std::string(name_of(dtype)));
    MemoryState state;
    state.counters["calls"] = 0;
    return state;
  }
  Variable before_block(const LayerView& view, MemoryState& state) override {
    recorded.push_back("before " + std::to_string(view.layer) + view.hidden.shape().str());
    return view.hidden;
  }
  Variable after_block(const LayerView& view, MemoryState& state) override {
    recorded.push_back("after " + std::to_string(view.layer) + " call " +
                       std::to_string(++state.counters["calls"]));
    return view.hidden;
  }
  bool incremental() const override { return true; }
};
REVERIE_REGISTER_MEMORY("test_recorder", RecorderMemory, RecorderOptions, "notes its calls");

TEST(MemoryModule, IsCalledAroundEveryBlockWithOneState) {
  const auto model =
      testing::make_model(R"({"type":"llama","vocab_size":5,"n_layer":2,"n_head":1,"n_embd":8,
                             "memory":{"type":"test_recorder","size":3}})");
  EXPECT_EQ(model->parameters().back().first, "model.memory.kept");
  EXPECT_EQ(model->parameters().back().second.shape(), (Shape{3, 8, 2}));
  EXPECT_TRUE(model->incremental());
  EXPECT_FALSE(model->carries_memory());
  recorded.clear();
  NoGrad guard;
  SequenceState state;
  model->hidden(testing::random_tokens(2, 4, 5), &state);
  model->hidden(testing::random_tokens(2, 3, 5), &state);
  EXPECT_THAT(recorded,
              ::testing::ElementsAre("initial 2 f64", "before 0[2, 4, 8]", "after 0 call 1",
                                     "before 1[2, 4, 8]", "after 1 call 2", "before 0[2, 3, 8]",
                                     "after 0 call 3", "before 1[2, 3, 8]", "after 1 call 4"));
}

// A checkpoint could hold only one of two parameters of one name.
class TwinMemory final : public MemoryModule {
 public:
  TwinMemory(const RecorderOptions& o, const MemorySite& site) {
    const Tensor zero = Tensor::zeros({1}, site.build.dtype);
    if (o.size == 1) {
      parameter("twin", zero);
      parameter("twin", zero);
    } else if (o.size == 2) {
      child<Linear>("twin", 2, 2, LinearOptions{}, site.build);
      child<Linear>("twin", 2, 2, LinearOptions{}, site.build);
    } else {
      parameter("weight", zero);
      child<Linear>("", 2, 2, LinearOptions{}, site.build);
    }
  }
  bool incremental() const override { return true; }
};
REVERIE_REGISTER_MEMORY("test_twin", TwinMemory, RecorderOptions, "has two parameters of one name");

TEST(MemoryModule, TwoParametersOfOneNameAreRefusedAtConstruction) {
  const char* names[] = {"\"twin\"", "\"twin.weight\"", "\"weight\""};
  for (int kind = 1; kind <= 3; ++kind)
    try {
      testing::make_model(
          R"({"type":"gpt2","vocab_size":5,"n_layer":1,"n_head":1,"n_embd":4,"memory":)"
          R"({"type":"test_twin","size":)" +
          std::to_string(kind) + "}}");
      ADD_FAILURE() << "nothing was thrown for kind " << kind;
    } catch (const UserError& e) {
      EXPECT_THAT(e.what(), HasSubstr(names[kind - 1]));
    }
}

TEST(MemoryModule, OptionsAreCheckedWhereTheyStand) {
  auto message = [](const std::string& memory) -> std::string {
    try {
      testing::make_model(R"({"type":"gpt2","vocab_size":5,"memory":)" + memory + "}");
    } catch (const ConfigError& e) {
      return e.what();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(message(R"({"type":"test_recorder","siez":3})"), HasSubstr("siez"));
  EXPECT_THAT(message(R"({"type":"test_recorder","siez":3})"), HasSubstr("$.memory"));
  EXPECT_THAT(message(R"({"type":"test_recorder","size":10})"), HasSubstr("$.memory.size"));
  EXPECT_THAT(message(R"({"type":"test_recorde"})"), HasSubstr("test_recorder"));
  EXPECT_THAT(message(R"({"type":"imm","mode":"future"})"), HasSubstr("as_published"));
  EXPECT_THAT(message(R"({"type":"imm","mode":"as_published","carry_state":true})"),
              HasSubstr("carry_state"));
}

}  // namespace
}  // namespace reverie
