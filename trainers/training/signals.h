#pragma once
// SIGTERM and SIGINT become a request that the training loop sees between two steps.

#include <signal.h>

namespace reverie {

// While one lives, the first SIGTERM or SIGINT is remembered instead of ending the process; the
// trainer saves and exits with 128 + requested_signal(). A SIGINT after that exits at once with
// 130 (checkpoints stay whole); further SIGTERMs change nothing. The destructor restores what was
// there before. Guards may nest; the outermost forgets earlier requests when it is made.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;

 private:
  struct sigaction before_terminate_, before_interrupt_;
  stack_t stack_before_{};
};

// The first signal that arrived since the outermost guard was made (it outlives the guard); 0:
// none.
int requested_signal();

}  // namespace reverie
