// Ranks in bf16 that keep the f32 values of their own share of the matrices alone train as one that
// keeps all, bit by bit.

#include "trainers/optimizers/sharded_masters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "core/rounded_copy.h"
#include "core/storage.h"
#include "layers/linear.h"
#include "support/message_of.h"
#include "support/registered_components.h"
#include "support/tiny_models.h"
#include "trainers/distributed/ranks.h"
#include "trainers/optimizers/optimizer_support.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using testing::differences;
using ::testing::Each;
using testing::Experiments;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::make_optimizer;
using testing::message_of;
using testing::MonitoredTrainer;
using ::testing::Not;
using testing::Outcome;
using testing::Parameters;
using testing::RegisteredCase;
using testing::run_ranks;

// ---- every model --------------------------------------------------------------------------------

// Every registered model that its type and sizes make, memory module and source of latents.
std::vector<RegisteredCase> models() {
  std::vector<RegisteredCase> all;
  const auto add = [&](const std::string& name, const Json& model) {
    if (testing::build_error(model).empty()) all.push_back({name, model});
  };
  for (const std::string& type : ModelRegistry::instance().names()) {
    if (type.starts_with("test_")) continue;
    Json model = testing::model_with_memory(nullptr);
    model["type"] = type;
    add(type, model);
  }
  const std::string base = testing::test_directory() + "/golden/pretrained/llama";
  add("pretrained", {{"type", "pretrained"}, {"path", base}, {"block_size", 24}});
  add("low_rank", {{"type", "pretrained"}, {"path", base}, {"block_size", 24}, {"rank", 2}});
  add("coconut", {{"type", "coconut"}, {"base", base}});
  Json cotrained = testing::model_with_latents({{"type", "coprocessor"}, {"count", 3}});
  cotrained["train_base"] = true;
  add("cotrained", cotrained);
  for (const RegisteredCase& c : testing::registered_memories())
    add("memory_" + c.name, testing::model_with_memory(c.component));
  for (const RegisteredCase& c : testing::registered_sources())
    add("latents_" + c.name, testing::model_with_latents(c.component));
  return all;
}

Variable loss_of(LanguageModel& model) {
  default_generator() = Generator(99);
  const int64_t length = std::min<int64_t>(24, model.block_size()),
                vocabulary = model.vocabulary_size();
  const Tensor tokens = testing::random_tokens(2, length, vocabulary, 5),
               targets = testing::random_tokens(2, length, vocabulary, 6);
  if (!model.carries_memory()) return model.loss(tokens, targets, 0.05);
  SequenceState state;
  const Variable first = model.loss(tokens, targets, 0.05, &state);
  return add(first, model.loss(targets, tokens, 0.05, &state));
}

// The weights after three steps, of which every rank takes the whole gradient.
NamedTensors trained(const Json& config, Communicator& communicator, bool shard) {
  const auto model = testing::build_model(config, DType::f32, 3);
  testing::fill_zero_parameters(*model);
  model->train(true);
  FlatParameters flat(*model, communicator, shard, true);
  EXPECT_EQ(flat.shards_masters(), shard);
  const auto optimizer = make_optimizer({{"type", "adamw"}}, flat);
  for (int step = 0; step < 3; ++step) {
    const MatmulPrecisionScope precision(MatmulPrecision::bf16);
    flat.round_matrices();
    flat.clear_gradients();
    backward(loss_of(*model));
    optimizer->step(0.01, flat.gradient_norm());
    if (step == 1) flat.gather_values();  // as for an evaluation
  }
  flat.gather_values();
  NamedTensors weights;
  for (const auto& [name, t] : model->state()) weights.emplace_back(name, t.clone());
  return weights;
}

std::string difference(const NamedTensors& a, const NamedTensors& b) {
  if (a.size() != b.size()) return "other parameters";
  for (size_t i = 0; i < a.size(); ++i)
    if (a[i].first != b[i].first || !bit_identical(a[i].second, b[i].second)) return a[i].first;
  return "";
}

class ShardedModel : public ::testing::TestWithParam<RegisteredCase> {};
INSTANTIATE_TEST_SUITE_P(Registered, ShardedModel, ::testing::ValuesIn(models()),
                         [](const auto& info) { return info.param.name; });

TEST_P(ShardedModel, TrainsAsOneThatKeepsAllMasters) {
  const NamedTensors alone = trained(GetParam().component, single_communicator(), false);
  EXPECT_THAT(run_ranks(3,
                        [&](Communicator& communicator) {
                          EXPECT_EQ(
                              difference(alone, trained(GetParam().component, communicator, true)),
                              "");
                        }),
              Each(IsEmpty()));
}

TEST(ShardedModel, AreAllThere) {
  std::vector<std::string> names;
  for (const RegisteredCase& c : models()) names.push_back(c.name);
  EXPECT_THAT(
      names, ::testing::IsSupersetOf({"gpt2", "llama", "gemma3", "low_rank", "coconut", "cotrained",
                                      "memory_imm_slots", "latents_coprocessor"}));
}

// A module that reads the f32 values of a linear layer by itself: one rank does not have them.
struct NoOptions final : Fieldset {
  void fields(Fields&) override {}
};
class ReadsWeight final : public MemoryModule {
 public:
  ReadsWeight(const NoOptions&, const MemorySite& site)
      : layer_(child<Linear>("layer", site.features, site.features, LinearOptions{}, site.build)) {}
  Variable after_block(const LayerView& view, MemoryState&) override {
    return add(view.hidden, matmul(view.hidden, layer_.weight()));
  }
  bool incremental() const override { return true; }

 private:
  Linear& layer_;
};
REVERIE_REGISTER_MEMORY("test_reads_weight", ReadsWeight, NoOptions, "reads a layer's weight");

TEST(ShardedModel, OneThatReadsAWeightByItselfEndsWithAReason) {
  const Json config = testing::model_with_memory({{"type", "test_reads_weight"}});
  EXPECT_FALSE(trained(config, single_communicator(), false).empty());
  EXPECT_THAT(
      run_ranks(2, [&](Communicator& communicator) { trained(config, communicator, true); }),
      Each(AllOf(HasSubstr("in bf16 alone"), HasSubstr("ReadBy::any"),
                 HasSubstr("distributed.shard_optimizer"))));
}

// ---- parameters ---------------------------------------------------------------------------------

const std::vector<std::pair<std::string, Shape>> kShapes = {
    {"wte.weight", {12, 8}}, {"a.weight", {8, 8}}, {"b.weight", {24, 8}}, {"b.bias", {24}}};

// The embedding is looked up, all other matrices are operands of products.
class Matrices {
 public:
  explicit Matrices(Communicator& communicator)
      : parameters(kShapes, DType::f32),
        flat((say_readers(), parameters), communicator, true, true) {}
  Parameters parameters;
  FlatParameters flat;

 private:
  void say_readers() {
    for (size_t i : {1, 2}) parameters.all[i].set_read_by(ReadBy::matmul);
  }
};

TEST(ShardedMasters, KeepTheirShareAndWhatIsReadInF32) {
  std::mutex mutex;
  size_t bytes = 0;
  EXPECT_THAT(run_ranks(2,
                        [&](Communicator& communicator) {
                          Matrices m(communicator);
                          m.flat.round_matrices();
                          const std::lock_guard lock(mutex);
                          bytes += m.flat.value_bytes();
                        }),
              Each(IsEmpty()));
  // Each rank has one of the two products' matrices or both, the embedding and the bias.
  EXPECT_EQ(bytes, sizeof(float) * (8 * 8 + 24 * 8 + 2 * (12 * 8 + 32)));
  Parameters parameters(kShapes, DType::f32);
  EXPECT_EQ(FlatParameters(parameters, single_communicator(), true, true).value_bytes(),
            sizeof(float) * (12 * 8 + 8 * 8 + 24 * 8 + 32));
}

// Copies come when the parameters have left the memory that they were made in.
TEST(ShardedMasters, TakeLittleMoreThanTheyKeepWhileTheyAreMade) {
  std::vector<std::pair<std::string, Shape>> shapes;
  for (int i = 0; i < 16; ++i) shapes.emplace_back(std::to_string(i) + ".weight", Shape{64, 64});
  const double numbers = 16 * 64 * 64;
  const auto ranks = make_local_communicators(8);
  Allocator& memory = allocator(Device{});
  for (const size_t rank : {0, 5}) {
    const size_t before = memory.stats().in_use;
    Parameters parameters(shapes, DType::f32);
    for (Variable& v : parameters.all) v.set_read_by(ReadBy::matmul);
    memory.reset_peak();
    const FlatParameters flat(parameters, *ranks[rank], true, true);
    // Originals and gradients of 4 bytes, and a share; then copies of 2 bytes for the originals.
    EXPECT_LE(double(memory.stats().peak - before), 9 * numbers);
    EXPECT_GE(double(memory.stats().peak - before), 8.5 * numbers);
    EXPECT_NEAR(double(memory.stats().in_use - before), 6.5 * numbers, 0.1 * numbers);
  }
}

TEST(ShardedMasters, OthersAreThereInBf16AloneUntilTheyAreGathered) {
  EXPECT_THAT(run_ranks(2,
                        [&](Communicator& communicator) {
                          Matrices m(communicator);
                          const NamedTensors before = Parameters(kShapes, DType::f32).state();
                          EXPECT_EQ(difference(before, m.parameters.state()), "");
                          m.flat.round_matrices();
                          int hidden = 0;
                          for (const auto& member : m.flat.matrices().members) {
                            const Tensor& t = member.variable.tensor();
                            const Tensor wanted = before[size_t(member.order)].second;
                            EXPECT_TRUE(bit_identical(rounded_copy(t), wanted.to(DType::bf16)));
                            if (member.variable.read_by() == ReadBy::any ||
                                m.flat.owns(m.flat.matrices(), member)) {
                              EXPECT_TRUE(bit_identical(t, wanted)) << member.name;
                              continue;
                            }
                            ++hidden;
                            EXPECT_THAT(message_of<UserError>([&] { t.to_vector(); }),
                                        HasSubstr("in bf16 alone"));
                          }
                          const auto all = communicator.all_gather(std::to_string(hidden));
                          EXPECT_EQ(std::stoi(all[0]) + std::stoi(all[1]), 2);
                          m.flat.gather_values();
                          EXPECT_EQ(difference(before, m.parameters.state()), "");
                          EXPECT_FALSE(m.parameters.all[1].grad().defined());
                        }),
              Each(IsEmpty()));
}

// A backward pass that nobody expects there writes no weights.
TEST(ShardedMasters, GatheredValuesAreNoPlaceForGradients) {
  EXPECT_THAT(run_ranks(2,
                        [&](Communicator& communicator) {
                          Matrices m(communicator);
                          for (const bool again : {false, true}) {
                            for (const Variable& v : m.parameters.all)
                              backward(sum_all(multiply(v, v)));
                            EXPECT_EQ(difference(Parameters(kShapes, DType::f32).state(),
                                                 m.parameters.state()),
                                      "")
                                << again;
                            m.flat.round_matrices();
                            m.flat.gather_values();
                          }
                        }),
              Each(IsEmpty()));
}

TEST(ShardedMasters, WeightsWrittenBetweenStepsAreRefused) {
  EXPECT_THAT(run_ranks(2,
                        [&](Communicator& communicator) {
                          Matrices m(communicator);
                          m.flat.round_matrices();
                          const auto optimizer = make_optimizer({{"type", "adamw"}}, m.flat);
                          m.flat.clear_gradients();
                          optimizer->step(0.1, m.flat.gradient_norm());
                          m.flat.round_matrices();  // the optimizer may
                          m.flat.matrices().values.fill(1);
                          EXPECT_THAT(message_of<UserError>([&] { m.flat.round_matrices(); }),
                                      HasSubstr("written between two training steps"));
                        }),
              Each(IsEmpty()));
}

// The rank that does not update the embedding has f32 values of it, too.
TEST(ShardedMasters, AnEmbeddingWrittenWhereItIsNotUpdatedIsRefused) {
  EXPECT_THAT(run_ranks(2,
                        [&](Communicator& communicator) {
                          Matrices m(communicator);
                          m.flat.round_matrices();
                          const auto optimizer = make_optimizer({{"type", "adamw"}}, m.flat);
                          m.flat.clear_gradients();
                          optimizer->step(0.1, m.flat.gradient_norm());
                          m.flat.round_matrices();
                          const auto& wte = m.flat.matrices().members[0];
                          ASSERT_EQ(wte.name, "wte.weight");
                          if (m.flat.owns(m.flat.matrices(), wte)) return;
                          Tensor values = wte.variable.tensor();
                          values.fill(1);
                          EXPECT_THAT(message_of<UserError>([&] { m.flat.round_matrices(); }),
                                      HasSubstr("written between two training steps"));
                        }),
              Each(IsEmpty()));
}

TEST(ShardedMasters, AnUpdateWantsAStep) {
  EXPECT_THAT(run_ranks(2,
                        [&](Communicator& communicator) {
                          Matrices m(communicator);
                          EXPECT_THAT(message_of<InternalError>(
                                          [&] { m.flat.exchange_values(m.flat.matrices()); }),
                                      HasSubstr("before begin_step()"));
                        }),
              Each(IsEmpty()));
}

TEST(ShardedMasters, F64AndF32KeepAll) {
  run_ranks(2, [&](Communicator& communicator) {
    Parameters wide(kShapes, DType::f64), f32(kShapes, DType::f32);
    EXPECT_FALSE(FlatParameters(wide, communicator, true, true).shards_masters());
    EXPECT_FALSE(FlatParameters(f32, communicator, true, false).shards_masters());
  });
}

// ---- runs ---------------------------------------------------------------------------------------

const char* kCarriedMemory =
    R"({"model": {"memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2, "chunk_length": 4, "carry_state": true}}})";

// With sharded masters, products read copies in bf16; without, these blocks round their weights.
const char* kRematerializedMemory =
    R"({"model": {"rematerialize": true, "memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2, "chunk_length": 4, "carry_state": true}}})";

class Bf16Ranks : public ::testing::Test {
 protected:
  // Exact sums: the order of additions does not depend on the number of ranks.
  ExperimentOptions options(const std::string& patch, bool shard,
                            const char* exact_sums = "on") const {
    Json all = Json::parse(patch);
    all["precision"] = "bf16";
    all["train"]["exact_sums"] = exact_sums;
    all["distributed"]["shard_optimizer"] = shard;
    return experiments_.options(all.dump());
  }
  Outcome trained(const std::string& name, const ExperimentOptions& options, int ranks) {
    EXPECT_THAT(experiments_.train(name, options, ranks), Each(IsEmpty()));
    return experiments_.outcome(name);
  }
  Experiments experiments_;
};

TEST_F(Bf16Ranks, AnyNumberTrainsBitIdentically) {
  const Outcome one = trained("one", options("{}", false), 1);
  EXPECT_GE(one.losses.size(), 6u * 5);
  EXPECT_THAT(differences(one, trained("whole", options("{}", false), 3)), IsEmpty());
  for (const int ranks : {2, 5})
    EXPECT_THAT(
        differences(one, trained("sharded" + std::to_string(ranks), options("{}", true), ranks)),
        IsEmpty())
        << ranks;
  // The comparison sees what rounding to bf16 changes.
  Json f32 = Json::parse(R"({"precision": "f32", "train": {"exact_sums": "on"}})");
  EXPECT_THAT(differences(trained("f32", experiments_.options(f32.dump()), 1), one),
              Not(IsEmpty()));
}

TEST_F(Bf16Ranks, MemoryAndMuonTrainBitIdentically) {
  int i = 0;
  for (const char* patch : {kRematerializedMemory, R"({"optimizer": {"type": "muon"}})"}) {
    const std::string name = std::to_string(i++);
    EXPECT_THAT(differences(trained("one" + name, options(patch, false), 1),
                            trained("sharded" + name, options(patch, true), 3)),
                IsEmpty())
        << patch;
  }
}

// Without exact sums, bits depend on the number of ranks, and not on who keeps the masters.
TEST_F(Bf16Ranks, TrainAsThoseThatKeepAllMasters) {
  int i = 0;
  for (const char* patch : {"{}", kRematerializedMemory}) {
    const std::string name = std::to_string(i++);
    EXPECT_THAT(differences(trained("whole" + name, options(patch, false, "off"), 3),
                            trained("sharded" + name, options(patch, true, "off"), 3)),
                IsEmpty())
        << patch;
  }
}

// Hashes of all weights, in every hook that finds all.
struct HashesWeights final : Callback {
  void note(const char* hook, const RunView& t) {
    hashes.push_back(fmt::format("{} {} {}", hook, t.step(), t.model().weights_hash()));
  }
  void on_start(const RunView& t, int64_t) override { note("start", t); }
  void on_evaluation(const RunView& t, const EvaluationInfo&) override { note("evaluation", t); }
  void on_sample(const RunView& t, int64_t, const std::string&) override { note("sample", t); }
  void on_checkpoint(const RunView& t, const std::string&) override { note("checkpoint", t); }
  void on_end(const RunView& t) override { note("end", t); }
  std::vector<std::string> hashes;
};

TEST_F(Bf16Ranks, CallbacksFindAllWeightsInEveryHookButThatOfAStep) {
  const char* patch =
      R"({"sample": {"interval": 2}, "checkpoint": {"interval": 0, "keep_best": true}})";
  const auto hashes = [&](const std::string& name, bool shard, int ranks) {
    std::vector<std::vector<std::string>> all(static_cast<size_t>(ranks));
    EXPECT_THAT(run_ranks(ranks,
                          [&](Communicator& communicator) {
                            HashesWeights callback;
                            RunControl c = experiments_.control(name, communicator);
                            c.callbacks.push_back(&callback);
                            MonitoredTrainer(options(patch, shard), c).run();
                            all[size_t(communicator.rank())] = callback.hashes;
                          }),
                Each(IsEmpty()));
    return all;
  };
  const std::vector<std::string> alone = hashes("one", false, 1)[0];
  const auto sharded = hashes("sharded", true, 3);
  for (const char* hook : {"start 0 ", "sample 2 ", "evaluation 3 ", "checkpoint 3 ", "sample 4 ",
                           "checkpoint 6 ", "evaluation 6 ", "sample 6 ", "end 6 "})
    EXPECT_THAT(alone, ::testing::Contains(::testing::StartsWith(hook)));
  EXPECT_EQ(sharded[0], alone);
  // The first rank alone writes samples and checkpoints.
  std::vector<std::string> of_all;
  for (const std::string& hash : alone)
    if (!hash.starts_with("sample") && !hash.starts_with("checkpoint")) of_all.push_back(hash);
  for (size_t rank : {1, 2}) EXPECT_EQ(sharded[rank], of_all) << rank;
  EXPECT_THAT(differences(experiments_.outcome("one"), experiments_.outcome("sharded")), IsEmpty());
}

TEST_F(Bf16Ranks, ResumeAtAnotherNumberBitIdentically) {
  const Outcome whole = trained("whole", options(kCarriedMemory, false), 1);
  const ExperimentOptions sharded = options(kCarriedMemory, true);
  EXPECT_THAT(experiments_.train("parts", sharded, 3, false, 2), Each(IsEmpty()));
  EXPECT_THAT(experiments_.train("parts", sharded, 1, true, 3), Each(IsEmpty()));
  EXPECT_THAT(experiments_.train("parts", sharded, 4, true), Each(IsEmpty()));
  EXPECT_THAT(differences(whole, experiments_.outcome("parts")), IsEmpty());
}

TEST_F(Bf16Ranks, GoOnWhereARankDied) {
  const Outcome whole = trained("whole", options("{}", false), 1);
  const ExperimentOptions sharded = options("{}", true);
  struct Dies final : Callback {
    void on_step(const RunView& t, const StepInfo& s) override {
      if (s.step == 5 && t.communicator().rank() == 1) throw MachineError("no power");
    }
  };
  const auto errors = run_ranks(3, [&](Communicator& communicator) {
    Dies dies;
    RunControl c = experiments_.control("run", communicator);
    c.callbacks.push_back(&dies);
    MonitoredTrainer(sharded, c).run();
  });
  EXPECT_THAT(errors, Each(HasSubstr("no power")));
  EXPECT_EQ(experiments_.outcome("run").state.at("step"), 4);
  EXPECT_THAT(experiments_.train("run", sharded, 2, true), Each(IsEmpty()));
  EXPECT_THAT(differences(whole, experiments_.outcome("run")), IsEmpty());
}

// Checkpoints are those of a run that shards nothing: f32 values once, and no copies.
TEST_F(Bf16Ranks, CheckpointsHoldMastersOnce) {
  trained("run", options("{}", true), 3);
  const Outcome saved = experiments_.outcome("run");
  const auto model = ModelRegistry::instance().make(
      read_experiment(read_stored_json(experiments_.directory() / "run/config.resolved.json"), ".")
          .model,
      Build{default_generator()});
  EXPECT_EQ(saved.weights.size(), model->parameters().size());
  for (const auto& [name, t] : saved.weights) EXPECT_EQ(t.dtype(), DType::f32) << name;
  EXPECT_EQ(saved.moments.size(), 2 * model->parameters().size());
}

// A rank whose copy is another than the others' is found by the next checkpoint.
TEST_F(Bf16Ranks, ACopyThatIsWrongIsSeen) {
  struct Spoil final : Callback {
    void on_step(const RunView& t, const StepInfo& s) override {
      if (s.step != 2 || t.communicator().rank() != 1) return;
      for (const auto& [name, v] : t.model().parameters())
        if (Tensor copy = rounded_copy(v.tensor())) {
          static_cast<std::byte*>(copy.mutable_raw())[0] ^= std::byte{1};
          return;
        }
    }
  };
  const auto errors = run_ranks(2, [&](Communicator& communicator) {
    Spoil spoil;
    RunControl c = experiments_.control("run", communicator);
    c.callbacks.push_back(&spoil);
    MonitoredTrainer(options("{}", true), c).run();
  });
  EXPECT_THAT(errors, Each(HasSubstr("not the same on all ranks")));
}

}  // namespace
}  // namespace reverie
