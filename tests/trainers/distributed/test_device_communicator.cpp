// Ranks on device cuda. Where it is emulated they are threads, as on the CPU; on GPUs a rank is a
// process, and tests/cli/test_distributed.py starts them.

#include "core/json.h"
#include "trainers/distributed/device_communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/cuda.h"
#include "core/random.h"
#include "support/message_of.h"
#include "trainers/distributed/launch.h"
#include "trainers/distributed/nccl/nccl_transport.h"
#include "trainers/distributed/polling.h"
#include "trainers/distributed/ranks.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using testing::differences;
using ::testing::Each;
using testing::Experiments;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::message_of;
using testing::MonitoredTrainer;
using ::testing::Not;
using testing::Outcome;
using testing::run_ranks;

constexpr Device kCuda{DeviceKind::cuda, 0};

// One rank is a process as it is without any.
std::vector<std::string> run_on_cuda(int ranks, const std::function<void(Communicator&)>& body) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  auto hosts = make_local_communicators(ranks);
  if (ranks == 1) hosts[0] = {&single_communicator(), [](Communicator*) {}};
  std::vector<std::thread> threads;
  for (size_t r = 0; r < hosts.size(); ++r)
    threads.emplace_back([&, r] {
      std::shared_ptr<Communicator> communicator = hosts[r];
      try {
        communicator = communicator_on(kCuda, communicator);
        body(*communicator);
      } catch (const std::exception& e) {
        errors[r] = e.what();
        if (!communicator->failing_together()) communicator->abort(1, e.what());
      }
    });
  for (auto& t : threads) t.join();
  return errors;
}

// Different on every rank, and nothing that additions leave exact.
Tensor numbers(int64_t count, DType dtype, uint64_t seed) {
  return Generator(seed).normal({count}, 0, 1, DType::f64).to(dtype);
}

class RanksOnCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::status().flavour != cuda::Flavour::emulated)
      GTEST_SKIP() << "ranks as threads of one process want device cuda emulated in this build";
  }
  Outcome trained(const std::string& name, const ExperimentOptions& options, int ranks,
                  bool resume = false, std::optional<int64_t> stop_after = {}) {
    EXPECT_THAT(run_on_cuda(ranks,
                            [&](Communicator& communicator) {
                              RunControl c = experiments_.control(name, communicator);
                              c.resume = resume;
                              c.stop_after = stop_after;
                              MonitoredTrainer(options, c).run();
                            }),
                Each(IsEmpty()));
    return experiments_.outcome(name);
  }
  // Small, as each thread of each kernel is a fiber.
  ExperimentOptions options(const std::string& patch = "{}") {
    Config c = Config::parse(
        R"({"device": "cuda", "model": {"block_size": 8, "n_layer": 1}, "train": {"steps": 4, "batch_size": 5},
            "evaluation": {"interval": 2, "windows": 3, "prefix_only_windows": 1, "final_windows": 3, "final_prefix_only_windows": 1},
            "sample": {"tokens": 1}, "checkpoint": {"interval": 2}, "distributed": {"bucket_megabytes": 0.003}})",
        "small");
    c.merge(Config::parse(patch, "patch"));
    return experiments_.options(json_text(c.json()));
  }
  Experiments experiments_;
};

TEST_F(RanksOnCuda, BroadcastAndGather) {
  EXPECT_THAT(
      run_on_cuda(
          3,
          [](Communicator& c) {
            EXPECT_EQ(c.kind(), "threads, emulated");
            const Tensor wanted = numbers(7, DType::f32, 1);
            for (const Device device : {Device{}, kCuda}) {
              for (int root = 0; root < 3; ++root) {
                Tensor t =
                    (c.rank() == root ? wanted : numbers(7, DType::f32, 2)).to(device).clone();
                c.broadcast(t, root);
                EXPECT_EQ(t.device(), device);
                EXPECT_TRUE(bit_identical(t, wanted));
              }
              const std::vector<int64_t> begin{0, 2, 2, 7};
              const size_t r = size_t(c.rank());
              const Tensor mine = wanted.slice(0, begin[r], begin[r + 1]).clone().to(device);
              Tensor all = Tensor::full({7}, -1, DType::f32, device);
              all.slice(0, begin[r], begin[r + 1]).copy_from(mine);
              c.all_gather(all, begin);
              EXPECT_TRUE(bit_identical(all, wanted));
              Tensor whole;
              if (c.rank() == 2) whole = Tensor::zeros({7}, DType::f32, device);
              c.gather(mine, begin, whole, 2);
              if (c.rank() == 2) {
                EXPECT_TRUE(bit_identical(whole, wanted));
              }
            }
            EXPECT_EQ(c.all_gather(std::to_string(c.rank())),
                      (std::vector<std::string>{"0", "1", "2"}));
          }),
      Each(IsEmpty()));
}

TEST_F(RanksOnCuda, SumsOfRanksAndMeans) {
  for (int ranks : {2, 3})
    for (int64_t count : {0, 1, 100})
      EXPECT_THAT(run_on_cuda(ranks,
                              [&](Communicator& c) {
                                Tensor sum = Tensor::full({count}, c.rank() + 1, DType::f64, kCuda),
                                       mean = sum.clone();
                                c.all_reduce(sum, Reduction::sum);
                                c.all_reduce(mean, Reduction::mean);
                                const double wanted = ranks * (ranks + 1) / 2.0;
                                for (double x : sum.to_vector()) EXPECT_EQ(x, wanted);
                                for (double x : mean.to_vector())
                                  EXPECT_NEAR(x, wanted / ranks, 1e-14);
                              }),
                  Each(IsEmpty()));
}

// Several nodes a rank, shares of different size, fewer elements than ranks: each addition is the
// one that the CPU's ranks make.
TEST_F(RanksOnCuda, SumsInATreesOrderAreTheCpusBitByBit) {
  for (const std::vector<int64_t>& begin :
       {std::vector<int64_t>{0, 1, 2}, {0, 3, 7}, {0, 2, 5, 11}, {0, 1, 6, 7}})
    for (const DType dtype : {DType::f32, DType::f64})
      for (int64_t count : {1, 3, 101}) {
        const int ranks = int(begin.size()) - 1;
        EXPECT_THAT(run_on_cuda(ranks,
                                [&](Communicator& c) {
                                  const SumTree tree(begin);
                                  std::vector<Tensor> on_cpu, on_cuda;
                                  for (size_t i = 0; i < tree.nodes_of(c.rank()).size(); ++i) {
                                    on_cpu.push_back(
                                        numbers(count, dtype, uint64_t(c.rank()) * 100 + i + 1));
                                    on_cuda.push_back(on_cpu.back().to(kCuda));
                                  }
                                  // The result may be one of the terms.
                                  const Tensor cpu = on_cpu[0], cuda = on_cuda.back();
                                  const Pending first = c.sum_terms(tree, on_cpu, cpu),
                                                second = c.sum_terms(tree, on_cuda, cuda);
                                  first.wait();
                                  second.wait();
                                  EXPECT_TRUE(bit_identical(cpu, cuda))
                                      << ranks << " ranks, " << count;
                                }),
                    Each(IsEmpty()));
      }
}

TEST_F(RanksOnCuda, TensorsOnSeveralDevicesAreNotAdded) {
  EXPECT_THAT(run_on_cuda(2,
                          [](Communicator& c) {
                            const SumTree tree = SumTree::one_term_per_rank(2);
                            const Tensor here = Tensor::zeros({3}, DType::f32);
                            c.sum_terms(tree, {here}, here.to(kCuda)).wait();
                          }),
              Each(HasSubstr("all on one device, got f32[3] cpu")));
}

TEST_F(RanksOnCuda, AnyNumberOfRanksTrainsBitIdenticallyInF64) {
  for (
      const char* patch :
      {"{}", R"({"distributed": {"shard_optimizer": true}})",
       R"({"model": {"memory": {"type": "imm", "mode": "slots", "low_rank_dim": 4, "num_slots": 2, "chunk_length": 4, "carry_state": true}}})"}) {
    const ExperimentOptions o = options(patch);
    const std::string name = std::to_string(std::string(patch).size());
    const Outcome one = trained("one" + name, o, 1);
    for (int ranks : {2, 3})
      EXPECT_THAT(differences(one, trained(std::to_string(ranks) + name, o, ranks)), IsEmpty())
          << ranks << " ranks, " << patch;
    // And stopped, and gone on with by others.
    trained("parts" + name, o, 3, false, 2);
    trained("parts" + name, o, 1, true, 3);
    EXPECT_THAT(differences(one, trained("parts" + name, o, 2, true)), IsEmpty()) << patch;
  }
}

// A rank's only term is no licence to add in another order.
TEST_F(RanksOnCuda, ExactSumsInF32AreBitIdenticalWithAsManyRanksAsSequences) {
  const ExperimentOptions o =
      options(R"({"precision": "f32", "train": {"exact_sums": "on", "batch_size": 5}})");
  EXPECT_THAT(differences(trained("one", o, 1), trained("five", o, 5)), IsEmpty());
}

// Copies in bf16 go from device to device, and f32 values for evaluations and checkpoints.
TEST_F(RanksOnCuda, ShardedMastersInBf16TrainBitIdentically) {
  const std::string patch =
      R"({"precision": "bf16", "train": {"exact_sums": "on", "batch_size": 3}, "distributed": {"shard_optimizer": )";
  EXPECT_THAT(differences(trained("one", options(patch + "false}}"), 1),
                          trained("three", options(patch + "true}}"), 3)),
              IsEmpty());
}

TEST_F(RanksOnCuda, LossesInF32StayWithinTolerance) {
  const ExperimentOptions o = options(R"({"precision": "f32", "train": {"steps": 12}})");
  const auto losses = [&](int ranks) {
    const std::string name = std::to_string(ranks);
    trained(name, o, ranks);
    std::vector<double> list;
    for (const Json& e : read_metrics(experiments_.directory() / name))
      if (e.at("event") == "train") list.push_back(e.at("loss"));
    return list;
  };
  const auto one = losses(1), two = losses(2);
  ASSERT_EQ(one.size(), 12u);
  ASSERT_EQ(two.size(), one.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], two[i], 1e-4) << "step " << i + 1;
}

TEST_F(RanksOnCuda, ARankThatFailsEndsTheOthersWithItsReason) {
  const ExperimentOptions o = options();
  struct Fail final : Callback {
    void on_step(const RunView& t, const StepInfo& s) override {
      if (s.step == 2 && t.communicator().rank() == 1) throw MachineError("the disk is on fire");
    }
  };
  EXPECT_THAT(run_on_cuda(2,
                          [&](Communicator& communicator) {
                            Fail fail;
                            RunControl c = experiments_.control("run", communicator);
                            c.callbacks.push_back(&fail);
                            MonitoredTrainer(o, c).run();
                          }),
              Each(HasSubstr("the disk is on fire")));
}

// As NCCL does where a connection breaks: it cannot say whose.
class BrokenTransport final : public DeviceTransport {
 public:
  explicit BrokenTransport(bool& aborted) : aborted_(aborted) {}
  std::string kind() const override { return "broken"; }
  void exchange(const Mail&) override { throw MachineError("a remote process exited"); }
  void all_reduce(Tensor&) override { throw MachineError("a remote process exited"); }
  void check() override {}
  void abort() noexcept override { aborted_ = true; }

 private:
  bool& aborted_;
};

TEST_F(RanksOnCuda, WhereTheDevicesExchangeFailsTheRankThatDiedIsNamed) {
  for (const bool dies : {true, false}) {
    bool aborted = false;
    const auto errors = run_ranks(2, [&](Communicator& c) {
      if (c.rank() == 1) {
        if (dies) throw UserError("it had enough");
        return;
      }
      const std::shared_ptr<Communicator> host(&c, [](Communicator*) {});
      Tensor t = Tensor::zeros({3}, DType::f32, kCuda);
      make_device_communicator(host, std::make_unique<BrokenTransport>(aborted))->broadcast(t, 0);
    });
    EXPECT_THAT(errors[0],
                HasSubstr(dies ? "rank 1 is gone: it had enough" : "a remote process exited"));
    EXPECT_TRUE(aborted);
  }
}

TEST_F(RanksOnCuda, ATrainerWantsACommunicatorForItsDevice) {
  EXPECT_THAT(experiments_.train("run", options(), 2),
              Each(AllOf(HasSubstr("$.device is cuda"), HasSubstr("communicator_on"))));
}

TEST(DeviceCommunicator, RanksOnSeveralDevicesAreRefused) {
  EXPECT_THAT(
      run_ranks(make_local_communicators(2),
                [](Communicator& c) {
                  // The communicator outlives the call: nothing of it is kept.
                  const std::shared_ptr<Communicator> host(&c, [](Communicator*) {});
                  communicator_on({c.rank() == 0 ? DeviceKind::cpu : DeviceKind::cuda, 0}, host);
                }),
      Each(HasSubstr(R"($.config.device: "cpu" -> "cuda")")));
}

TEST(DeviceCommunicator, OnTheCpuItIsTheHosts) {
  EXPECT_THAT(run_ranks(2,
                        [](Communicator& c) {
                          const std::shared_ptr<Communicator> host(&c, [](Communicator*) {});
                          EXPECT_EQ(communicator_on(Device{}, host), host);
                        }),
              Each(IsEmpty()));
}

TEST(DeviceCommunicator, ABuildWithoutNcclSaysWhatToInstall) {
  if (!nccl_library().empty()) GTEST_SKIP() << "this build has " << nccl_library();
  EXPECT_THAT(run_ranks(2, [](Communicator& c) { make_nccl_transport(c); }),
              Each(AllOf(HasSubstr("2 ranks"), HasSubstr("libnccl-dev"))));
}

// ---- which GPU -------------------------------------------------------------------
TEST(GpuOfRank, FollowsTheEnvironment) {
  struct Case {
    std::map<std::string, std::string> environment;
    int rank, gpus, wanted;
  };
  for (const Case& c : {
           Case{{}, 0, 1, 0},
           Case{{}, 1, 2, 1},
           Case{{}, 5, 4, 1},                     // the second of the second machine
           Case{{{"LOCAL_RANK", "2"}}, 2, 8, 2},  // torchrun
           Case{{{"LOCAL_RANK", "1"}}, 9, 8, 1},  // on the second machine
           Case{{{"OMPI_COMM_WORLD_LOCAL_RANK", "3"}}, 7, 4, 3},
           Case{{{"MPI_LOCALRANKID", "1"}}, 3, 2, 1},
           Case{{{"LOCAL_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}}, 1, 2, 0},
           Case{{{"LOCAL_RANK", ""}}, 1, 2, 1},
           // Each rank was given the sight of its own.
           Case{{{"CUDA_VISIBLE_DEVICES", "5"}, {"LOCAL_RANK", "5"}}, 5, 1, 0},
           Case{{{"CUDA_VISIBLE_DEVICES", "4,5"}, {"LOCAL_RANK", "1"}}, 1, 2, 1},
       })
    EXPECT_EQ(gpu_of_rank(c.rank, c.gpus,
                          [&](const char* name) {
                            const auto it = c.environment.find(name);
                            return it == c.environment.end() ? nullptr : it->second.c_str();
                          }),
              c.wanted)
        << "rank " << c.rank << " with " << c.gpus << " GPUs, case "
        << ::testing::PrintToString(c.environment);
}

TEST(GpuOfRank, FewerGpusThanRanksAreRefused) {
  const auto with = [](const char* local, const char* visible) {
    return [=](const char* name) {
      return std::string(name) == "LOCAL_RANK"             ? local
             : std::string(name) == "CUDA_VISIBLE_DEVICES" ? visible
                                                           : nullptr;
    };
  };
  EXPECT_THAT(message_of<ConfigError>([&] { gpu_of_rank(3, 2, with("3", "0,1")); }),
              AllOf(HasSubstr("rank 3 is number 3 on its machine (LOCAL_RANK)"),
                    HasSubstr("see 2 GPUs"), HasSubstr("Start at most 2")));
  EXPECT_THAT(message_of<ConfigError>([&] { gpu_of_rank(1, 1, with("1", nullptr)); }),
              HasSubstr("see 1 GPU:"));
  EXPECT_THAT(message_of<ConfigError>([&] { gpu_of_rank(0, 2, with("-1", nullptr)); }),
              HasSubstr("number -1"));
  EXPECT_THAT(message_of<ConfigError>([&] { gpu_of_rank(0, 2, with("one", nullptr)); }),
              HasSubstr("LOCAL_RANK is 'one'"));
}

TEST(GpuOfRank, TwoRanksWithOneGpuAreNamed) {
  EXPECT_THAT(
      run_ranks(3,
                [](Communicator& c) { require_gpus_of_their_own(c, c.rank() == 1 ? "aa" : "bb"); }),
      Each(AllOf(HasSubstr("ranks 0 and 2 have the same GPU (UUID bb)"), HasSubstr("device cpu"))));
  EXPECT_THAT(
      run_ranks(3, [](Communicator& c) { require_gpus_of_their_own(c, std::to_string(c.rank())); }),
      Each(IsEmpty()));
}

// ---- waiting -------------------------------------------------------------------------
TEST(WaitUntil, LooksAroundAndMayBeEndedByThat) {
  double seen = 0;
  EXPECT_THAT(message_of<PeerError>([&] {
                poll_until([] { return false; },
                           [&](double waited) {
                             seen = waited;
                             if (waited > 0.4) throw PeerError("rank 1 is gone");
                           });
              }),
              HasSubstr("rank 1 is gone"));
  EXPECT_GT(seen, 0.4);
  int rounds = 0;
  poll_until([&] { return ++rounds == 150; },
             [](double) { FAIL() << "a short wait looks around"; });
  EXPECT_EQ(rounds, 150);
}

}  // namespace
}  // namespace reverie
