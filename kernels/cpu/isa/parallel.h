#pragma once
/// Loops of the CPU kernels. Included only by the files of this folder, which are compiled once per
/// instruction set: all that is defined here lives in the namespace of that set.

#include <cstdint>

#include "core/host_device.h"
#include "core/parallel.h"
#include "kernels/cpu/view.h"

namespace reverie::cpu::REVERIE_ISA {

/// Below this much work (in elements of a cheap map) a parallel region costs more than it saves.
inline constexpr int64_t kParallelWork = 32768;
/// Relative cost of an element for kernels with an exponential.
inline constexpr int64_t kExpensive = 4;

/// body(T(0)) for T = float or double.
template <class Body>
static inline void for_float(DType dtype, const Body& body) {
  if (dtype == DType::f32) {
    body(0.0f);
  } else {
    body(0.0);
  }
}

template <class T>
static inline T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
static inline T larger(T a, T b) {
  return a < b ? b : a;
}

/// body(begin, end) over blocks of [0, n) whose bounds depend on n alone, never on the number of
/// threads: an element is always computed by the same code (vector body or tail), so that results
/// are the same to the bit.
template <class Body>
static inline void for_blocks(int64_t n, int64_t cost, const Body& body) {
  constexpr int64_t kBlock = 4096;
  const int64_t blocks = (n + kBlock - 1) / kBlock;
  share_out(blocks, n * cost >= kParallelWork,
            [&](int64_t block) { body(block * kBlock, smaller(n, (block + 1) * kBlock)); });
}

/// body(i) for i in [0, n), each of about `work` elements.
template <class Body>
static inline void for_each(int64_t n, int64_t work, const Body& body) {
  share_out(n, n > 1 && n * work >= kParallelWork, body);
}

/// ... of about as much in the mean, the longest first.
template <class Body>
static inline void for_each_unequal(int64_t n, int64_t work, const Body& body) {
  share_out_unequal(n, n > 1 && n * work >= kParallelWork, body);
}

/// How [0, n) rows are cut for a sum over rows: at most 64 blocks of at least 16 rows. Depends on n
/// alone.
static inline int64_t rows_per_block(int64_t n) {
  return larger<int64_t>(16, (n + 63) / 64);
}

}  // namespace reverie::cpu::REVERIE_ISA
