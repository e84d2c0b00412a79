#pragma once
/// The three kinds of errors, and how each ends a program.
///
///   UserError      the user can mend it: a config, a shape, a file. Says got, wanted, where.
///   MachineError   the machine failed: device, disk, network, a peer rank.
///   InternalError  ours: a bug. Please report it.

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

namespace reverie {

/// Exit status of the command line for each way a run can end (128 + n: stopped by signal n).
enum class ExitCode : int {
  ok = 0,
  runtime = 1,
  usage = 2,
  corrupt_data = 3,
  diverged = 4,
  check_failed = 5
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode exit_code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

class UserError : public Error {
 public:
  explicit UserError(const std::string& message) : Error(ExitCode::runtime, message) {}

 protected:
  using Error::Error;
};
/// A wrong command line or configuration (exit 2).
class ConfigError : public UserError {
 public:
  explicit ConfigError(const std::string& message) : UserError(ExitCode::usage, message) {}
};
/// A file that is truncated, altered or not what it claims to be (exit 3).
class DataError : public UserError {
 public:
  explicit DataError(const std::string& message) : UserError(ExitCode::corrupt_data, message) {}
};
/// Training produced a loss or gradient that is not finite (exit 4).
class DivergedError : public UserError {
 public:
  explicit DivergedError(const std::string& message) : UserError(ExitCode::diverged, message) {}
};
/// A check the user asked for did not hold (exit 5).
class CheckFailed : public UserError {
 public:
  explicit CheckFailed(const std::string& message) : UserError(ExitCode::check_failed, message) {}
};
class MachineError : public Error {
 public:
  explicit MachineError(const std::string& message) : Error(ExitCode::runtime, message) {}
};
class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message,
                         std::source_location where = std::source_location::current())
      : Error(ExitCode::runtime,
              fmt::format("bug in reverie: {} ({}:{})", message, where.file_name(), where.line())) {
  }
};

/// Throws UserError with a formatted message unless `condition` holds: for shapes and arguments.
[[noreturn]] void throw_user_error(fmt::string_view format, fmt::format_args args);
template <class... A>
void require(bool condition, fmt::format_string<A...> format, A&&... args) {
  if (!condition) [[unlikely]]
    throw_user_error(format, fmt::make_format_args(args...));
}

}  // namespace reverie
