#pragma once
/// What the program is at while it does one long thing: nothing takes longer than a second or two in
/// silence.

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "trainers/text/terminal.h"

namespace reverie {

struct ActivityOptions {
  double first_seconds = 0.4;        ///< on a terminal: what ends sooner is not shown
  double first_plain_seconds = 1.5;  ///< elsewhere
  double redraw_seconds = 0.5;
  double plain_line_seconds = 30;
  bool clock_thread = true;  ///< false: draws in tick() alone, for tests
};

/// Until it goes out of scope, a line on stderr says `what`, how far it is and for how long it has
/// gone on. On a terminal it is redrawn in place and leaves nothing behind; elsewhere it is a plain
/// line now and then. Of nested ones the innermost shows.
class Activity final : public LiveLine {
 public:
  explicit Activity(std::string what, ActivityOptions options = {},
                    TerminalOutput output = TerminalOutput::standard_error());
  ~Activity() override;

  void now(std::string what);               ///< the next part of it; the clock goes on
  void reach(int64_t done, int64_t total);  ///< from any thread; 0 of 0: not known
  void clear() override;
  void tick();  ///< draws if it is time

  /// Off until the command line turns them on, and off again with --quiet and on ranks but the
  /// first.
  static void show_all(bool shown);

 private:
  std::string line(double seconds) const;

  std::mutex mutex_;
  std::condition_variable wake_;
  ActivityOptions options_;
  TerminalOutput output_;
  std::string what_;
  int64_t done_ = 0, total_ = 0;
  double began_, part_began_, last_drawn_ = -1e300;
  bool shown_, drawn_ = false, ended_ = false;
  Activity* outer_ = nullptr;
  std::thread clock_;
};

}  // namespace reverie
