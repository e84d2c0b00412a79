#pragma once
/// Rows of weights that stay as a file has them: widened, or multiplied as they are read. Values are,
/// bit for bit, those of core/gguf_dequantize.cpp.

#include "kernels/cpu/compact_view.h"

namespace reverie::cpu::REVERIE_ISA {

/// to [count, columns] = rows first .. first + count - 1 in f32, by the calling thread.
void widen_rows(const CompactView& weights, int64_t first, int64_t count, float* to);

/// c [m, rows] = alpha * a weights^T (+ c) for few rows of a [m, columns]. Whole vectors of an element
/// are summed in the order in which SkinnyGemm sums them over the widened weights.
struct CompactProduct {
  const CompactView& weights;
  int64_t m;
  const float* a;
  int64_t a_row;
  float* c;
  int64_t c_row;
  float alpha;
  bool accumulate;
};
void multiply_compact_rows(const CompactProduct& p);

}  // namespace reverie::cpu::REVERIE_ISA
