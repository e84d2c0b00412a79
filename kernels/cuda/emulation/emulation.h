#pragma once
/// Runs CUDA kernels on the CPU, a fiber for each CUDA thread, so that they are tested where there
/// is no GPU. A test tool: memory order between blocks, and speed, it cannot see.
///
/// A warp runs as far as it can before the next one does (a barrier that is missing then shows,
/// which taking turns thread by thread hides), in an order that REVERIE_CUDA_SCHEDULE=n shuffles.
/// Shared memory knows its bounds and who touched it since the last barrier (shared.h). Barriers and
/// warp functions say where threads parted. Memory of the device lies between red zones
/// (core/emulated_cuda.h). What is wrong ends the launch with an InternalError.

#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <string>
#include <type_traits>

#define __global__
#define __device__
#define __launch_bounds__(...)

namespace reverie::cuda::emulation {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

inline constexpr int kWarp = 32;
inline constexpr size_t kLargestOffer = 32;

/// A kernel's fault and its line; ends the launch.
struct Fault {
  std::string what;
  std::source_location where;
};

/// Why a thread stopped.
enum class Wait : uint8_t { none, warp, block, done };

struct Thread {
  Dim3 index;
  int number = 0;  ///< within the block
  Wait wait = Wait::none;
  std::source_location where;  ///< of the barrier or warp function it waits at
  int exchanges = 0;
  alignas(8) unsigned char offered[2][kLargestOffer] = {};  ///< to its warp's other lanes, by turns
};

/// The block that runs, and the thread of it that does.
struct Running {
  Dim3 grid, block, block_index;
  Thread* thread = nullptr;
  unsigned epoch = 0;        ///< grows with each barrier of the block
  size_t dynamic_bytes = 0;  ///< of shared memory, as the launch said
};
extern Running running;

/// Stops the thread until the rest of its block (or warp) has come as far.
void wait(Wait, std::source_location);
/// Waits until all lanes of the thread's warp have offered so many bytes; the turn they are kept in,
/// until each has offered twice more.
int offer_bytes(const void* bytes, size_t count, std::source_location);
/// Bytes that lane `lane` of the warp offered in that turn; a lane beyond the warp means the own
/// one.
const unsigned char* offered_by(int lane, int turn);
/// Orders what the lanes of the warp do to shared memory.
void order_warp(std::source_location);

/// A block's array of that size whose size the launch must have said.
void require_dynamic(size_t bytes, std::source_location = std::source_location::current());

/// Runs `thread` for each thread of each block. `where`: the launch, for messages.
void launch(Dim3 blocks, int threads, size_t dynamic_bytes, const std::function<void()>& thread,
            std::source_location);

/// Seed of the order in which warps and blocks run; 0: the order of their numbers.
void set_schedule(unsigned seed);

/// lane -> what that lane of the warp offers in the same call.
template <class T>
auto offer(const T& value, std::source_location where) {
  static_assert(sizeof(T) <= kLargestOffer && std::is_trivially_copyable_v<T>);
  return [turn = offer_bytes(&value, sizeof(T), where)](int lane) {
    T other;
    std::memcpy(&other, offered_by(lane, turn), sizeof(T));
    return other;
  };
}
inline int lane() {
  return running.thread->number % kWarp;
}

}  // namespace reverie::cuda::emulation

/// CUDA's own names. Masks must be full: a warp acts as one.
#define threadIdx (::reverie::cuda::emulation::running.thread->index)
#define blockIdx (::reverie::cuda::emulation::running.block_index)
#define blockDim (::reverie::cuda::emulation::running.block)
#define gridDim (::reverie::cuda::emulation::running.grid)

using dim3 = ::reverie::cuda::emulation::Dim3;

inline void __syncthreads(std::source_location where = std::source_location::current()) {
  ::reverie::cuda::emulation::wait(::reverie::cuda::emulation::Wait::block, where);
}
inline void __syncwarp(unsigned = ~0u,
                       std::source_location where = std::source_location::current()) {
  ::reverie::cuda::emulation::order_warp(where);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask,
                  std::source_location where = std::source_location::current()) {
  namespace e = ::reverie::cuda::emulation;
  return e::offer(value, where)(e::lane() ^ mask);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane,
              std::source_location where = std::source_location::current()) {
  return ::reverie::cuda::emulation::offer(value, where)(lane);
}
