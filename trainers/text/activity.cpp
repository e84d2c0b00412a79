#include "trainers/text/activity.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <cmath>

#include "trainers/text/quantities.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

std::atomic<bool> all_shown{false};
std::atomic<Activity*> innermost{nullptr};

}  // namespace

void Activity::show_all(bool shown) {
  all_shown = shown;
}

Activity::Activity(std::string what, ActivityOptions options, TerminalOutput output)
    : options_(options),
      output_(std::move(output)),
      what_(std::move(what)),
      began_(output_.clock()),
      part_began_(began_),
      shown_(all_shown || !options.clock_thread) {
  if (!shown_) return;
  outer_ = innermost.exchange(this);
  show();
  if (!options_.clock_thread) return;
  clock_ = std::thread([this] {
    std::unique_lock lock(mutex_);
    while (!ended_) {
      wake_.wait_for(lock, std::chrono::milliseconds(100));
      if (ended_) return;
      lock.unlock();
      tick();
      lock.lock();
    }
  });
}

Activity::~Activity() {
  if (!shown_) return;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  wake_.notify_all();
  if (clock_.joinable()) clock_.join();
  innermost = outer_;
  hide();
  clear();
}

void Activity::now(std::string what) {
  const std::lock_guard lock(mutex_);
  what_ = std::move(what);
  done_ = total_ = 0;
  part_began_ = output_.clock();
}

void Activity::reach(int64_t done, int64_t total) {
  const std::lock_guard lock(mutex_);
  done_ = done;
  total_ = total;
}

void Activity::clear() {
  const std::lock_guard lock(mutex_);
  if (!drawn_) return;
  output_.write("\r\x1b[K");
  drawn_ = false;
  last_drawn_ = -1e300;
}

void Activity::tick() {
  if (!shown_ || innermost != this) return;
  {
    const std::lock_guard lock(mutex_);
    const double now = output_.clock(), age = now - began_;
    const bool first = last_drawn_ < began_ && !drawn_;
    const double wait = output_.terminal ? options_.redraw_seconds : options_.plain_line_seconds;
    if (age < (output_.terminal ? options_.first_seconds : options_.first_plain_seconds)) return;
    if (!first && now - last_drawn_ < wait) return;
    last_drawn_ = now;
  }
  clear_others();
  const std::lock_guard lock(mutex_);
  if (ended_) return;
  const std::string text = line(output_.clock());
  if (output_.terminal) {
    output_.write("\r" + fit_columns(text, output_.width() - 1) + "\x1b[K");
    drawn_ = true;
  } else {
    output_.write(text + "\n");
  }
}

// "final evaluation: validation  12/64  19 %  00:08  ETA 00:35"
std::string Activity::line(double now) const {
  std::string out = what_;
  if (total_ > 0)
    out += total_ >= 10'000'000
               ? fmt::format("  {}/{}", format_count(double(done_)), format_count(double(total_)))
               : fmt::format("  {}/{}", done_, total_);
  if (total_ > 0)
    out += fmt::format("  {:.0f} %", std::floor(100 * double(done_) / double(total_)));
  out += "  " + format_duration(now - began_);
  if (done_ > 0 && done_ < total_)
    out += "  ETA " + format_duration((now - part_began_) / double(done_) * double(total_ - done_));
  return out;
}

}  // namespace reverie
