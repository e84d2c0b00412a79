// Profiling: scopes, what a summary makes of them, and what a run's steps took.

#include "core/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "core/files.h"
#include "trainers/distributed/ranks.h"
#include "trainers/monitoring/profile_report.h"

namespace reverie {
namespace {

using profile::Event;
using profile::Kind;
using ::testing::HasSubstr;

Event event(Kind kind, const char* name, int32_t parent, double begin, double seconds,
            profile::Work work = {}) {
  return {kind, name, 0, parent, begin, seconds, work};
}

TEST(Profile, ScopesRecordWhatLiesInThemOnlyWhileOn) {
  { const profile::Scope before(Kind::step, "before"); }
  profile::start();
  {
    const profile::Scope step(Kind::step, "step");
    profile::Scope kernel(Kind::kernel, "matmul");
    EXPECT_TRUE(kernel.recording());
    kernel.set_work({100, 40});
  }
  std::thread([] { const profile::Scope elsewhere(Kind::kernel, "copy"); }).join();
  const std::vector<Event> events = profile::stop();
  { const profile::Scope after(Kind::step, "after"); }
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].name, "step");
  EXPECT_EQ(events[0].parent, -1);
  EXPECT_EQ(events[1].name, "matmul");
  EXPECT_EQ(events[1].parent, 0);
  EXPECT_EQ(events[1].work.flops, 100);
  EXPECT_GE(events[0].seconds, events[1].seconds);
  EXPECT_EQ(events[2].parent, -1) << "of another thread";
  EXPECT_NE(events[2].thread, events[0].thread);
  EXPECT_TRUE(profile::stop().empty());
}

TEST(Profile, AScopeThatOutlivesItsRecordingHarmsNoOther) {
  profile::start();
  {
    const profile::Scope outer(Kind::step, "outer");
    EXPECT_EQ(profile::stop().size(), 1u);
    profile::start();
    const profile::Scope inner(Kind::step, "inner");
  }
  const std::vector<Event> events = profile::stop();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].name, "inner");
  EXPECT_EQ(events[0].parent, -1);
}

TEST(Profile, KernelMadeOfOthersIsToldByThem) {
  const ProfileSummary s = summarise({
      event(Kind::step, "step", -1, 0, 1.0), event(Kind::step, "forward", 0, 0, 0.9),
      event(Kind::forward, "linear", 1, 0, 0.8),
      event(Kind::kernel, "linear_forward", 2, 0, 0.7, {4e9, 3e9}),  // by parts
      event(Kind::kernel, "matmul", 3, 0, 0.5, {4e9, 1e9}),
      event(Kind::kernel, "binary_forward", 3, 0.5, 0.1, {0, 2e9}),
      event(Kind::kernel, "linear_forward", 2, 0.7, 0.05, {1e9, 1e9}),  // in one
  });
  EXPECT_DOUBLE_EQ(s.kernel_seconds, 0.5 + 0.1 + 0.05);
  EXPECT_DOUBLE_EQ(s.product_seconds, 0.5 + 0.05);
  ASSERT_EQ(s.kernels.size(), 3u);
  EXPECT_EQ(s.kernels[2].name, "linear_forward");
  EXPECT_EQ(s.kernels[2].calls, 1);
  EXPECT_DOUBLE_EQ(s.ops[0].kernel_seconds, 0.65);
}

TEST(Profile, SummaryAddsUpByKernelOpAndPhase) {
  const std::vector<Event> events = {
      event(Kind::step, "step", -1, 0, 1.0),
      event(Kind::step, "forward", 0, 0, 0.4),
      event(Kind::forward, "linear", 1, 0, 0.3),
      event(Kind::kernel, "matmul", 2, 0, 0.25, {4e9, 1e9}),
      event(Kind::step, "backward", 0, 0.4, 0.5),
      event(Kind::backward, "rematerialize", 4, 0.4, 0.5),
      event(Kind::forward, "linear", 5, 0.4, 0.2),  // a part of the op around it
      event(Kind::kernel, "matmul", 6, 0.4, 0.2, {4e9, 1e9}),
      event(Kind::kernel, "cast", 5, 0.7, 0.1, {0, 2e9}),
      event(Kind::kernel, "matmul", -1, 2, 5, {1e9, 0}),  // outside of every step
  };
  const ProfileSummary s = summarise(events);
  EXPECT_EQ(s.steps, 1);
  EXPECT_DOUBLE_EQ(s.seconds, 1.0);
  EXPECT_DOUBLE_EQ(s.product_seconds, 0.45);
  EXPECT_DOUBLE_EQ(s.kernel_seconds, 0.55);
  EXPECT_NEAR(s.tape_seconds, (0.4 - 0.25) + (0.5 - 0.3), 1e-12);
  ASSERT_EQ(s.kernels.size(), 2u);
  EXPECT_EQ(s.kernels[0].name, "matmul");
  EXPECT_EQ(s.kernels[0].calls, 2);
  EXPECT_DOUBLE_EQ(s.kernels[0].work.flops, 8e9);
  ASSERT_EQ(s.ops.size(), 2u);
  EXPECT_EQ(s.ops[0].name, "rematerialize backward");
  EXPECT_NEAR(s.ops[0].seconds - s.ops[0].kernel_seconds, 0.2, 1e-12);
  EXPECT_EQ(s.ops[1].name, "linear forward");
  EXPECT_EQ(s.ops[1].calls, 1);

  const std::string table = profile_table(s, {100e9, 200e9, 50e9}, false);
  EXPECT_THAT(table, HasSubstr("GEMM 45.0 %, other kernels 10.0 %, tape and allocation 35.0 %"));
  EXPECT_THAT(table, HasSubstr("17.8 GFLOP/s   18 % of f32 GEMM"));
  EXPECT_THAT(table, HasSubstr("20.0 GB/s      40 % of copying"));
  EXPECT_THAT(profile_table(s, {100e9, 200e9, 50e9}, true), HasSubstr("9 % of bf16 GEMM"));

  const nlohmann::json trace = profile_trace(events);
  ASSERT_EQ(trace.at("traceEvents").size(), events.size());
  const auto& product = trace.at("traceEvents")[3];
  EXPECT_EQ(product.at("ph"), "X");
  EXPECT_EQ(product.at("cat"), "kernel");
  EXPECT_DOUBLE_EQ(product.at("dur"), 0.25e6);
  EXPECT_DOUBLE_EQ(product.at("args").at("GFLOP/s"), 16);
}

TEST(Profile, FrozenWeightsOnTheCpuLieInTheirFile) {
  Plan planned;
  planned.frozen_bytes = 3 << 20;
  planned.peak_bytes = 8 << 20;
  EXPECT_THAT(
      memory_line(7 << 20, planned),
      HasSubstr("7.0 MiB of tensors and 3.0 MiB of frozen weights; planned: 8.0 MiB, 0.800"));
  planned.device = "cuda";
  EXPECT_THAT(memory_line(10 << 20, planned),
              HasSubstr("10.0 MiB of tensors; planned: 8.0 MiB, 0.800 of it"));
}

// Evaluations between the profiled steps take several times what a step takes.
TEST(Profile, StepsTookWhatWasPlanned) {
  const testing::Experiments experiments;
  const ExperimentOptions options = experiments.options(
      R"({"train": {"batch_size": 4}, "evaluation": {"interval": 1, "windows": 64, "batch_size": 64}, "checkpoint": {"interval": 0}})");
  const Plan planned = plan_run(options);
  ASSERT_GT(planned.evaluation_peak_bytes, 1.5 * planned.peak_bytes);
  ProfileCallback profiler(3, planned);
  const auto communicator = make_local_communicators(1);
  RunControl control = experiments.control("run", *communicator[0]);
  control.callbacks.push_back(&profiler);
  testing::MonitoredTrainer(options, control).run();
  const std::string table = read_file(control.run_directory + "/profile.txt");
  std::smatch share;
  ASSERT_TRUE(std::regex_search(table, share, std::regex("MiB, ([0-9.]+) of it\n"))) << table;
  EXPECT_NEAR(std::stod(share[1]), 1, 0.05) << table;
}

}  // namespace
}  // namespace reverie
