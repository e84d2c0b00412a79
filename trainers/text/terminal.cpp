#include "trainers/text/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/log.h"
#include "datasets/utf8.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

// Those that draw; held while others clear them, so that none can end meanwhile.
std::mutex live_mutex;
std::vector<LiveLine*> live_lines;

void clear_all_but(const LiveLine* one) {
  const std::lock_guard lock(live_mutex);
  for (LiveLine* line : live_lines)
    if (line != one) line->clear();
}

int columns_of_terminal(int stream) {
  winsize size{};
  return ::ioctl(stream, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? int(size.ws_col) : 80;
}

// The end of the word at `word`: a `command in backquotes` is one, so that it can be copied whole.
size_t end_of_word(std::string_view line, size_t word) {
  const size_t space = std::min(line.find(' ', word), line.size());
  const size_t open = line.find('`', word);
  if (open >= space) return space;
  const size_t close = line.find('`', open + 1);
  return close == line.npos ? space : std::min(line.find(' ', close), line.size());
}

// The words of a command, as a shell parts them: a space inside quotes parts none.
std::vector<std::string_view> shell_words(std::string_view command) {
  std::vector<std::string_view> words;
  char quote = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= command.size(); ++i) {
    const char c = i < command.size() ? command[i] : ' ';
    if (c == '\\' && quote != '\'') {
      ++i;  // what follows is no quote
    } else if (quote != 0 && i < command.size()) {
      if (c == quote) quote = 0;
    } else if (c == '\'' || c == '"') {
      quote = c;
    } else if (c == ' ') {
      if (i > begin) words.push_back(command.substr(begin, i - begin));
      begin = i + 1;
    }
  }
  return words;
}

// A command that is wider than a line goes on behind a backslash, as a shell reads it: at an option
// where that fits, else at any word. `used`: columns in front of it, or behind it on return.
std::string wrap_command(std::string_view command, int columns, int indent, int& used) {
  const std::vector<std::string_view> words = shell_words(command);
  std::string out;
  const auto put = [&](std::string_view piece, bool last) {
    const int wide = columns_of(piece), behind = last ? 0 : 2;
    if (!out.empty() && used + 1 + wide + behind > columns) {
      out += " \\\n" + std::string(size_t(indent), ' ');
      used = indent;
    } else if (!out.empty()) {
      out += ' ';
      ++used;
    }
    out += piece;
    used += wide;
  };
  for (size_t i = 0; i < words.size();) {
    size_t next = i + 1;  // the next option
    while (next < words.size() && !words[next].starts_with('-')) ++next;
    const std::string_view option(words[i].data(),
                                  size_t(words[next - 1].end() - words[i].begin()));
    if (indent + columns_of(option) + 2 <= columns) {
      put(option, next == words.size());
      i = next;
    } else {
      for (; i < next; ++i) put(words[i], i + 1 == words.size());
    }
  }
  return out;
}

// Where a line's second part begins, or 0: "  --limit INT  at most so many" has two.
size_t second_part(std::string_view line) {
  const size_t first = line.find_first_not_of(' ');
  const size_t gap = first == line.npos ? line.npos : line.find("  ", first);
  const size_t part = gap == line.npos ? line.npos : line.find_first_not_of(' ', gap);
  return part == line.npos ? 0 : part;
}

// Columns in front of what a line of a list goes on with.
int hanging_indent(std::string_view line, int columns) {
  const int part = columns_of(line.substr(0, second_part(line)));
  if (part > 0 && part <= columns / 2) return part;
  const int leading = int(std::min(line.find_first_not_of(' '), line.size()));
  return leading > columns / 4 || leading == 0 ? leading : leading + 4;
}

// `used`: columns in front of the line.
std::string wrap_line(std::string_view line, int columns, int indent, int used) {
  if (used + columns_of(line) <= columns) return std::string(line);
  std::string out;
  for (size_t at = 0; at < line.size();) {
    const size_t word = std::min(line.find_first_not_of(' ', at), line.size()),
                 end = end_of_word(line, word);
    const int wide = columns_of(line.substr(at, end - at));
    const std::string_view here = line.substr(word, end - word);
    if (used > indent && used + wide > columns) {
      out += "\n" + std::string(size_t(indent), ' ');
      used = indent;
    } else {
      out += line.substr(at, word - at);
      used += int(word - at);
    }
    const int of_word = columns_of(here);
    if (here.find(' ') != here.npos && used + of_word > columns) {
      out += wrap_command(here, columns, indent + 4, used);
    } else {
      out += here;
      used += of_word;
    }
    at = end;
  }
  return out;
}

bool locale_is_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (const char* value = std::getenv(name); value && *value) {
      const std::string_view locale = value;
      return locale.find("UTF-8") != locale.npos || locale.find("utf8") != locale.npos;
    }
  return false;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out = valid_utf8(text);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7F; }, ' ');
  return out;
}

// Code points; every one that we print is one column wide.
int columns_of(std::string_view text) {
  return int(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string fit_columns(const std::string& given, int width) {
  const std::string text = printable(given);
  size_t end = 0;
  for (int used = 0; used < width && end < text.size(); ++used)
    end += size_t(std::max(1, decode_code_point(text, end).bytes));
  return text.substr(0, end);
}

std::string wrap_words(const std::string& text, int columns, int indent, int before) {
  std::string out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += wrap_line(std::string_view(text).substr(begin, end - begin), columns, indent,
                     begin == 0 ? before : 0);
    if (end < text.size()) out += '\n';
    begin = end + 1;
  }
  return out;
}

std::string fit_terminal(int stream, const std::string& text, int before) {
  return ::isatty(stream) ? wrap_words(text, columns_of_terminal(stream), 4, before) : text;
}

std::string fit_command(int stream, const std::string& command) {
  int used = 0;
  return ::isatty(stream) ? wrap_command(command, columns_of_terminal(stream), 4, used) : command;
}

std::string wrap_list(const std::string& text, int columns) {
  std::string out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    out += wrap_line(line, columns, hanging_indent(line, columns), 0);
    if (end < text.size()) out += '\n';
    begin = end + 1;
  }
  return out;
}

std::string fit_list(int stream, const std::string& text) {
  return ::isatty(stream) ? wrap_list(text, columns_of_terminal(stream)) : text;
}

void LiveLine::show() {
  {
    const std::lock_guard lock(live_mutex);
    live_lines.push_back(this);
  }
  set_log_prelude([] { clear_all_but(nullptr); });
}
void LiveLine::hide() {
  const std::lock_guard lock(live_mutex);
  std::erase(live_lines, this);
}
void LiveLine::clear_others() {
  clear_all_but(this);
}

TerminalOutput TerminalOutput::standard_error() {
  TerminalOutput output;
  output.write = [](std::string_view text) {
    // One write, so that another process on the same terminal cannot come between; nothing can be
    // done if it fails.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  };
  output.width = [] { return columns_of_terminal(STDERR_FILENO); };
  output.clock = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  const char* kind = std::getenv("TERM");
  output.terminal = ::isatty(STDERR_FILENO) && !(kind && std::string_view(kind) == "dumb");
  output.unicode = locale_is_utf8();
  return output;
}

}  // namespace reverie
