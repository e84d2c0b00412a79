// The memory of the emulated device: the host's, with red zones around each block, and poisoned
// when it is handed out and when it comes back.

#include "core/emulated_cuda.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/cuda.h"
#include "core/cuda_stream.h"
#include "core/error.h"
#include "core/staging_buffer.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace reverie::cuda {
namespace {

constexpr int kPoison = 0xff;
constexpr size_t kAlignment = 256;  // as cudaMalloc

size_t rounded(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

class EmulatedAllocator final : public Allocator {
 public:
  void* allocate(size_t bytes) override {
    const size_t whole = rounded(bytes) + 2 * kRedZone;
    auto* base = static_cast<unsigned char*>(std::aligned_alloc(kAlignment, whole));
    if (base == nullptr)
      throw MachineError(fmt::format("out of memory: wanted {} bytes on emulated cuda", bytes));
    std::memset(base, kPoison, whole);
    unsigned char* block = base + kRedZone;
#if defined(__SANITIZE_ADDRESS__)
    // The sanitizer names the line that touches them, and reads are found, too.
    __asan_poison_memory_region(base, kRedZone);
    __asan_poison_memory_region(block + bytes, base + whole - (block + bytes));
#endif
    const std::lock_guard lock(mutex_);
    blocks_.emplace(block, bytes);
    stats_.in_use += rounded(bytes);
    stats_.reserved = stats_.in_use;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return block;
  }
  void free(void* pointer, size_t bytes) noexcept override {
    auto* block = static_cast<unsigned char*>(pointer);
    const std::lock_guard lock(mutex_);
    if (damage_.empty()) damage_ = beside(block, bytes);
    blocks_.erase(block);
    stats_.in_use -= rounded(bytes);
    stats_.reserved = stats_.in_use;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(block - kRedZone, rounded(bytes) + 2 * kRedZone);
#endif
    std::memset(block, kPoison, bytes);
    std::free(block - kRedZone);
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

  std::string damage() {
    const std::lock_guard lock(mutex_);
    std::string found;
    std::swap(found, damage_);
    for (const auto& [block, bytes] : blocks_)
      if (found.empty()) found = beside(block, bytes);
    return found;
  }

 private:
  // Empty, or which byte beside the block was written. Mends the zones, so that one fault is
  // reported once.
  static std::string beside(unsigned char* block, size_t bytes) noexcept {
#if defined(__SANITIZE_ADDRESS__)
    return {};
#else
    unsigned char *first = block - kRedZone, *end = block + rounded(bytes) + kRedZone;
    const auto poisoned = [](unsigned char byte) { return byte == kPoison; };
    const unsigned char* before = std::find_if_not(first, block, poisoned);
    const unsigned char* after = std::find_if_not(block + bytes, end, poisoned);
    if (before == block && after == end) return {};
    const std::string where = after != end ? fmt::format("byte {} of", after - block)
                                           : fmt::format("a byte {} before", block - before);
    std::memset(first, kPoison, kRedZone);
    std::memset(block + bytes, kPoison, size_t(end - (block + bytes)));
    return fmt::format("{} a block of {} bytes was written", where, bytes);
#endif
  }

  mutable std::mutex mutex_;
  std::unordered_map<unsigned char*, size_t> blocks_;
  AllocatorStats stats_;
  std::string damage_;
};

EmulatedAllocator& memory() {
  static auto* m = new EmulatedAllocator;  // never destroyed, as the CPU's
  return *m;
}

}  // namespace

struct StagingBuffer::Implementation {
  explicit Implementation(size_t size)
      : host(size), device(static_cast<std::byte*>(memory().allocate(size))) {}
  ~Implementation() { memory().free(device, host.size()); }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;

  std::vector<std::byte> host;
  std::byte* device;
};

namespace {

// Those that were sent and not opened again.
struct Sent {
  std::mutex mutex;
  std::vector<StagingBuffer::Implementation*> buffers;
  int64_t taken = 0;
};
Sent& sent() {
  static auto* s = new Sent;
  return *s;
}

// The same bytes on the device, or null.
const void* in_a_buffer(const void* from, size_t bytes) {
  Sent& s = sent();
  const std::lock_guard lock(s.mutex);
  for (StagingBuffer::Implementation* p : s.buffers) {
    const auto offset = uintptr_t(from) - uintptr_t(p->host.data());  // huge where `from` is before
    if (offset >= p->host.size()) continue;
    // The copy may read them at any time between.
    if (bytes > p->host.size() - offset || std::memcmp(p->device + offset, from, bytes) != 0)
      throw InternalError(fmt::format("{} bytes of a buffer of {} were changed after it was sent",
                                      bytes, p->host.size()));
    ++s.taken;
    return p->device + offset;
  }
  return nullptr;
}

}  // namespace

StagingBuffer::StagingBuffer(size_t bytes)
    : implementation_(std::make_unique<Implementation>(bytes)) {}
StagingBuffer::~StagingBuffer() {
  host();
}
size_t StagingBuffer::bytes() const {
  return implementation_->host.size();
}
void* StagingBuffer::host() {
  const std::lock_guard lock(sent().mutex);
  std::erase(sent().buffers, implementation_.get());
  return implementation_->host.data();
}
void StagingBuffer::upload() {
  std::memcpy(implementation_->device, implementation_->host.data(), bytes());
  const std::lock_guard lock(sent().mutex);
  sent().buffers.push_back(implementation_.get());
}

int64_t copies_from_staging_buffers() {
  const std::lock_guard lock(sent().mutex);
  return sent().taken;
}

std::string red_zone_damage() {
  return memory().damage();
}

const Status& status() {
  static const Status s{Flavour::emulated, true,
                        "emulated: kernels run on the CPU, a fiber for each of their threads"};
  return s;
}
int gpu_count() {
  return 0;
}
void use_gpu(int index) {
  throw UserError(fmt::format("GPU {} of none: device cuda is emulated", index));
}
std::string gpu_uuid() {
  return "";
}
Allocator& allocator(Device) {
  return memory();
}
void copy(void* to, const void* from, size_t bytes, Direction direction) {
  if (bytes == 0) return;
  if (direction == Direction::to_device)
    if (const void* there = in_a_buffer(from, bytes)) from = there;
  std::memmove(to, from, bytes);
}
void clear(void* to, size_t bytes) {
  if (bytes > 0) std::memset(to, 0, bytes);
}
void synchronize() {
  if (const std::string damage = red_zone_damage(); !damage.empty())
    throw InternalError("emulated cuda: " + damage);
}
void* stream() {
  return nullptr;
}

// Work is done when it is asked for.
Event::Event() = default;
void Event::precedes_later_work() const {}
bool Event::reached() const {
  return true;
}
Stream::Stream() = default;
StreamScope::StreamScope(const Stream&) {}
StreamScope::~StreamScope() = default;

}  // namespace reverie::cuda
