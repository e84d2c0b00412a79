#pragma once
/// Lines of a terminal that are redrawn in place.

#include <functional>
#include <string>
#include <string_view>

namespace reverie {

/// The first `width` columns of `text`, bytes that a terminal would take for commands replaced.
std::string fit_columns(const std::string& text, int width);
int columns_of(std::string_view text);
/// `text` with every line wider than `columns` broken between words, and what follows indented by
/// `indent`. Words are never broken. Nor are commands in `backquotes`, unless they are wider than a
/// line: then they go on behind backslashes, so that they can be pasted all the same.
/// `before`: columns that stand in front of the first line.
std::string wrap_words(const std::string& text, int columns, int indent = 4, int before = 0);
/// `text` wrapped to the width of the terminal that the stream is (STDOUT_FILENO), or as it is for a
/// file or pipe, whose lines scripts read.
std::string fit_terminal(int stream, const std::string& text, int before = 0);
/// A command without backquotes, broken where it has to be as fit_terminal() breaks one.
std::string fit_command(int stream, const std::string& command);
/// As wrap_words, of lines like "  name  what it is": what follows stands under the second part.
std::string wrap_list(const std::string& text, int columns);
/// As fit_terminal, by wrap_list.
std::string fit_list(int stream, const std::string& text);
/// `text` with the bytes that a terminal would take for commands replaced by spaces.
std::string printable(std::string_view text);

/// Where lines go, and the clock; the default is stderr as it is. Tests pass their own.
struct TerminalOutput {
  std::function<void(std::string_view)> write;
  std::function<int()> width;     ///< columns of the terminal
  std::function<double()> clock;  ///< seconds, monotonic
  bool terminal = false;
  bool unicode = false;
  static TerminalOutput standard_error();
};

/// Something that redraws a line of the terminal in place. One of them shows at a time: whoever
/// draws, and every log message, clears the others first.
class LiveLine {
 public:
  virtual ~LiveLine() = default;
  virtual void clear() = 0;
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;

 protected:
  LiveLine() = default;
  /// From here on, until hide(), it is cleared for others. Not under a mutex that clear() takes.
  void show();
  void hide();
  void clear_others();
};

}  // namespace reverie
