#pragma once
/// Polls with back-off.

#include <chrono>
#include <cstdint>
#include <thread>

namespace reverie {

/// Returns when done() is true. Asks at once at first, then with pauses: spinning takes a core from
/// those that compute, sleeping takes time from short waits. Four times a second calls
/// look_around(seconds waited), which ends the wait by throwing.
template <class Done, class LookAround>
void poll_until(Done&& done, LookAround&& look_around) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  double looked = 0;
  for (int64_t round = 0; !done(); ++round) {
    if (round <= 200) continue;
    std::this_thread::sleep_for(std::chrono::microseconds(round > 2000 ? 500 : 50));
    const double waited = std::chrono::duration<double>(Clock::now() - begin).count();
    if (waited - looked < 0.25) continue;
    looked = waited;
    look_around(waited);
  }
}

}  // namespace reverie
