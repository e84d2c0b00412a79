// Device cuda by NVIDIA's runtime (REVERIE_CUDA=on). The runtime is linked statically and looks for
// the driver when it is first asked, so that the program starts where there is none.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "core/cuda.h"
#include "core/cuda_stream.h"
#include "core/error.h"
#include "core/staging_buffer.h"

namespace reverie::cuda {
namespace {

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess)
    throw MachineError(fmt::format("cuda: {} failed: {}", what, cudaGetErrorString(error)));
}

int gpu = 0;                        // see use_gpu()
std::atomic<bool> gpu_used{false};  // it can be changed no more

std::string version(int number) {
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

// Why cudaGetDeviceCount() gave none.
std::string why_no_gpu(cudaError_t error) {
  int driver = 0;  // stays 0 where no driver is installed
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) return "there is no driver";
  if (error == cudaErrorInsufficientDriver)
    return fmt::format("the driver is of CUDA {}, and this build wants {} or newer",
                       version(driver), version(CUDART_VERSION / 1000 * 1000));
  return error != cudaSuccess ? cudaGetErrorString(error) : "there is none";
}

Status look() {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess || count == 0) {
    (void)cudaGetLastError();
    return {Flavour::on, false,
            fmt::format("CUDA {} is built in, but no GPU is usable here: {}",
                        version(CUDART_VERSION), why_no_gpu(error))};
  }
  cudaDeviceProp p;
  if (const cudaError_t error = cudaGetDeviceProperties(&p, gpu); error != cudaSuccess)
    return {Flavour::on, false, cudaGetErrorString(error)};
  // Kernels are compiled for 8.0 and 9.0; later ones translate the latter's PTX.
  if (p.major < 8)
    return {Flavour::on, false,
            fmt::format("{} has compute capability {}.{}, and kernels want 8.0", p.name, p.major,
                        p.minor)};
  return {Flavour::on, true,
          fmt::format("{}, {:.1f} GiB, compute capability {}.{}{}", p.name,
                      double(p.totalGlobalMem) / double(1 << 30), p.major, p.minor,
                      count > 1 ? fmt::format(", number {} of {}", gpu + 1, count) : "")};
}
Status& looked_up() {
  static Status s = look();
  return s;
}

void require_usable() {
  if (!status().usable)
    throw UserError(fmt::format("device cuda is not usable: {}", status().in_words));
}

cudaStream_t make_stream() {
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream");
  return made;
}

thread_local cudaStream_t beside = nullptr;  // of a StreamScope

cudaStream_t the_stream() {
  // The runtime has a current GPU for each thread.
  thread_local const bool bound = [] {
    require_usable();
    gpu_used = true;
    check(cudaSetDevice(gpu), "choosing the GPU");
    return true;
  }();
  static_cast<void>(bound);
  static const cudaStream_t own = make_stream();
  return beside ? beside : own;
}

cudaStream_t stream_of_uploads() {
  the_stream();  // this thread has its GPU
  static const cudaStream_t s = make_stream();
  return s;
}

// The driver's pool, told to keep what it has: a block that is freed is handed out again in the
// order of the stream.
class StreamAllocator final : public Allocator {
 public:
  StreamAllocator() {
    the_stream();
    check(cudaDeviceGetDefaultMemPool(&pool_, gpu), "finding the memory pool");
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

struct StagingBuffer::Implementation {
  explicit Implementation(size_t size) : bytes(size) {}
  ~Implementation() {  // fails only when the process ends
    for (cudaEvent_t e : {arrived, taken})
      if (e != nullptr) {
        (void)cudaEventSynchronize(e);
        (void)cudaEventDestroy(e);
      }
    (void)cudaFreeHost(host);
    (void)cudaFree(device);
  }
  Implementation(const Implementation&) = delete;
  Implementation& operator=(const Implementation&) = delete;

  size_t bytes;
  void *host = nullptr, *device = nullptr;
  // The copy to the device is done; what was last taken from there has been read.
  cudaEvent_t arrived = nullptr, taken = nullptr;
};

namespace {

// Those that were sent and not opened again.
struct Sent {
  std::mutex mutex;
  std::vector<StagingBuffer::Implementation*> buffers;
};
Sent& sent() {
  static auto* s = new Sent;
  return *s;
}

// Whether these bytes were in a buffer, and are copied from there.
bool take_from_buffer(void* to, const void* from, size_t bytes) {
  Sent& s = sent();
  const std::lock_guard lock(s.mutex);
  for (StagingBuffer::Implementation* p : s.buffers) {
    const auto offset = uintptr_t(from) - uintptr_t(p->host);  // huge where `from` is before
    if (offset >= p->bytes || bytes > p->bytes - offset) continue;
    check(cudaStreamWaitEvent(the_stream(), p->arrived), "waiting for a buffer");
    check(cudaMemcpyAsync(to, static_cast<const char*>(p->device) + offset, bytes,
                          cudaMemcpyDeviceToDevice, the_stream()),
          "taking from a buffer");
    check(cudaEventRecord(p->taken, the_stream()), "taking from a buffer");
    return true;
  }
  return false;
}

}  // namespace

StagingBuffer::StagingBuffer(size_t bytes)
    : implementation_(std::make_unique<Implementation>(bytes)) {
  the_stream();  // the GPU is usable, and chosen
  Implementation& p = *implementation_;
  check(cudaMallocHost(&p.host, std::max<size_t>(bytes, 1)), "allocating page-locked memory");
  check(cudaMalloc(&p.device, std::max<size_t>(bytes, 1)), "allocating memory for a buffer");
  for (cudaEvent_t* e : {&p.arrived, &p.taken})
    check(cudaEventCreateWithFlags(e, cudaEventDisableTiming), "making an event");
}
StagingBuffer::~StagingBuffer() {
  const std::lock_guard lock(sent().mutex);
  std::erase(sent().buffers, implementation_.get());
}
size_t StagingBuffer::bytes() const {
  return implementation_->bytes;
}
void* StagingBuffer::host() {
  {
    const std::lock_guard lock(sent().mutex);
    std::erase(sent().buffers, implementation_.get());
  }
  // An event that was never recorded is done.
  check(cudaEventSynchronize(implementation_->arrived), "sending a buffer");
  return implementation_->host;
}
void StagingBuffer::upload() {
  Implementation& p = *implementation_;
  check(cudaStreamWaitEvent(stream_of_uploads(), p.taken), "waiting for a buffer's last content");
  check(cudaMemcpyAsync(p.device, p.host, p.bytes, cudaMemcpyHostToDevice, stream_of_uploads()),
        "sending a buffer");
  check(cudaEventRecord(p.arrived, stream_of_uploads()), "sending a buffer");
  const std::lock_guard lock(sent().mutex);
  sent().buffers.push_back(&p);
}

const Status& status() {
  return looked_up();
}
int gpu_count() {
  int count = 0;
  if (!status().usable || cudaGetDeviceCount(&count) != cudaSuccess) return 0;
  return count;
}
void use_gpu(int index) {
  require(0 <= index && index < gpu_count(), "GPU {} does not exist: this process sees {}", index,
          gpu_count());
  if (index == gpu) return;
  if (gpu_used)
    throw InternalError(
        fmt::format("GPU {} was chosen while GPU {} was in use: a process uses "
                    "one GPU",
                    index, gpu));
  gpu = index;
  looked_up() = look();
}
std::string gpu_uuid() {
  cudaDeviceProp p;
  if (!status().usable || cudaGetDeviceProperties(&p, gpu) != cudaSuccess) return "";
  std::string text;
  for (char byte : p.uuid.bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return text;
}
Allocator& allocator(Device device) {
  static auto* memory = new StreamAllocator;  // never destroyed, as the CPU's
  require(device.index == 0,
          "device cuda:{}: a process uses one GPU, which is cuda:0 (CUDA_VISIBLE_DEVICES chooses)",
          device.index);
  return *memory;
}
void copy(void* to, const void* from, size_t bytes, Direction direction) {
  if (bytes == 0) return;
  if (direction == Direction::to_device && take_from_buffer(to, from, bytes)) return;
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

Event::Event() {
  the_stream();
  cudaEvent_t made = nullptr;
  check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "making an event");
  event_ = std::shared_ptr<void>(
      made, [](void* event) { (void)cudaEventDestroy(static_cast<cudaEvent_t>(event)); });
  check(cudaEventRecord(made, the_stream()), "recording an event");
}
void Event::precedes_later_work() const {
  check(cudaStreamWaitEvent(the_stream(), static_cast<cudaEvent_t>(event_.get()), 0),
        "ordering streams");
}
bool Event::reached() const {
  the_stream();
  const cudaError_t error = cudaEventQuery(static_cast<cudaEvent_t>(event_.get()));
  if (error == cudaErrorNotReady) return false;
  check(error, "work beside the device's own");
  return true;
}

Stream::Stream() {
  the_stream();
  stream_ = std::shared_ptr<void>(make_stream(), [](void* stream) {
    (void)cudaStreamDestroy(static_cast<cudaStream_t>(stream));
  });
}
StreamScope::StreamScope(const Stream& stream) : before_(beside) {
  beside = static_cast<cudaStream_t>(stream.stream_.get());
}
StreamScope::~StreamScope() {
  beside = static_cast<cudaStream_t>(before_);
}

}  // namespace reverie::cuda
