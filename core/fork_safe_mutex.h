#pragma once
/// A mutex that a copy of the process can take.

#include <mutex>

namespace reverie {

/// A mutex that no thread but the one that forks holds while the process is copied (fork(2)). The
/// copy has none of the other threads: one of them would hold a plain mutex there forever. For
/// what a forward of a model locks. Whoever holds one must not take a second.
class ForkSafeMutex {
 public:
  ForkSafeMutex();
  ~ForkSafeMutex();
  ForkSafeMutex(const ForkSafeMutex&) = delete;
  ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

}  // namespace reverie
