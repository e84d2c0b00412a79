#include "core/signals.h"

#include <unistd.h>

#include <atomic>
#include <string_view>

namespace reverie {
namespace {

std::atomic<int> requested{0};
std::atomic<int> guards{0};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may not wait");

void handle_signal(int signal) {
  int none = 0;
  if (requested.compare_exchange_strong(none, signal) || signal != SIGINT) return;
  constexpr std::string_view message = "\nreverie: interrupted again, leaving without saving\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message.data(), message.size());
  ::_exit(128 + signal);
}

}  // namespace

SignalGuard::SignalGuard() {
  // Installed even where SIGTERM or SIGINT was ignored (a background job of a shell script):
  // whoever sends it explicitly wants the run to stop.
  // The handler has a stack of its own: f32 products of oneDNN keep numbers below the stack
  // pointer, where a handler would write over them and over what lies beyond (the heap, in one
  // thread). A signal that is sent to the process goes to its main thread, which is the one that
  // makes guards.
  constexpr size_t kStackBytes = 1 << 18;  // registers alone may take 11 KiB
  alignas(64) static char own_stack[kStackBytes];
  stack_t stack{};
  stack.ss_sp = own_stack;
  stack.ss_size = kStackBytes;
  ::sigaltstack(&stack, &stack_before_);
  struct sigaction action {};
  action.sa_handler = handle_signal;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGTERM, nullptr, &before_terminate_);
  if (before_terminate_.sa_handler != handle_signal) requested = 0;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, &before_interrupt_);
  ::sigaction(SIGUSR1, &action, &before_user_);
  ::sigaction(SIGXCPU, &action, &before_cpu_limit_);
  ::sigaction(SIGHUP, nullptr, &before_hangup_);
  if (before_hangup_.sa_handler != SIG_IGN) ::sigaction(SIGHUP, &action, nullptr);
  ++guards;
}

SignalGuard::~SignalGuard() {
  ::sigaction(SIGTERM, &before_terminate_, nullptr);
  ::sigaction(SIGINT, &before_interrupt_, nullptr);
  ::sigaction(SIGHUP, &before_hangup_, nullptr);
  ::sigaction(SIGUSR1, &before_user_, nullptr);
  ::sigaction(SIGXCPU, &before_cpu_limit_, nullptr);
  --guards;
  ::sigaltstack(&stack_before_, nullptr);
}

int requested_signal() {
  return requested;
}
int pending_signal() {
  return guards > 0 ? requested.load() : 0;
}
void stop_if_requested() {
  if (const int signal = pending_signal()) throw Interrupted(signal);
}

}  // namespace reverie
