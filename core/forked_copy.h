#pragma once
/// A computation in a copy of this process.

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace reverie {

/// A computation that goes on in a forked copy of this process, beside it. Whatever it does, also a
/// crash, stays in the copy: values that it changes, statics of plug-ins included. The copy has this
/// thread and new ones of OpenMP; it must not wait for another. To be made where no other thread of
/// this process computes, and used by one thread.
class ForkedCopy {
 public:
  using Compute = std::function<std::vector<double>()>;
  /// Starts it; at most `most` values are given back.
  ForkedCopy(size_t most, const Compute& compute);
  /// Ends the copy where it still runs.
  ~ForkedCopy();
  ForkedCopy(const ForkedCopy&) = delete;
  ForkedCopy& operator=(const ForkedCopy&) = delete;

  /// Whether it has ended, after at most so many seconds.
  bool ended_within(double seconds);
  /// What it computed, once it has ended; nullopt where it failed.
  std::optional<std::vector<double>> values() const;
  /// Why there are no values, once it has ended: "ended by signal 11 (Segmentation fault)", or the
  /// message of what it threw; "" where there are.
  std::string failure() const;
  /// The copy's process; -1 where none could be made.
  pid_t process() const { return child_; }

 private:
  class Shared;
  std::unique_ptr<Shared> shared_;
  pid_t child_ = -1;
  bool ended_ = false;
  int status_ = 0;  ///< of waitpid(2)
};

/// The values that `compute` returns, at most `most`, from a forked copy of this process that then
/// ends. nullopt where no copy could be made, `compute` threw, or `seconds` went by.
std::optional<std::vector<double>> in_forked_copy(size_t most, double seconds,
                                                  const ForkedCopy::Compute& compute);

}  // namespace reverie
