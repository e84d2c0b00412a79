// Device cuda by NVIDIA's runtime (REVERIE_CUDA=on). The runtime is linked statically and looks for
// the driver when it is first asked, so that the program starts where there is none.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <mutex>

#include "core/cuda.h"
#include "core/error.h"

namespace reverie::cuda {
namespace {

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw MachineError(fmt::format("cuda: {} failed: {}", what, cudaGetErrorString(error)));
}

Status look() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    return {Flavour::on, false,
            fmt::format("CUDA {}.{} is built in, but no GPU is usable here: {}",
                        CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10,
                        error != cudaSuccess ? cudaGetErrorString(error) : "there is none")};
  }
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, 0); error != cudaSuccess)
    return {Flavour::on, false, cudaGetErrorString(error)};
  // Kernels are compiled for 8.0 and 9.0; later ones translate the latter's PTX.
  if (p.major < 8)
    return {Flavour::on, false,
            fmt::format("{} has compute capability {}.{}, and kernels want 8.0", p.name, p.major,
                        p.minor)};
  return {Flavour::on, true,
          fmt::format("{}, {:.1f} GiB, compute capability {}.{}{}", p.name,
                      double(p.totalGlobalMem) / double(1 << 30), p.major, p.minor,
                      count > 1 ? fmt::format(", the first of {}", count) : "")};
}

void require_usable() {
  if (!status().usable)
    throw UserError(fmt::format("device cuda is not usable: {}", status().in_words));
}

cudaStream_t the_stream() {
  static const cudaStream_t s = [] {
    require_usable();
    cudaStream_t made = nullptr;
    check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream");
    return made;
  }();
  return s;
}

// The driver's pool, told to keep what it has: a block that is freed is handed out again in the
// order of the stream.
class StreamAllocator final : public Allocator {
 public:
  StreamAllocator() {
    require_usable();
    check(cudaDeviceGetDefaultMemPool(&pool_, 0), "finding the memory pool");
    uint64_t keep = UINT64_MAX;
    check(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep),
          "setting up the memory pool");
  }
  void* allocate(size_t bytes) override {
    void* p = nullptr;
    const size_t size = std::max<size_t>(bytes, 1);
    if (const cudaError_t error = cudaMallocAsync(&p, size, the_stream()); error != cudaSuccess) {
      (void)cudaGetLastError();
      throw MachineError(fmt::format("out of memory: wanted {} bytes on cuda, {} are in use: {}",
                                     bytes, stats().in_use, cudaGetErrorString(error)));
    }
    const std::lock_guard lock(mutex_);
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
    return p;
  }
  void free(void* pointer, size_t bytes) noexcept override {
    (void)cudaFreeAsync(pointer, the_stream());  // fails only when the process ends
    const std::lock_guard lock(mutex_);
    in_use_ -= bytes;
  }
  AllocatorStats stats() const override {
    uint64_t reserved = 0;
    (void)cudaMemPoolGetAttribute(pool_, cudaMemPoolAttrReservedMemCurrent, &reserved);
    const std::lock_guard lock(mutex_);
    return {in_use_, peak_, size_t(reserved)};
  }
  void reset_peak() override {
    const std::lock_guard lock(mutex_);
    peak_ = in_use_;
  }
  void release_cached() override {
    synchronize();
    check(cudaMemPoolTrimTo(pool_, 0), "trimming the memory pool");
  }

 private:
  cudaMemPool_t pool_ = nullptr;
  mutable std::mutex mutex_;
  size_t in_use_ = 0, peak_ = 0;
};

}  // namespace

const Status& status() {
  static const Status s = look();
  return s;
}
Allocator& allocator(Device device) {
  static auto* memory = new StreamAllocator;  // never destroyed, as the CPU's
  require(device.index == 0,
          "device cuda:{}: a process uses one GPU, the first it sees (CUDA_VISIBLE_DEVICES)",
          device.index);
  return *memory;
}
void copy(void* to, const void* from, size_t bytes, Direction direction) {
  if (bytes == 0) return;
  const cudaMemcpyKind kind = direction == Direction::to_device ? cudaMemcpyHostToDevice
                              : direction == Direction::to_host ? cudaMemcpyDeviceToHost
                                                                : cudaMemcpyDeviceToDevice;
  check(cudaMemcpyAsync(to, from, bytes, kind, the_stream()), "a copy");
  if (direction != Direction::on_device)
    check(cudaStreamSynchronize(the_stream()), "a copy, or work before it,");
}
void clear(void* to, size_t bytes) {
  if (bytes > 0) check(cudaMemsetAsync(to, 0, bytes, the_stream()), "clearing memory");
}
void synchronize() {
  if (status().usable) check(cudaStreamSynchronize(the_stream()), "work on the device");
}
void* stream() {
  return the_stream();
}

}  // namespace reverie::cuda
