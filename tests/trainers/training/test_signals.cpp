#include "core/signals.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "autograd/ops/matmul.h"
#include "autograd/variable.h"

namespace reverie {
namespace {

// The wait status of a child process that runs `body`.
int status_of(const std::function<int()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(STDERR_FILENO);
    ::_exit(body());
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return status;
}

void (*handler_of(int signal))(int) {
  struct sigaction action {};
  ::sigaction(signal, nullptr, &action);
  return action.sa_handler;
}

TEST(Signals, TheFirstIsRememberedAndOutlivesTheGuard) {
  for (const int signal : {SIGTERM, SIGINT}) {
    {
      const SignalGuard guard;
      EXPECT_EQ(requested_signal(), 0);
      ::raise(signal);
      EXPECT_EQ(requested_signal(), signal);
    }
    EXPECT_EQ(requested_signal(), signal);
  }
  const SignalGuard guard;
  EXPECT_EQ(requested_signal(), 0);
}

TEST(Signals, OneSentFromOutsideLetsTheProcessEndInItsOwnWay) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const SignalGuard guard;
    [[maybe_unused]] const auto written = ::write(ready[1], "x", 1);
    while (requested_signal() == 0) ::usleep(1000);
    ::_exit(128 + requested_signal());
  }
  char x;
  ASSERT_EQ(::read(ready[0], &x, 1), 1);
  ::kill(child, SIGTERM);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 143);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(Signals, ASecondInterruptExitsAtOnce) {
  for (const int first : {SIGINT, SIGTERM}) {
    const int status = status_of([first] {
      const SignalGuard guard;
      // The thread sanitizer keeps signals, one of a kind, and hands them out where an atomic is
      // read (after a fork beside other threads, nowhere else).
      ::raise(first);
      while (requested_signal() == 0) ::usleep(1000);
      ::raise(SIGINT);
      for (int i = 0; i < 100; ++i) {
        requested_signal();
        ::usleep(1000);
      }
      return 1;
    });
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 130);
  }
}

// The library behind f32 products may keep numbers below the stack pointer, where a handler that
// ran there would write.
TEST(Signals, OneInTheMiddleOfAProductHarmsNothing) {
  const pid_t child = ::fork();
  if (child == 0) {
    const SignalGuard guard;
    omp_set_num_threads(1);
    const Variable x(Tensor::full({768, 128}, 0.5, DType::f32), true),
        weight(Tensor::full({512, 128}, 0.25, DType::f32), true);
    for (int i = 0; i < 1500; ++i) {
      const Variable y = linear(x, weight, Variable());
      backward({&y, 1}, {&y.tensor(), 1});
      if (weight.grad().select(0, 3).to_vector()[7] != 768 * 16 * 0.5) ::_exit(2);
      Variable(weight).clear_grad();
      Variable(x).clear_grad();
    }
    ::_exit(requested_signal() == SIGTERM ? 0 : 3);
  }
  int status = -1;
  for (int i = 0; i < 20000 && ::waitpid(child, &status, WNOHANG) == 0; ++i) {
    ::usleep(500);
    if (i > 100) ::kill(child, SIGTERM);  // its guard is there
  }
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Signals, ASecondTerminateChangesNothing) {
  for (const int first : {SIGINT, SIGTERM}) {
    const SignalGuard guard;
    ::raise(first);
    ::raise(SIGTERM);
    EXPECT_EQ(requested_signal(), first);
  }
}

TEST(Signals, TheFormerHandlersComeBack) {
  void (*const ignore)(int) = SIG_IGN;
  const auto before = ::signal(SIGTERM, SIG_IGN);
  {
    const SignalGuard guard;
    EXPECT_NE(handler_of(SIGTERM), ignore);
    EXPECT_NE(handler_of(SIGINT), SIG_DFL);
  }
  EXPECT_EQ(handler_of(SIGTERM), ignore);
  ::signal(SIGTERM, before);
  for (const int signal : {SIGTERM, SIGINT}) {
    const int status = status_of([signal] {
      ::signal(signal, SIG_DFL);
      { const SignalGuard guard; }
      ::raise(signal);
      return 1;
    });
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
  }
}

TEST(Signals, AnInnerGuardKeepsWhatTheOuterOneSaw) {
  const SignalGuard outer;
  ::raise(SIGTERM);
  {
    const SignalGuard inner;
    EXPECT_EQ(requested_signal(), SIGTERM);
  }
  ::raise(SIGTERM);
  EXPECT_EQ(requested_signal(), SIGTERM);
}

TEST(Signals, AHangupIsHeardUnlessItWasIgnored) {
  const auto outside = ::signal(SIGHUP, SIG_DFL);  // ignored where the suite runs under nohup
  {
    const SignalGuard guard;
    EXPECT_EQ(pending_signal(), 0);
    ::raise(SIGHUP);
    EXPECT_EQ(pending_signal(), SIGHUP);
    EXPECT_THROW(stop_if_requested(), Interrupted);
  }
  EXPECT_EQ(requested_signal(), SIGHUP);
  EXPECT_EQ(pending_signal(), 0) << "nobody would handle it";
  EXPECT_NO_THROW(stop_if_requested());
  const auto before = ::signal(SIGHUP, SIG_IGN);  // nohup
  {
    const SignalGuard guard;
    ::raise(SIGHUP);
    EXPECT_EQ(pending_signal(), 0);
  }
  ::signal(SIGHUP, before);
  ::signal(SIGHUP, outside);
}

// What schedulers send before the time of a job is over, and a limit of CPU time.
TEST(Signals, ThoseOfSchedulersAreRequestsToStop) {
  for (const int signal : {SIGUSR1, SIGXCPU}) {
    const SignalGuard guard;
    ::raise(signal);
    EXPECT_EQ(pending_signal(), signal);
  }
  const SignalGuard forgets_the_last_one;
}

}  // namespace
}  // namespace reverie
