#pragma once
/// Bytes that are sent to the device before they are asked for. Implemented beside core/cuda.h.

#include <cstddef>
#include <memory>

namespace reverie::cuda {

/// A block of the host's memory, page-locked so that the device reads it by itself (ordinary where
/// the device is emulated), and one of the device's. A copy from the one to the other goes on a
/// stream of its own, beside kernels. Once it was sent, cuda::copy() and Tensor::to() of these bytes
/// or some of them take what is on the device, and the device, not the host, waits for it there.
class StagingBuffer {
 public:
  /// Throws as cuda::allocator() does.
  explicit StagingBuffer(size_t bytes);
  ~StagingBuffer();
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;

  size_t bytes() const;
  /// The host's block, to be filled. Waits until a copy from it that is under way is done; what was
  /// taken before stays as it was taken.
  void* host();
  /// Starts the copy. From now on the host's bytes may be read, but not changed before host().
  void upload();

  struct Implementation;

 private:
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace reverie::cuda
