// Ranks over TCP on the loopback: meeting, strangers at the door, deaths.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string_view>

#include "support/message_of.h"
#include "trainers/distributed/ranks.h"
#include "trainers/distributed/tcp/tcp_transport.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MonitoredTrainer;

uint16_t free_port() {
  return local_end(listen_on("127.0.0.1", 0)).port;
}

// Like run_ranks(), each over a transport of its own; `plan` may be changed by rank.
std::vector<std::string> run_tcp(int ranks, uint16_t port,
                                 const std::function<void(Communicator&)>& body,
                                 const std::function<void(TcpPlan&)>& change = {}) {
  std::vector<std::string> errors(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      TcpPlan plan{r, ranks, "127.0.0.1", port, 20};
      if (change) change(plan);
      std::shared_ptr<Communicator> communicator;
      try {
        communicator = make_communicator(make_tcp_transport(plan));
        body(*communicator);
      } catch (const std::exception& e) {
        errors[size_t(r)] = e.what();
        if (communicator) communicator->abort(1, e.what());
      }
    });
  for (auto& t : threads) t.join();
  return errors;
}

void reduce_and_check(Communicator& c, int64_t count) {
  Tensor t = Tensor::full({count}, c.rank() + 1, DType::f64);
  c.all_reduce(t, Reduction::sum);
  const double wanted = c.size() * (c.size() + 1) / 2.0;
  for (double x : t.to_vector()) ASSERT_EQ(x, wanted);
}

TEST(Tcp, RanksMeetAndReduce) {
  for (int ranks : {2, 4})
    EXPECT_THAT(run_tcp(ranks, free_port(),
                        [](Communicator& c) {
                          for (int64_t count : {1, 7, 3000000}) reduce_and_check(c, count);
                          EXPECT_EQ(c.all_gather(std::to_string(c.rank())).back(),
                                    std::to_string(c.size() - 1));
                        }),
                Each(IsEmpty()));
}

TEST(Tcp, TrainingEqualsOneProcessBitByBit) {
  testing::Experiments experiments;
  const ExperimentOptions options = experiments.options();
  EXPECT_THAT(experiments.train("one", options, 1), Each(IsEmpty()));
  EXPECT_THAT(run_tcp(3, free_port(),
                      [&](Communicator& c) {
                        MonitoredTrainer(options, experiments.control("tcp", c)).run();
                      }),
              Each(IsEmpty()));
  EXPECT_THAT(testing::differences(experiments.outcome("one"), experiments.outcome("tcp")),
              IsEmpty());
}

// ---- strangers -----------------------------------------------------------------
Socket stranger(uint16_t port, const std::string& says) {
  Socket socket = connect_to("127.0.0.1", port, monotonic_seconds() + 10, "rank 0");
  send_all(socket, std::as_bytes(std::span(says)), monotonic_seconds() + 10, "rank 0");
  return socket;
}

TEST(Tcp, StrangersAtTheDoorAreClosedAndWaitedPast) {
  const uint16_t port = free_port();
  std::vector<Socket> strangers;
  std::string error;
  std::thread visitors([&] {
    std::mt19937 random(1);
    std::string noise(100000, 0);
    for (char& c : noise) c = char(random());
    strangers.push_back(stranger(port, "GET / HTTP/1.1\r\n\r\n"));
    strangers.push_back(stranger(port, noise));
    strangers.push_back(stranger(port, "x"));
    strangers.push_back(stranger(port, ""));  // says nothing, and stays
    // Knows the first word, and no more.
    strangers.push_back(stranger(port, "RveitcP1" + std::string(200, 'x')));
    try {
      reduce_and_check(*make_communicator(make_tcp_transport({1, 2, "127.0.0.1", port, 20})), 10);
    } catch (const std::exception& e) {
      error = e.what();
    }
  });
  EXPECT_NO_THROW(
      reduce_and_check(*make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20})), 10));
  visitors.join();
  EXPECT_EQ(error, "");
}

TEST(Tcp, AServerThatIsNoRankIsNamed) {
  const Socket listener = listen_on("127.0.0.1", 0);
  const uint16_t port = local_end(listener).port;
  std::atomic<bool> done{false};
  std::thread server([&] {
    std::vector<Socket> guests;
    while (!done) {
      Socket guest = accept_from(listener);
      if (guest.open()) {
        const std::string answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
        send_all(guest, std::as_bytes(std::span(answer)), monotonic_seconds() + 5, "it");
        guests.push_back(std::move(guest));
      }
      std::this_thread::sleep_for(milliseconds(5));
    }
  });
  const std::string error = testing::message_of<MachineError>([&] {
    make_tcp_transport({1, 2, "127.0.0.1", port, 5});
  });
  EXPECT_THAT(error, HasSubstr("is not rank 0"));
  done = true;
  server.join();
}

TEST(Tcp, NoiseFromARankEndsTheRunAndNamesIt) {
  const uint16_t port = free_port();
  std::thread impostor([&] {
    const TcpPeers peers = meet({1, 2, "127.0.0.1", port, 20});
    const std::string noise(1000, 'z');
    send_all(peers.ranks[0].socket, std::as_bytes(std::span(noise)), monotonic_seconds() + 5, "it");
    std::this_thread::sleep_for(milliseconds(500));
  });
  const auto communicator = make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20}));
  const std::string error =
      testing::message_of<PeerError>([&] { reduce_and_check(*communicator, 10); });
  EXPECT_THAT(error, AllOf(HasSubstr("rank 1"), HasSubstr("no rank of this run")));
  // Nothing goes on after that.
  EXPECT_THROW(communicator->barrier(), PeerError);
  impostor.join();
}

TEST(Tcp, AnotherNumberOfRanksIsRefusedOnBothSides) {
  const auto errors = run_tcp(
      2, free_port(), [](Communicator&) {},
      [](TcpPlan& plan) {
        if (plan.rank == 1) plan.size = 3;
      });
  EXPECT_THAT(errors, Each(HasSubstr("started as one of 3 ranks")));
}

TEST(Tcp, TwoProcessesWithOneRankAreRefused) {
  const auto errors = run_tcp(
      3, free_port(), [](Communicator&) {},
      [](TcpPlan& plan) {
        plan.seconds = 3;
        if (plan.rank == 2) plan.rank = 1;
      });
  EXPECT_THAT(errors[0], HasSubstr("two processes have one RANK"));
}

TEST(Tcp, ARankThatDoesNotComeIsNamedInTime) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string error = testing::message_of<MachineError>([] {
    make_tcp_transport({0, 3, "127.0.0.1", free_port(), 0.5});
  });
  EXPECT_THAT(error, HasSubstr("rank 1, 2 of 3"));
  const std::string alone = testing::message_of<MachineError>([] {
    make_tcp_transport({1, 3, "127.0.0.1", free_port(), 0.5});
  });
  EXPECT_THAT(alone, HasSubstr("cannot reach rank 0"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

// ---- deaths -----------------------------------------------------------------
// Rank 1 in a process of its own: this program again, running DISABLED_Rank1 below.
class Rank1 {
 public:
  Rank1(const std::string& deed, uint16_t port) {
    const std::string what = fmt::format("REVERIE_TEST_RANK_1={}", deed),
                      where = fmt::format("REVERIE_TEST_PORT={}", port);
    std::vector<char*> environment{const_cast<char*>(what.c_str()),
                                   const_cast<char*>(where.c_str())};
    // A shard's number would be the child's too, whose one test stands in the first shard alone.
    for (char** e = environ; *e; ++e)
      if (!std::string_view(*e).starts_with("GTEST_")) environment.push_back(*e);
    environment.push_back(nullptr);
    const char* arguments[] = {"test",
                               "--gtest_also_run_disabled_tests",
                               "--gtest_filter=Tcp.DISABLED_Rank1",
                               "--gtest_brief=1",
                               "--gtest_output=",
                               nullptr};
    EXPECT_EQ(::posix_spawn(&process_, "/proc/self/exe", nullptr, nullptr,
                            const_cast<char**>(arguments), environment.data()),
              0);
  }
  ~Rank1() {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  Rank1(const Rank1&) = delete;
  Rank1& operator=(const Rank1&) = delete;
  pid_t process() const { return process_; }

 private:
  pid_t process_ = -1;
};

TEST(Tcp, DISABLED_Rank1) {
  const char *what = std::getenv("REVERIE_TEST_RANK_1"), *where = std::getenv("REVERIE_TEST_PORT");
  ASSERT_TRUE(what && where) << "other tests run this one";
  const std::string deed = what;
  const auto communicator =
      make_communicator(make_tcp_transport({1, 2, "127.0.0.1", uint16_t(std::stoi(where)), 20}));
  communicator->set_time_limit(1);
  communicator->barrier();
  if (deed == "dies") ::kill(::getpid(), SIGKILL);
  if (deed == "hangs") ::kill(::getpid(), SIGSTOP);
  if (deed == "dawdles") std::this_thread::sleep_for(milliseconds(2500));
  communicator->barrier();
}

TEST(Tcp, ARankThatIsKilledIsNamedAtOnce) {
  const uint16_t port = free_port();
  const Rank1 rank_1("dies", port);
  const auto communicator = make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20}));
  communicator->barrier();
  const auto begin = std::chrono::steady_clock::now();
  const std::string error =
      testing::message_of<PeerError>([&] { reduce_and_check(*communicator, 1000000); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_THAT(error,
              AllOf(HasSubstr("rank 1 ("), HasSubstr(fmt::format("process {}", rank_1.process())),
                    HasSubstr("has died")));
}

TEST(Tcp, ARankThatHangsIsNamedWithinTheTimeLimit) {
  const uint16_t port = free_port();
  const Rank1 rank_1("hangs", port);
  const auto communicator = make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20}));
  communicator->set_time_limit(1);
  communicator->barrier();
  const auto begin = std::chrono::steady_clock::now();
  const std::string error =
      testing::message_of<PeerError>([&] { reduce_and_check(*communicator, 10); });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_THAT(error, AllOf(HasSubstr("rank 1 ("), HasSubstr("no sign of life for 1 s")));
}

TEST(Tcp, ARankThatIsOnlySlowIsWaitedFor) {
  const uint16_t port = free_port();
  const Rank1 rank_1("dawdles", port);
  const auto communicator = make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20}));
  communicator->set_time_limit(1);
  communicator->barrier();
  EXPECT_NO_THROW(communicator->barrier());
}

// ---- while a rank waits for something else (a GPU's work) -------------------------------------
// Watches as such a wait does, four times a second, for at most `seconds`.
void watch_for(Communicator& communicator, double seconds) {
  for (double waited = 0; waited < seconds; waited += 0.25) {
    communicator.watch(waited);
    std::this_thread::sleep_for(milliseconds(250));
  }
}

TEST(Tcp, AWatchNamesARankThatIsKilled) {
  const uint16_t port = free_port();
  const Rank1 rank_1("dies", port);
  const auto communicator = make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20}));
  communicator->barrier();
  EXPECT_THAT(testing::message_of<PeerError>([&] { watch_for(*communicator, 20); }),
              AllOf(HasSubstr("rank 1 ("), HasSubstr("has died")));
  EXPECT_THROW(communicator->barrier(), PeerError);  // nothing goes on after that
}

TEST(Tcp, AWatchNamesARankThatHangs) {
  const uint16_t port = free_port();
  const Rank1 rank_1("hangs", port);
  const auto communicator = make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20}));
  communicator->set_time_limit(1);
  communicator->barrier();
  EXPECT_THAT(testing::message_of<PeerError>([&] { watch_for(*communicator, 20); }),
              AllOf(HasSubstr("rank 1 ("), HasSubstr("no sign of life for 1 s")));
}

TEST(Tcp, AWatchWaitsForWhoIsOnlySlow) {
  const uint16_t port = free_port();
  const Rank1 rank_1("dawdles", port);
  const auto communicator = make_communicator(make_tcp_transport({0, 2, "127.0.0.1", port, 20}));
  communicator->set_time_limit(1);
  communicator->barrier();
  EXPECT_NO_THROW(watch_for(*communicator, 2));
  EXPECT_NO_THROW(communicator->barrier());
}

TEST(Tcp, AWatchHearsTheReasonAndLeavesDataWhereItLies) {
  const auto errors = run_tcp(2, free_port(), [](Communicator& c) {
    c.barrier();
    Tensor t = Tensor::full({1000}, c.rank() + 1, DType::f64);
    const Pending sum = c.rank() == 1 ? c.all_reduce_async(t, Reduction::sum) : Pending();
    if (c.rank() == 0) {  // the other's terms lie there
      std::this_thread::sleep_for(milliseconds(300));
      watch_for(c, 1);
      c.all_reduce(t, Reduction::sum);
    }
    sum.wait();
    for (double x : t.to_vector()) ASSERT_EQ(x, 3);
    if (c.rank() == 1) throw UserError("no space is left");
    watch_for(c, 20);
  });
  EXPECT_THAT(errors[0], AllOf(HasSubstr("rank 1"), HasSubstr("no space is left")));
  EXPECT_EQ(errors[1], "no space is left");
}

TEST(Tcp, TheReasonOfAFailureReachesTheOthers) {
  const auto errors = run_tcp(3, free_port(), [](Communicator& c) {
    c.barrier();
    if (c.rank() == 2) throw UserError("no space is left");
    for (int i = 0; i < 100; ++i) reduce_and_check(c, 100000);
  });
  EXPECT_THAT(errors[0] + errors[1], HasSubstr("rank 2"));
  EXPECT_THAT(errors, Each(HasSubstr("no space is left")));
}

}  // namespace
}  // namespace reverie
