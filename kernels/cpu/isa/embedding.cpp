#include "kernels/embedding.h"

#include "kernels/cpu/isa/compact_rows.h"
#include "kernels/cpu/isa/parallel.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// Rows of a table that stays as a file has it.
void look_up_compact(const EmbeddingForward& a, const CompactView& table) {
  const View indices = view(a.indices), positions = view(a.positions), y = writable(a.y);
  const int64_t first = a.first_position, period = a.period, width = table.columns;
  const int32_t* index = pointer<int32_t>(indices);
  const float* places = pointer<float>(positions);
  float* out = pointer<float>(y);
  for_each(indices.count, width, [&](int64_t n) {
    float* to = out + n * width;
    widen_rows(table, index[n], 1, to);
    if (places == nullptr) return;
    const float* place = places + (first + n % period) * width;
    for (int64_t i = 0; i < width; ++i) to[i] += place[i];
  });
}

void run_embedding_forward(const EmbeddingForward& a) {
  if (const CompactView compact = compact_view(a.table); compact.bytes != nullptr)
    return look_up_compact(a, compact);
  const View indices = view(a.indices), table = view(a.table), positions = view(a.positions),
             y = writable(a.y);
  const int64_t first = a.first_position, period = a.period;
  for_float(table.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(table);
    const int32_t* index = pointer<int32_t>(indices);
    const T *tokens = pointer<T>(table), *places = pointer<T>(positions);
    T* out = pointer<T>(y);
    for_each(indices.count, width, [=](int64_t n) {
      const T* row = tokens + index[n] * width;
      T* to = out + n * width;
      if (places == nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) to[i] = row[i];
      } else {
        const T* place = places + (first + n % period) * width;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) to[i] = row[i] + place[i];
      }
    });
  });
}

template <class T>
void add_row(const T* from, int64_t width, T* to) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) to[i] += from[i];
}

void run_embedding_backward(const EmbeddingBackward& a) {
  const View indices = view(a.indices), grad_y = view(a.grad_y),
             grad_table = writable(a.grad_table), grad_positions = writable(a.grad_positions);
  const int64_t count = indices.count, first = a.first_position, period = a.period;
  for_float(grad_y.dtype, [&](auto zero) {
    using T = decltype(zero);
    const int64_t width = columns(grad_y);
    const int32_t* index = pointer<int32_t>(indices);
    const T* gradient = pointer<T>(grad_y);
    T *tokens = pointer<T>(grad_table), *places = pointer<T>(grad_positions);
    if (tokens != nullptr) {
      // Each part owns the indices of one remainder and scans them all: no two threads meet in a
      // row, and a row's sum runs in the order of n whatever the number of threads.
      constexpr int64_t kParts = 16;
      for_each(kParts, count * width / kParts, [=](int64_t part) {
        for (int64_t n = 0; n < count; ++n)
          if (index[n] % kParts == part)
            add_row(gradient + n * width, width, tokens + index[n] * width);
      });
    }
    if (places != nullptr) {
      for_each(smaller(period, count), width * (count / period + 1), [=](int64_t place) {
        for (int64_t n = place; n < count; n += period)
          add_row(gradient + n * width, width, places + (first + place) * width);
      });
    }
  });
}

REVERIE_CPU_KERNEL(embedding_forward, run_embedding_forward);
REVERIE_CPU_KERNEL(embedding_backward, run_embedding_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
