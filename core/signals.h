#pragma once
/// SIGTERM, SIGHUP, SIGINT, SIGUSR1 and SIGXCPU become a request that the training loop sees between two steps.

#include <signal.h>

#include <exception>

namespace reverie {

/// While one lives, the first SIGTERM, SIGHUP (a terminal that closed), SIGINT, SIGUSR1 (what
/// schedulers send before the time is over) or SIGXCPU (a limit of CPU time) is remembered instead of ending the process; the trainer saves and exits with 128 + requested_signal(). A
/// SIGINT after that exits at once with 130 (checkpoints stay whole); further others change nothing.
/// A SIGHUP that was ignored before (nohup) stays ignored. The destructor restores what was there
/// before. Guards may nest; the outermost forgets earlier requests when it is made.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  struct sigaction before_terminate_, before_interrupt_, before_hangup_, before_user_,
      before_cpu_limit_;
  stack_t stack_before_{};
};

/// The first signal that arrived since the outermost guard was made (it outlives the guard); 0:
/// none.
int requested_signal();

/// Thrown out of long work that may be done again (an evaluation, a sample, preparing data).
struct Interrupted : std::exception {
  explicit Interrupted(int by) : signal(by) {}
  int signal;
  const char* what() const noexcept override { return "interrupted by a signal"; }
};
/// The same as requested_signal(), but 0 where no guard lives: then nobody would handle it.
int pending_signal();
/// Throws Interrupted when a signal is pending.
void stop_if_requested();

}  // namespace reverie
