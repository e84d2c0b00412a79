#include "core/forked_copy.h"

#include <omp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>

#include "core/log.h"
#include "core/profile.h"

namespace reverie {
namespace {

// Memory that both processes see: how many values there are, -1 before they are, and the values.
class SharedValues {
 public:
  explicit SharedValues(size_t most)
      : bytes_(sizeof(int64_t) + most * sizeof(double)), most_(most) {
    void* memory =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    count_ = static_cast<int64_t*>(memory);
    *count_ = -1;
  }
  ~SharedValues() {
    if (count_) ::munmap(count_, bytes_);
  }
  SharedValues(const SharedValues&) = delete;
  SharedValues& operator=(const SharedValues&) = delete;

  bool mapped() const { return count_ != nullptr; }
  void set(const std::vector<double>& values) {
    if (values.size() > most_) return;
    std::memcpy(count_ + 1, values.data(), values.size() * sizeof(double));
    *count_ = int64_t(values.size());
  }
  std::optional<std::vector<double>> get() const {
    if (*count_ < 0) return std::nullopt;
    std::vector<double> values(static_cast<size_t>(*count_));
    std::memcpy(values.data(), count_ + 1, values.size() * sizeof(double));
    return values;
  }

 private:
  size_t bytes_, most_;
  int64_t* count_ = nullptr;
};

// Whether `child` ended well within `seconds`; a child that did not is ended.
bool wait_for(pid_t child, double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  std::chrono::microseconds pause(100);
  for (int status = 0;;) {
    if (const pid_t ended = ::waitpid(child, &status, WNOHANG); ended == child)
      return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (Clock::now() > end) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      return false;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(10000));
  }
}

}  // namespace

std::optional<std::vector<double>> in_forked_copy(
    size_t most, double seconds, const std::function<std::vector<double>()>& compute) {
  SharedValues shared(most);
  if (!shared.mapped()) return std::nullopt;
  // Its threads would be missing in the copy, which would wait for them.
  omp_pause_resource_all(omp_pause_soft);
  const pid_t child = ::fork();
  if (child < 0) return std::nullopt;
  if (child == 0) {
#if defined(__SANITIZE_THREAD__)
    omp_set_num_threads(1);  // the thread sanitizer allows a copy no threads
#endif
    // Other threads may hold their locks; and what the copy would say, the original says.
    profile::detail::on = false;
    set_log_level(LogLevel::error);
    int status = 1;
    try {
      shared.set(compute());
      status = 0;
    } catch (...) {
    }
    ::_exit(status);
  }
  if (!wait_for(child, seconds)) return std::nullopt;
  return shared.get();
}

}  // namespace reverie
