#pragma once
// A file in memory for readers that want a path, and how a fuzz target takes its answer.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace reverie::fuzz {

// One per process, with other bytes each time.
class FileInMemory {
 public:
  explicit FileInMemory(const char* name) : descriptor_(::memfd_create(name, 0)) {
    if (descriptor_ < 0) std::abort();
  }
  std::string holding(const uint8_t* data, size_t bytes) {
    if (::ftruncate(descriptor_, 0) != 0 || ::lseek(descriptor_, 0, SEEK_SET) != 0) std::abort();
    for (size_t at = 0; at < bytes;) {
      const ssize_t written = ::write(descriptor_, data + at, bytes - at);
      if (written <= 0) std::abort();
      at += size_t(written);
    }
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  int descriptor_;
};

// Runs `body`: a refusal of bad data is right, anything else that is thrown ends the process.
template <class F>
int refusing(F&& body) {
  try {
    body();
  } catch (const UserError&) {  // DataError among them
  }
  return 0;
}

}  // namespace reverie::fuzz
