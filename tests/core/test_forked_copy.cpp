// What a forked copy computes, and what it must not wait for.

#include "core/forked_copy.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "core/log.h"
#include "core/profile.h"
#include "core/tensor.h"

namespace reverie {
namespace {

using Values = std::vector<double>;
constexpr double kMostSeconds = 20;

TEST(ForkedCopy, GivesTheValuesAndLeavesThisProcessAlone) {
  static double here = 1;
  const auto values = in_forked_copy(4, kMostSeconds, [] { return Values{++here, 7}; });
  EXPECT_EQ(values, (Values{2, 7}));
  EXPECT_EQ(here, 1);
}

TEST(ForkedCopy, GivesNothingWhereTheCopyFails) {
  EXPECT_FALSE(in_forked_copy(4, kMostSeconds, []() -> Values { throw std::runtime_error("no"); }));
  EXPECT_FALSE(in_forked_copy(1, kMostSeconds, [] { return Values{1, 2}; }));  // more than `most`
  EXPECT_FALSE(in_forked_copy(1, 0.05, [] {
    std::this_thread::sleep_for(std::chrono::duration<double>(kMostSeconds));
    return Values{1};
  }));
}

TEST(ForkedCopy, GoesOnBesideThisProcess) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ForkedCopy copy(1, [&] {
    char said = 0;
    return Values{double(::read(ends[0], &said, 1)) + said};
  });
  EXPECT_FALSE(copy.ended_within(0.01));
  EXPECT_FALSE(copy.values());
  const char two = 2;
  EXPECT_EQ(::write(ends[1], &two, 1), 1);
  EXPECT_TRUE(copy.ended_within(kMostSeconds));
  EXPECT_EQ(copy.values(), Values{3});
  EXPECT_EQ(copy.failure(), "");
  for (const int end : ends) ::close(end);
}

TEST(ForkedCopy, SaysWhyItFailed) {
  const auto failure = [](const ForkedCopy::Compute& compute) {
    ForkedCopy copy(1, compute);
    EXPECT_TRUE(copy.ended_within(kMostSeconds));
    EXPECT_FALSE(copy.values());
    return copy.failure();
  };
  EXPECT_EQ(failure([]() -> Values { throw std::runtime_error("no"); }), "no");
  EXPECT_NE(failure([]() -> Values { throw 1; }).find("no std::exception"), std::string::npos);
  EXPECT_EQ(failure([]() -> Values { throw std::runtime_error(std::string(5000, 'x')); }).size(),
            1015u);
  EXPECT_EQ(failure([] { return Values{1, 2}; }), "gave 2 values, at most 1 were wanted");
  EXPECT_EQ(failure([]() -> Values { ::_exit(7); }), "ended with status 7");
  EXPECT_EQ(failure([]() -> Values {
              ::raise(SIGKILL);
              return {};
            }),
            "ended by signal 9 (Killed)");
}

TEST(ForkedCopy, EndsWithItsObject) {
  pid_t process = 0;
  {
    ForkedCopy copy(1, []() -> Values {
      std::this_thread::sleep_for(std::chrono::duration<double>(kMostSeconds));
      return {};
    });
    process = copy.process();
    EXPECT_EQ(::kill(process, 0), 0);
  }
  EXPECT_EQ(::kill(process, 0), -1);
}

// A thread that takes and frees memory all the time holds the allocator's lock in many of the
// moments in which the process is copied.
TEST(ForkedCopy, HasMemoryWhateverOtherThreadsDo) {
  std::atomic<bool> done{false};
  std::thread other([&] {
    while (!done) Tensor::zeros({4}, DType::f32);
  });
  int copies = 0;
  for (; copies < 300; ++copies) {
    const auto values = in_forked_copy(
        1, kMostSeconds, [] { return Values{double(Tensor::zeros({3}, DType::f64).numel()) - 2}; });
    if (values != Values{1}) break;
  }
  done = true;
  other.join();
  EXPECT_EQ(copies, 300);
}

TEST(ForkedCopy, LogsAndProfilesNothing) {
  profile::start();
  ::testing::internal::CaptureStderr();
  const auto values = in_forked_copy(1, kMostSeconds, [] {
    log_warning("twice");
    return Values{profile::stop().empty() ? 1.0 : 0.0};
  });
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(values, Values{1});
  profile::stop();
}

}  // namespace
}  // namespace reverie
