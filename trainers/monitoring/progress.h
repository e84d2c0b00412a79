#pragma once
/// The live progress line of a training run, or of work on a file, on stderr: redrawn in place on a
/// terminal, plain lines elsewhere.

#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <string>

#include "trainers/text/terminal.h"

namespace reverie {

/// The values of one progress line. NaN: not known yet, and left out.
struct ProgressState {
  std::string context;  ///< "run 3/15 imm_causal_mean/64 seed 2"; may be empty
  std::string label;    ///< "LEAKS"; stands before the losses
  bool bytes = false;   ///< steps are bytes, and the rate is theirs: "1.2MB/5MB"
  int64_t step = 0, steps = 0;
  double loss = std::numeric_limits<double>::quiet_NaN();
  double val_loss = std::numeric_limits<double>::quiet_NaN();
  std::string val_name = "val";
  double tokens_per_second = std::numeric_limits<double>::quiet_NaN();
  double seconds_left = std::numeric_limits<double>::quiet_NaN();
  bool of_table = false;  ///< seconds_left is that of all runs of a table: "table ETA 1:02:03"
};

/// "step 1200/2000  60 %  loss 1.8123  val 1.92  31.2k tok/s  ETA 00:42" with the context and a bar
/// before it. Never wider than `width` columns (0: no limit, and no bar): parts are left out, least
/// important first. `unicode`: a smooth bar, else "[##--]".
std::string format_progress(const ProgressState& state, int width, bool unicode = false);

struct ProgressOptions {
  std::string context = {}, label = {};
  bool bytes = false;      ///< steps are bytes
  int64_t first_step = 0;  ///< where a resumed run goes on
  /// How long a table's later runs will take, given the seconds of this one.
  std::function<double(double)> seconds_after = {};
  double redraw_seconds = 0.1;     ///< on a terminal: at most ten times a second
  double plain_line_seconds = 30;  ///< elsewhere: a line at every 10 %, and at least this often
};

/// While it lives, log messages clear its line first (set_log_prelude).
class Progress final : public LiveLine {
 public:
  explicit Progress(int64_t steps, ProgressOptions options = {},
                    TerminalOutput output = TerminalOutput::standard_error());
  ~Progress() override;  ///< as finish()

  void step(int64_t step, double loss, double tokens_per_second);  ///< may draw
  void reach(int64_t bytes);  ///< of work on a file: so many are done; may draw
  /// Shown from the next drawing on.
  void val_loss(double loss, std::string name = "val");
  void set_label(std::string label);
  void clear() override;  ///< removes the drawn line, until the next step
  void finish();          ///< draws the last state and leaves it standing

 private:
  void draw(double now);
  void erase();
  double time_left(double now) const;

  std::mutex mutex_;
  ProgressState state_;
  ProgressOptions options_;
  TerminalOutput output_;
  double began_, last_drawn_;
  int64_t last_mark_ = 0;  ///< tens of per cent
  bool drawn_ = false, finished_ = false, stale_ = false;
};

}  // namespace reverie
