#include "trainers/monitoring/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "trainers/text/quantities.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

std::string bar(double fraction, int width, bool unicode) {
  fraction = std::clamp(fraction, 0.0, 1.0);
  if (!unicode) {
    const int inside = width - 2, full = int(fraction * inside);
    return "[" + std::string(size_t(full), '#') + std::string(size_t(inside - full), '-') + "]";
  }
  const int full = int(fraction * width);
  std::string out;
  for (int i = 0; i < width; ++i) out += i < full ? "\u2501" : "\u2500";  // heavy and light lines
  return out;
}

// A piece of the line; those with the highest `rank` go first when the terminal is narrow.
struct Piece {
  std::string text;
  int rank;
};

std::string join(const std::vector<Piece>& pieces, int highest_rank) {
  std::string out;
  for (const Piece& piece : pieces)
    if (piece.rank <= highest_rank && !piece.text.empty())
      out += (out.empty() ? "" : "  ") + piece.text;
  return out;
}

}  // namespace

std::string format_progress(const ProgressState& s, int width, bool unicode) {
  const double fraction = s.steps > 0 ? double(s.step) / double(s.steps) : 0;
  const std::string mark = s.label.empty() ? "" : printable(s.label) + " ";
  std::vector<Piece> pieces;
  pieces.push_back({printable(s.context), 4});
  pieces.push_back({"", 6});  // the bar
  pieces.push_back(
      {s.bytes ? fmt::format("{}B/{}B", format_count(double(s.step)), format_count(double(s.steps)))
               : fmt::format("step {}/{}", s.step, s.steps),
       0});
  pieces.push_back({fmt::format("{:.0f} %", std::floor(100 * fraction)), 2});
  if (!std::isnan(s.loss)) pieces.push_back({fmt::format("{}loss {:.4f}", mark, s.loss), 0});
  if (!std::isnan(s.val_loss))
    pieces.push_back({fmt::format("{}{} {:.2f}", mark, s.val_name, s.val_loss), 3});
  if (!std::isnan(s.tokens_per_second))
    pieces.push_back({format_count(s.tokens_per_second) + (s.bytes ? "B/s" : " tok/s"), 5});
  if (!std::isnan(s.seconds_left))
    pieces.push_back({(s.of_table ? "table ETA " : "ETA ") + format_duration(s.seconds_left), 1});
  if (width <= 0) return join(pieces, 5);

  std::string line;
  for (int rank = 5; rank >= 0; --rank) {
    line = join(pieces, rank);
    if (columns_of(line) <= width) {
      const int room = std::min(30, width - columns_of(line) - 2);
      if (rank < 5 || room < 8) return line;
      pieces[1].text = bar(fraction, room, unicode);
      return join(pieces, 6);
    }
  }
  return fit_columns(line, width);
}

Progress::Progress(int64_t steps, ProgressOptions options, TerminalOutput output)
    : options_(std::move(options)), output_(std::move(output)) {
  state_.context = options_.context;
  state_.label = options_.label;
  state_.bytes = options_.bytes;
  state_.step = options_.first_step;
  state_.steps = steps;
  began_ = output_.clock();
  last_drawn_ = output_.terminal ? -1e300 : began_;
  last_mark_ = steps > 0 ? 10 * state_.step / steps : 0;
  state_.of_table = bool(options_.seconds_after);
  show();
}

Progress::~Progress() {
  finish();
}

void Progress::step(int64_t step, double loss, double tokens_per_second) {
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  state_.step = step;
  state_.loss = loss;
  state_.tokens_per_second = tokens_per_second;
  stale_ = true;
  const double now = output_.clock();
  state_.seconds_left = time_left(now);
  const int64_t mark = state_.steps > 0 ? 10 * step / state_.steps : 0;
  const double wait = output_.terminal ? options_.redraw_seconds : options_.plain_line_seconds;
  if (now - last_drawn_ < wait && (output_.terminal || mark <= last_mark_)) return;
  last_mark_ = mark;
  draw(now);
}

// By the average since the beginning: evaluations and checkpoints are part of the time left, too.
double Progress::time_left(double now) const {
  const int64_t done = state_.step - options_.first_step;
  if (done <= 0) return std::nan("");
  const double each = (now - began_) / double(done);
  const double own = each * double(state_.steps - state_.step);
  return options_.seconds_after ? own + options_.seconds_after(each * double(state_.steps)) : own;
}

void Progress::reach(int64_t bytes) {
  const double seconds = output_.clock() - began_, none = std::nan("");
  step(bytes, none, seconds > 0 ? double(bytes - options_.first_step) / seconds : none);
}

void Progress::val_loss(double loss, std::string name) {
  const std::lock_guard lock(mutex_);
  state_.val_loss = loss;
  state_.val_name = std::move(name);
  stale_ = true;
}

void Progress::set_label(std::string label) {
  const std::lock_guard lock(mutex_);
  state_.label = std::move(label);
}

void Progress::clear() {
  const std::lock_guard lock(mutex_);
  erase();
}

void Progress::finish() {
  hide();
  const std::lock_guard lock(mutex_);
  if (finished_) return;
  finished_ = true;
  if (output_.terminal ? stale_ || drawn_ : stale_) draw(output_.clock());
  if (output_.terminal && drawn_) output_.write("\n");
  drawn_ = false;
}

void Progress::draw(double now) {
  last_drawn_ = now;
  stale_ = false;
  if (output_.terminal) {
    // One column less: a full last column makes some terminals wrap.
    output_.write("\r" + format_progress(state_, output_.width() - 1, output_.unicode) + "\x1b[K");
    drawn_ = true;
  } else {
    output_.write(format_progress(state_, 0) + "\n");
  }
}

void Progress::erase() {
  if (!drawn_) return;
  output_.write("\r\x1b[K");
  drawn_ = false;
}

}  // namespace reverie
