#pragma once
/// Bytes on a device, the allocators they come from, and a version that counts writes.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "core/device.h"

namespace reverie {

struct AllocatorStats {
  size_t in_use = 0;    ///< bytes handed out now
  size_t peak = 0;      ///< most bytes handed out since the last reset
  size_t reserved = 0;  ///< bytes obtained from the system, handed out or cached
};

class Allocator {
 public:
  virtual ~Allocator() = default;
  /// At least `bytes` bytes, 64-byte aligned; contents undefined. Throws MachineError when there are
  /// none.
  virtual void* allocate(size_t bytes) = 0;
  virtual void free(void* pointer, size_t bytes) noexcept = 0;
  virtual AllocatorStats stats() const = 0;
  virtual void reset_peak() = 0;
  /// Gives cached blocks of 2 MiB and more back to the system; smaller ones share pages and stay.
  virtual void release_cached() = 0;
};

/// The caching allocator of a device. CPU: size classes, large blocks on huge pages, pages kept.
Allocator& allocator(Device);

class Storage {
 public:
  Storage(size_t bytes, Device);
  /// Foreign memory (a mapped file): `release` runs when the last tensor over it is gone.
  Storage(void* data, size_t bytes, Device, std::function<void()> release);
  /// Without bytes of its own: only_rounded().
  struct OnlyRounded {};
  Storage(size_t bytes, Device device, OnlyRounded)
      : bytes_(bytes), device_(device), release_([] {}), only_rounded_(true) {}
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  /// Grows with each mutable access: a tensor saved for backward must still carry the version it was
  /// saved with.
  uint32_t version() const { return version_.load(std::memory_order_relaxed); }
  void bump() { version_.fetch_add(1, std::memory_order_relaxed); }

  /// A copy in bf16 (core/rounded_copy.h) that is good for this version alone; null for any other.
  /// It begins at element `offset` of `copy`.
  void keep_rounded(std::shared_ptr<Storage> copy, int64_t offset) {
    rounded_ = std::move(copy);
    rounded_offset_ = offset;
    rounded_version_ = version();
  }
  std::shared_ptr<Storage> rounded() const {
    return rounded_ && rounded_version_ == version() ? rounded_ : nullptr;
  }
  int64_t rounded_offset() const { return rounded_offset_; }
  /// Whether it has that copy alone, and no bytes of its own.
  bool only_rounded() const { return only_rounded_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
  Device device_;
  std::function<void()> release_;
  std::atomic<uint32_t> version_{0};
  std::shared_ptr<Storage> rounded_;
  int64_t rounded_offset_ = 0;
  uint32_t rounded_version_ = 0;
  bool only_rounded_ = false;
};

}  // namespace reverie
