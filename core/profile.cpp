#include "core/profile.h"

#include <chrono>
#include <mutex>

namespace reverie::profile {
namespace {

using Clock = std::chrono::steady_clock;

struct Recording {
  std::mutex mutex;
  Clock::time_point begin;
  uint32_t generation = 0;  // of start(): a scope of an earlier one must not write into this one
  std::vector<Event> events;
  std::vector<bool> open;
};
Recording& recording() {
  static Recording r;
  return r;
}
double seconds_since(Clock::time_point t) {
  return std::chrono::duration<double>(Clock::now() - t).count();
}

std::atomic<uint32_t> threads{0};
struct ThisThread {
  uint32_t number = threads.fetch_add(1);
  uint32_t generation = 0;
  std::vector<int32_t> open;
};
ThisThread& this_thread() {
  thread_local ThisThread t;
  return t;
}

constexpr int64_t kEvents = int64_t(1) << 32;

}  // namespace

std::atomic<bool> detail::on{false};

void start() {
  Recording& r = recording();
  const std::lock_guard lock(r.mutex);
  ++r.generation;
  r.events.clear();
  r.open.clear();
  r.begin = Clock::now();
  detail::on = true;
}

std::vector<Event> stop() {
  detail::on = false;
  Recording& r = recording();
  const std::lock_guard lock(r.mutex);
  const double now = seconds_since(r.begin);
  for (size_t i = 0; i < r.events.size(); ++i)
    if (r.open[i]) r.events[i].seconds = now - r.events[i].begin;
  r.open.clear();
  ++r.generation;
  return std::move(r.events);
}

// An event's number, behind the generation it belongs to.
int64_t detail::enter(Kind kind, std::string_view name) {
  Recording& r = recording();
  ThisThread& t = this_thread();
  const std::lock_guard lock(r.mutex);
  if (t.generation != r.generation) {
    t.generation = r.generation;
    t.open.clear();
  }
  const auto index = int32_t(r.events.size());
  Event e;
  e.kind = kind;
  e.name = name;
  e.thread = t.number;
  e.parent = t.open.empty() ? -1 : t.open.back();
  r.open.push_back(true);
  t.open.push_back(index);
  e.begin = seconds_since(r.begin);
  r.events.push_back(e);
  return int64_t(r.generation) * kEvents + index;
}

void detail::leave(int64_t event, const Work& work) {
  Recording& r = recording();
  const std::lock_guard lock(r.mutex);
  ThisThread& t = this_thread();
  if (event / kEvents != int64_t(r.generation)) return;
  const auto index = size_t(event % kEvents);
  r.events[index].seconds = seconds_since(r.begin) - r.events[index].begin;
  r.events[index].work = work;
  r.open[index] = false;
  t.open.pop_back();
}

}  // namespace reverie::profile
