#pragma once
/// Where the time goes: scopes that record themselves while profiling is on, and cost one load of a
/// flag while it is off.

#include <atomic>
#include <cstdint>
#include <string_view>
#include <vector>

namespace reverie::profile {

/// The least work of a call: floating-point operations, and bytes that its arguments hold.
struct Work {
  double flops = 0, bytes = 0;
};

/// step: a phase of a training step. forward, backward: an op of the tape. kernel: a row of the
/// kernel table.
enum class Kind : uint8_t { step, forward, backward, kernel };

struct Event {
  Kind kind = Kind::step;
  std::string_view name;  ///< a literal: lives as long as the program
  uint32_t thread = 0;
  int32_t parent = -1;            ///< the event that this one lies in, of the same thread
  double begin = 0, seconds = 0;  ///< begin: since start()
  Work work;
};

/// Begins anew.
void start();
/// Events recorded since start(), in the order in which scopes were entered. Scopes that are still
/// open last until now.
std::vector<Event> stop();

namespace detail {
extern std::atomic<bool> on;
int64_t enter(Kind, std::string_view name);
void leave(int64_t event, const Work&);
}  // namespace detail

class Scope {
 public:
  Scope(Kind kind, std::string_view name)
      : event_(detail::on.load(std::memory_order_relaxed) ? detail::enter(kind, name) : -1) {}
  ~Scope() {
    if (recording()) detail::leave(event_, work_);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
  bool recording() const { return event_ >= 0; }
  void set_work(const Work& work) { work_ = work; }

 private:
  int64_t event_;
  Work work_;
};

}  // namespace reverie::profile
