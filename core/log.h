#pragma once
/// Messages for people, on stderr, so that stdout holds results alone.

#include <fmt/format.h>

#include <string>

namespace reverie {

enum class LogLevel { debug, info, warning, error };
void set_log_level(LogLevel);
void log_message(LogLevel, const std::string&);
/// A hook that runs before a line is printed: a live progress line clears itself here.
void set_log_prelude(void (*prelude)());
/// A hook that lays a message out in lines; `before`: columns that "warning: " takes in front of it.
void set_log_layout(std::string (*layout)(const std::string& message, int before));

template <class... A>
void log_info(fmt::format_string<A...> f, A&&... a) {
  log_message(LogLevel::info, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void log_warning(fmt::format_string<A...> f, A&&... a) {
  log_message(LogLevel::warning, fmt::format(f, std::forward<A>(a)...));
}
template <class... A>
void log_error(fmt::format_string<A...> f, A&&... a) {
  log_message(LogLevel::error, fmt::format(f, std::forward<A>(a)...));
}

}  // namespace reverie
