#include "core/storage.h"

#include <sys/mman.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "core/cuda.h"
#include "core/dry_run.h"
#include "core/error.h"
#include "core/fork_safe_mutex.h"

namespace reverie {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t(2) << 20;
// What blocks below a huge page are cut from.
constexpr size_t kSlab = 4 * kHugePage;

// Eight size classes per power of two: at most 12.5 % of a block is lost to rounding.
size_t class_size(size_t bytes) {
  if (bytes <= 512) return (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  const size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}
size_t class_index(size_t size) {
  if (size <= 512) return size / kAlignment;
  const size_t power = std::bit_floor(size);
  return 16 + size_t(std::countr_zero(power)) * 8 + (size - power) / (power / 8);
}

size_t size_of_class(size_t index) {
  if (index <= 8) return index * kAlignment;
  const size_t power = size_t(1) << ((index - 16) / 8);
  return power + (index - 16) % 8 * (power / 8);
}

// Whole huge pages, or null.
void* huge_pages(size_t bytes) {
  const size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  void* p = std::aligned_alloc(kHugePage, whole);
  if (p) madvise(p, whole, MADV_HUGEPAGE);
  return p;
}

// Freed blocks wait in lists by size class: training repeats the same sizes every step, and page
// faults are what costs. Small blocks lie side by side on huge pages, too: scattered over small
// ones, the activations of a small model meet in the same sets of the second-level cache, in some
// processes and not in others.
class CachingCpuAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    const size_t size = class_size(bytes);
    {
      std::lock_guard lock(mutex_);
      auto& list = free_[class_index(size)];
      stats_.in_use += size;
      stats_.peak = std::max(stats_.peak, stats_.in_use);
      if (!list.empty()) {
        void* p = list.back();
        list.pop_back();
        return p;
      }
      if (size < kHugePage) {
        if (void* p = cut(size)) return p;
      } else {
        stats_.reserved += size;
      }
    }
    void* p = size < kHugePage ? nullptr : huge_pages(size);
    if (!p) {
      std::lock_guard lock(mutex_);
      stats_.in_use -= size;
      if (size >= kHugePage) stats_.reserved -= size;
      throw MachineError(fmt::format("out of memory: wanted {} bytes on cpu, {} are in use", bytes,
                                     stats_.in_use));
    }
    return p;
  }
  void free(void* pointer, size_t bytes) noexcept override {
    const size_t size = class_size(bytes);
    std::lock_guard lock(mutex_);
    stats_.in_use -= size;
    free_[class_index(size)].push_back(pointer);
  }
  AllocatorStats stats() const override {
    std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() override {
    std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }
  void release_cached() override {
    std::lock_guard lock(mutex_);
    for (size_t i = class_index(kHugePage); i < free_.size(); ++i) {
      for (void* p : free_[i]) std::free(p);
      stats_.reserved -= free_[i].size() * size_of_class(i);
      free_[i].clear();
    }
  }

 private:
  // From the newest slab, or a new one; null where there is no memory for one.
  void* cut(size_t size) {
#if defined(__SANITIZE_ADDRESS__)
    // A block of its own, so that the sanitizer sees what is written beside it.
    stats_.reserved += size;
    return std::aligned_alloc(kAlignment, size);
#endif
    if (slab_left_ < size) {
      auto* slab = static_cast<std::byte*>(huge_pages(kSlab));
      if (!slab) return nullptr;
      slab_ = slab;
      slab_left_ = kSlab;
      stats_.reserved += kSlab;
    }
    void* p = slab_;
    slab_ += size;
    slab_left_ -= size;
    return p;
  }

  mutable ForkSafeMutex mutex_;
  std::array<std::vector<void*>, 16 + 64 * 8> free_;
  AllocatorStats stats_;
  std::byte* slab_ = nullptr;
  size_t slab_left_ = 0;
};

// Pages that nobody has touched are zeros and cost nothing.
class DryAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    const size_t size = class_size(bytes);
    void* p = nullptr;
    if (size < kMapped) {
      p = std::aligned_alloc(kAlignment, size);
      if (p) std::memset(p, 0, size);
    } else {
      p = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
      if (p == MAP_FAILED) p = nullptr;
    }
    if (!p) throw MachineError(fmt::format("out of addresses: wanted {} bytes", bytes));
    const std::lock_guard lock(mutex_);
    stats_.in_use += size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return p;
  }
  void free(void* pointer, size_t bytes) noexcept override {
    const size_t size = class_size(bytes);
    if (size < kMapped)
      std::free(pointer);
    else
      ::munmap(pointer, size);
    const std::lock_guard lock(mutex_);
    stats_.in_use -= size;
  }
  AllocatorStats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() override {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }
  void release_cached() override {}

 private:
  static constexpr size_t kMapped = 64 << 10;
  mutable std::mutex mutex_;
  AllocatorStats stats_;
};
DryAllocator& dry_allocator() {
  static auto* dry = new DryAllocator;
  return *dry;
}

}  // namespace

Allocator& allocator(Device device) {
  // Never destroyed: tensors with static lifetime may be freed after main.
  static auto* cpu = new CachingCpuAllocator;
  if (device.kind == DeviceKind::cuda) return cuda::allocator(device);
  if (dry_run()) return dry_allocator();
  return *cpu;
}

Storage::Storage(size_t bytes, Device device)
    : data_(allocator(device).allocate(bytes)), bytes_(bytes), device_(device) {
  // A tensor may outlive the dry run.
  if (dry_run() && device.kind == DeviceKind::cpu)
    release_ = [data = data_, bytes] { dry_allocator().free(data, bytes); };
}
Storage::Storage(void* data, size_t bytes, Device device, std::function<void()> release)
    : data_(data), bytes_(bytes), device_(device), release_(std::move(release)) {}
Storage::~Storage() {
  if (release_)
    release_();
  else
    allocator(device_).free(data_, bytes_);
}

}  // namespace reverie
