#pragma once
/// Device cuda as the core sees it: memory, copies and the order of work. One of
/// core/{absent,emulated,runtime}_cuda.cpp implements this, by the build's REVERIE_CUDA.
///
/// Work on the device (kernels, copies) runs in the order in which it was asked for, but for what
/// core/cuda_stream.h puts aside. A process uses one GPU: of those that it sees (which is what
/// CUDA_VISIBLE_DEVICES says), the first, or the one given to use_gpu().

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/storage.h"

namespace reverie::cuda {

/// emulated: kernels run on the CPU, a fiber for each of their threads; memory is the host's.
enum class Flavour : uint8_t { off, emulated, on };

struct Status {
  Flavour flavour;
  bool usable;           ///< whether tensors can live there
  std::string in_words;  ///< what the device is, or why there is none
};
/// Status of the GPU in use. Looked up once; never throws, so that a program with CUDA runs on a
/// machine without a driver.
const Status& status();

/// How many GPUs this process sees; 0 where none is usable, and on the emulated device, where there
/// is nothing to choose.
int gpu_count();
/// The GPU that device cuda is, from now on. Before the first tensor lives there: InternalError
/// afterwards. UserError unless 0 <= index < gpu_count().
void use_gpu(int index);
/// The GPU's UUID, the same for all processes that see it; "" where gpu_count() is 0.
std::string gpu_uuid();

/// Throws MachineError where there is no memory left, UserError where the device is not usable.
Allocator& allocator(Device);

enum class Direction : uint8_t { to_device, to_host, on_device };
/// Returns when `to` may be read (to_host) and `from` may change (to_device).
void copy(void* to, const void* from, size_t bytes, Direction);
void clear(void* to, size_t bytes);  ///< to zeros
/// Returns when all work is done; errors of earlier work surface here as MachineError.
void synchronize();

/// The stream that this thread's work is put on (cudaStream_t); null where there is none.
void* stream();

}  // namespace reverie::cuda
