#include "core/forked_copy.h"

#include <fmt/format.h>
#include <omp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <thread>

#include "core/log.h"
#include "core/profile.h"

namespace reverie {

// Memory that both processes see: how many values there are, -1 before they are, a message, and the
// values.
class ForkedCopy::Shared {
 public:
  explicit Shared(size_t most) : bytes_(sizeof(Head) + most * sizeof(double)), most_(most) {
    void* memory =
        ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    head_ = static_cast<Head*>(memory);
    head_->count = -1;
  }
  ~Shared() {
    if (head_) ::munmap(head_, bytes_);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  bool mapped() const { return head_ != nullptr; }
  void set(const std::vector<double>& values) {
    if (values.size() > most_)
      return say(fmt::format("gave {} values, at most {} were wanted", values.size(), most_));
    if (!values.empty()) std::memcpy(head_ + 1, values.data(), values.size() * sizeof(double));
    head_->count = int64_t(values.size());
  }
  void say(const std::string& message) {
    const size_t length = std::min(message.size(), sizeof(head_->message) - 1);
    std::memcpy(head_->message, message.data(), length);
    head_->message[length] = 0;
  }
  std::optional<std::vector<double>> get() const {
    if (head_->count < 0) return std::nullopt;
    std::vector<double> values(static_cast<size_t>(head_->count));
    if (!values.empty()) std::memcpy(values.data(), head_ + 1, values.size() * sizeof(double));
    return values;
  }
  std::string message() const { return head_->message; }

 private:
  struct Head {
    int64_t count;
    char message[1016];
  };
  static_assert(sizeof(Head) % sizeof(double) == 0, "the values lie behind it");

  size_t bytes_, most_;
  Head* head_ = nullptr;
};

ForkedCopy::ForkedCopy(size_t most, const Compute& compute)
    : shared_(std::make_unique<Shared>(most)) {
  ended_ = true;
  if (!shared_->mapped()) return;
  // Its threads would be missing in the copy, which would wait for them.
  omp_pause_resource_all(omp_pause_soft);
  child_ = ::fork();
  ended_ = child_ < 0;
  if (child_ != 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody waits for it any more
#if defined(__SANITIZE_THREAD__)
  omp_set_num_threads(1);  // the thread sanitizer allows a copy no threads
#endif
  // Other threads may hold their locks; and what the copy would say, the original says.
  profile::detail::on = false;
  set_log_level(LogLevel::error);
  int status = 1;
  try {
    shared_->set(compute());
    status = 0;
  } catch (const std::bad_alloc&) {
    shared_->say("out of memory");
  } catch (const std::exception& e) {
    shared_->say(e.what());
  } catch (...) {
    shared_->say("threw an object that is no std::exception, so there is no message");
  }
  ::_exit(status);
}

ForkedCopy::~ForkedCopy() {
  if (ended_) return;
  ::kill(child_, SIGKILL);
  ::waitpid(child_, &status_, 0);
}

bool ForkedCopy::ended_within(double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  for (std::chrono::microseconds pause(100); !ended_;) {
    ended_ = ::waitpid(child_, &status_, WNOHANG) == child_;
    if (ended_ || Clock::now() >= end) break;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(10000));
  }
  return ended_;
}

std::optional<std::vector<double>> ForkedCopy::values() const {
  if (!ended_ || child_ < 0 || !WIFEXITED(status_) || WEXITSTATUS(status_) != 0)
    return std::nullopt;
  return shared_->get();
}

std::string ForkedCopy::failure() const {
  if (child_ < 0) return "no copy of this process could be made";
  if (!ended_) return "it still runs";
  if (WIFSIGNALED(status_))
    return fmt::format("ended by signal {} ({})", WTERMSIG(status_),
                       ::strsignal(WTERMSIG(status_)));
  if (values()) return "";
  const std::string message = shared_->message();
  return message.empty() ? fmt::format("ended with status {}", WEXITSTATUS(status_)) : message;
}

std::optional<std::vector<double>> in_forked_copy(size_t most, double seconds,
                                                  const ForkedCopy::Compute& compute) {
  ForkedCopy copy(most, compute);
  if (!copy.ended_within(seconds)) return std::nullopt;
  return copy.values();
}

}  // namespace reverie
