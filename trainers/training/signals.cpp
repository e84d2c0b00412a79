#include "trainers/training/signals.h"

#include <unistd.h>

#include <atomic>
#include <string_view>

namespace reverie {
namespace {

std::atomic<int> requested{0};
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
  // Installed even where the signal was ignored (a background job of a shell script): whoever
  // sends it explicitly wants the run to stop.
  struct sigaction action {};
  action.sa_handler = handle_signal;
  action.sa_flags = SA_RESTART;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGTERM, nullptr, &before_terminate_);
  if (before_terminate_.sa_handler != handle_signal) requested = 0;
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, &before_interrupt_);
}

SignalGuard::~SignalGuard() {
  ::sigaction(SIGTERM, &before_terminate_, nullptr);
  ::sigaction(SIGINT, &before_interrupt_, nullptr);
}

int requested_signal() {
  return requested;
}

}  // namespace reverie
