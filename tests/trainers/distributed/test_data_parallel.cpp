// Training over several ranks is training in one process, bit by bit in f64.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>

#include "trainers/distributed/ranks.h"
#include "trainers/training/batch_split.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using testing::differences;
using ::testing::Each;
using testing::Experiments;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MonitoredTrainer;
using ::testing::Not;
using testing::Outcome;
using testing::run_ranks;

const char* kCarriedMemory =
    R"({"model": {"memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2, "chunk_length": 4, "carry_state": true}}})";
// Every line a document, which begins with a clean memory: three windows, stopped in the second.
const char* kCarriedDocuments =
    R"({"data": {"document_separator": "\n", "document_token": "\n"}, "model": {"memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2, "chunk_length": 4, "carry_state": true}}})";
const char* kSharded = R"({"distributed": {"shard_optimizer": true}})";

class DataParallel : public ::testing::Test {
 protected:
  Outcome trained(const std::string& name, const ExperimentOptions& options, int ranks) {
    EXPECT_THAT(experiments_.train(name, options, ranks), Each(IsEmpty()));
    return experiments_.outcome(name);
  }
  Experiments experiments_;
};

TEST_F(DataParallel, AnyNumberOfRanksTrainsBitIdentically) {
  for (const char* patch : {"{}", kCarriedMemory, kCarriedDocuments, kSharded}) {
    const ExperimentOptions options = experiments_.options(patch);
    const std::string name = std::to_string(std::string(patch).size());
    const Outcome one = trained("one" + name, options, 1);
    EXPECT_GE(one.losses.size(), 6u * 5);
    for (int ranks : {2, 3, 4, 5}) {  // 5 does not divide 12
      const Outcome many = trained("ranks" + std::to_string(ranks) + name, options, ranks);
      EXPECT_THAT(differences(one, many), IsEmpty()) << ranks << " ranks, " << patch;
    }
  }
  // Where the order of additions depends on the number of ranks, so do the bits: the comparison
  // sees differences of rounding.
  const ExperimentOptions fast = experiments_.options(R"({"train": {"exact_sums": "off"}})");
  EXPECT_THAT(differences(trained("fast1", fast, 1), trained("fast3", fast, 3)), Not(IsEmpty()));
}

TEST_F(DataParallel, MicroBatchesChangeNoBitOfExactSums) {
  const Outcome whole = trained("whole", experiments_.options(), 1);
  const Outcome parts =
      trained("parts", experiments_.options(R"({"train": {"micro_batches": 4}})"), 2);
  EXPECT_THAT(differences(whole, parts), IsEmpty());
}

// Losses in f32 differ by rounding alone; they fall from 3.4 nats.
TEST_F(DataParallel, LossesInF32StayWithinTolerance) {
  for (const char* precision : {"f32", "bf16"}) {
    const ExperimentOptions options = experiments_.options(
        fmt::format(R"({{"precision": "{}", "train": {{"steps": 30}}}})", precision));
    const auto losses = [&](int ranks) {
      const std::string name = fmt::format("{}-{}", precision, ranks);
      EXPECT_THAT(experiments_.train(name, options, ranks), Each(IsEmpty()));
      std::vector<double> list;
      for (const Json& e : read_metrics(experiments_.directory() / name))
        if (e.at("event") == "train") list.push_back(e.at("loss"));
      return list;
    };
    const auto one = losses(1);
    ASSERT_EQ(one.size(), 30u);
    for (int ranks : {2, 4}) {
      const auto many = losses(ranks);
      ASSERT_EQ(many.size(), one.size());
      for (size_t i = 0; i < one.size(); ++i)
        EXPECT_NEAR(one[i], many[i], std::string(precision) == "f32" ? 1e-4 : 3e-3)
            << precision << ", step " << i + 1 << ", " << ranks << " ranks";
    }
  }
}

TEST_F(DataParallel, ResumesAtAnotherNumberOfRanksBitIdentically) {
  for (const char* patch : {"{}", kCarriedMemory, kCarriedDocuments, kSharded}) {
    const ExperimentOptions options = experiments_.options(patch);
    const std::string name = std::to_string(std::string(patch).size());
    const Outcome whole = trained("whole" + name, options, 1);
    const std::string parts = "parts" + name;
    EXPECT_THAT(experiments_.train(parts, options, 3, false, 2), Each(IsEmpty()));
    EXPECT_THAT(experiments_.train(parts, options, 1, true, 3), Each(IsEmpty()));
    EXPECT_THAT(experiments_.train(parts, options, 4, true), Each(IsEmpty()));
    EXPECT_THAT(differences(whole, experiments_.outcome(parts)), IsEmpty()) << patch;
  }
}

TEST_F(DataParallel, GradientsLeaveWhileBackwardRuns) {
  const ExperimentOptions options = experiments_.options();
  EXPECT_THAT(
      run_ranks(2,
                [&](Communicator& communicator) {
                  MonitoredTrainer trainer(options, experiments_.control("overlap", communicator));
                  trainer.run();
                  EXPECT_GE(trainer.reducer().buckets(), 4);
                  EXPECT_GE(trainer.reducer().overlapped(), trainer.reducer().buckets() - 1);
                }),
      Each(IsEmpty()));
}

TEST_F(DataParallel, ShardedRanksKeepTheirShareOfTheMoments) {
  const ExperimentOptions options = experiments_.options(kSharded);
  size_t whole = 0, sum = 0;
  std::mutex mutex;
  const auto measure = [&](const std::string& name, int ranks, auto&& say) {
    return run_ranks(ranks, [&](Communicator& communicator) {
      const MonitoredTrainer trainer(options, experiments_.control(name, communicator));
      const std::lock_guard lock(mutex);
      say(trainer.optimizer().state_bytes());
    });
  };
  EXPECT_THAT(measure("a", 1, [&](size_t bytes) { whole = bytes; }), Each(IsEmpty()));
  EXPECT_THAT(measure("b", 4,
                      [&](size_t bytes) {
                        EXPECT_LT(bytes, whole);  // shares end between parameters
                        sum += bytes;
                      }),
              Each(IsEmpty()));
  EXPECT_EQ(sum, whole);
}

// Changes one number of what a rank receives in the first sum after `armed` was set: of the terms,
// or of the result.
class FaultyTransport final : public Transport {
 public:
  enum class Fault { term, result };
  FaultyTransport(std::unique_ptr<Transport> inner, Fault fault, std::atomic<bool>& armed)
      : inner_(std::move(inner)), fault_(fault), armed_(armed) {}
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::string kind() const override { return inner_->kind(); }
  void abort(int code, const std::string& reason) noexcept override { inner_->abort(code, reason); }
  void watch(double waited) override { inner_->watch(waited); }
  void exchange(const Mail& mail) override {
    inner_->exchange(mail);
    const auto received = mail.receive[size_t(1 - rank())];
    if (!armed_ || received.size() < 1024) return;
    // A sum is two exchanges: terms, then results.
    if (exchanges_++ == (fault_ == Fault::term ? 0 : 1))
      received[received.size() / 16 * 8 + 6] ^= std::byte{8};  // a few per cent of a double
  }

 private:
  std::unique_ptr<Transport> inner_;
  Fault fault_;
  std::atomic<bool>& armed_;
  int exchanges_ = 0;
};

struct ArmCallback final : Callback {
  explicit ArmCallback(std::atomic<bool>& flag) : armed(flag) {}
  void on_step(const RunView& t, const StepInfo& s) override {
    if (s.step == 2 && t.communicator().rank() == 1) armed = true;
  }
  std::atomic<bool>& armed;
};

TEST_F(DataParallel, ASumThatIsWrongIsSeen) {
  const ExperimentOptions options = experiments_.options();
  const Outcome one = trained("one", options, 1);
  for (const auto fault : {FaultyTransport::Fault::term, FaultyTransport::Fault::result}) {
    std::atomic<bool> armed{false};
    auto transports = make_local_transports(2);
    const std::vector<std::shared_ptr<Communicator>> communicators{
        make_communicator(std::move(transports[0])),
        make_communicator(
            std::make_unique<FaultyTransport>(std::move(transports[1]), fault, armed))};
    const std::string name = fault == FaultyTransport::Fault::term ? "term" : "result";
    const auto errors = run_ranks(communicators, [&](Communicator& communicator) {
      ArmCallback arm(armed);
      RunControl c = experiments_.control(name, communicator);
      c.callbacks.push_back(&arm);
      MonitoredTrainer(options, c).run();
    });
    if (fault == FaultyTransport::Fault::term) {
      // Both ranks have the same wrong sum: only the one-process run says so.
      EXPECT_THAT(errors, Each(IsEmpty()));
      EXPECT_THAT(differences(one, experiments_.outcome(name)), Not(IsEmpty()));
    } else {
      // One rank has another result: the weights drift apart, which the next checkpoint finds.
      EXPECT_THAT(errors, Each(HasSubstr("not the same on all ranks")));
    }
  }
}

TEST_F(DataParallel, RanksThatDifferAreRefusedWithTheDifference) {
  const auto errors = run_ranks(3, [&](Communicator& communicator) {
    const char* patch =
        communicator.rank() == 2 ? R"({"optimizer": {"learning_rate": 0.02}})" : "{}";
    MonitoredTrainer(experiments_.options(patch), experiments_.control("run", communicator));
  });
  EXPECT_THAT(errors, Each(HasSubstr("$.config.optimizer.learning_rate: 0.01 -> 0.02")));
  EXPECT_THAT(errors, Each(HasSubstr("rank 2")));
  EXPECT_FALSE(std::filesystem::exists(experiments_.directory() / "run"));
}

TEST_F(DataParallel, RanksWithOtherDataAreRefused) {
  const auto errors = run_ranks(2, [&](Communicator& communicator) {
    ExperimentOptions options = experiments_.options();
    if (communicator.rank() == 1) options.data.prepared_directory += "-other";
    if (communicator.rank() == 1) {
      options.data.path += ".other";
      std::ofstream(options.data.path) << std::string(4000, 'a') << std::string(4000, 'b');
    }
    MonitoredTrainer(options, experiments_.control("run", communicator));
  });
  EXPECT_THAT(errors, Each(HasSubstr("$.data")));
}

TEST_F(DataParallel, MoreRanksThanSequencesAreRefused) {
  const auto errors =
      experiments_.train("run", experiments_.options(R"({"train": {"batch_size": 2}})"), 3);
  EXPECT_THAT(errors, Each(HasSubstr("$.train.batch_size")));
}

TEST_F(DataParallel, ARankThatFailsEndsTheOthersWithItsReason) {
  struct Fail final : Callback {
    void on_step(const RunView& t, const StepInfo& s) override {
      if (s.step == 3 && t.communicator().rank() == 1) throw MachineError("the disk is on fire");
    }
  };
  const auto errors = run_ranks(3, [&](Communicator& communicator) {
    Fail fail;
    RunControl c = experiments_.control("run", communicator);
    c.callbacks.push_back(&fail);
    MonitoredTrainer(experiments_.options(), c).run();
  });
  EXPECT_THAT(errors, Each(HasSubstr("the disk is on fire")));
  EXPECT_THAT(errors[0], HasSubstr("rank 1"));
}

TEST(BatchSplit, CoversEveryRowOnce) {
  ExperimentOptions options;
  for (const char* exact : {"on", "off"})
    for (int64_t batch : {1, 5, 12})
      for (int64_t micro : {1, 2, 3})
        for (int ranks = 1; ranks <= batch; ++ranks) {
          if (batch % micro != 0) continue;
          options.train.batch_size = batch;
          options.train.micro_batches = micro;
          options.train.exact_sums = exact;
          int64_t row = 0;
          for (int r = 0; r < ranks; ++r)
            for (const BatchSplit split(options, r, ranks); const BatchPart& part : split.parts()) {
              EXPECT_EQ(part.first_row, row);
              EXPECT_GE(part.rows, 1);
              EXPECT_LE(part.rows, batch / micro);
              row += part.rows;
            }
          EXPECT_EQ(row, batch);
        }
}

}  // namespace
}  // namespace reverie
