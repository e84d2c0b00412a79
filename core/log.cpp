#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <mutex>

namespace reverie {
namespace {

std::atomic<LogLevel> lowest{LogLevel::info};
std::atomic<void (*)()> prelude_hook{nullptr};
std::atomic<std::string (*)(const std::string&, int)> layout_hook{nullptr};

// The sink colours only when stderr is a terminal, and NO_COLOR is not set (no-color.org).
std::unique_ptr<spdlog::logger> make_logger(const char* pattern) {
  const char* no_color = std::getenv("NO_COLOR");
  auto logger = std::make_unique<spdlog::logger>(
      "", std::make_shared<spdlog::sinks::stderr_color_sink_mt>(
              no_color && *no_color ? spdlog::color_mode::never : spdlog::color_mode::automatic));
  logger->set_pattern(pattern);
  logger->set_level(spdlog::level::trace);  // `lowest` decides
  logger->flush_on(spdlog::level::trace);
  return logger;
}

// The pattern of `prefixed` writes the level, a colon and a space.
int columns_of_prefix(LogLevel level) {
  switch (level) {
    case LogLevel::info:
      return 0;
    case LogLevel::warning:
      return 9;
    case LogLevel::debug:
    case LogLevel::error:
      return 7;
  }
  return 0;
}

struct Loggers {
  std::mutex mutex;  // the prelude and its line belong together
  std::unique_ptr<spdlog::logger> plain = make_logger("%v");
  std::unique_ptr<spdlog::logger> prefixed = make_logger("%^%l:%$ %v");
};
Loggers& loggers() {
  static auto* all = new Loggers;  // never destroyed: destructors of static objects may log
  return *all;
}

}  // namespace

void set_log_level(LogLevel level) {
  lowest = level;
}
void set_log_prelude(void (*prelude)()) {
  prelude_hook = prelude;
}

void set_log_layout(std::string (*layout)(const std::string&, int)) {
  layout_hook = layout;
}

void log_message(LogLevel level, const std::string& text) {
  if (level < lowest.load()) return;
  const auto layout = layout_hook.load();
  const std::string message = layout ? layout(text, columns_of_prefix(level)) : text;
  Loggers& all = loggers();
  const std::lock_guard lock(all.mutex);
  if (const auto prelude = prelude_hook.load()) prelude();
  switch (level) {
    case LogLevel::debug:
      all.prefixed->debug("{}", message);
      break;
    case LogLevel::info:
      all.plain->info("{}", message);
      break;
    case LogLevel::warning:
      all.prefixed->warn("{}", message);
      break;
    case LogLevel::error:
      all.prefixed->error("{}", message);
      break;
  }
}

}  // namespace reverie
