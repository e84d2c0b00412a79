#pragma once
/// The library behind f32 and bf16 matrix products (see cmake/gemm_library.cmake).

#include <cstdint>

#include "kernels/matmul.h"

namespace reverie::cpu {

/// Whether f32 goes to the library: not when there is none, nor when REVERIE_GEMM=own or set_gemm
/// says so.
bool use_gemm_library();

/// Up to as many rows, the library's products are slower than reading b once, and are not its own.
inline constexpr int64_t kSkinnyRows = 8;

/// c [m, n] = alpha * a b (+ c), a(i, k) at a[i * a_row + k * a_step] and so on, one stride of each
/// 1; c row-major.
void library_sgemm(int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t a_row,
                   int64_t a_step, const float* b, int64_t b_row, int64_t b_step, bool accumulate,
                   float* c, int64_t c_row);

/// The same of bf16 operands (their bits); sums are in f32. Only where has_bf16_dot_products().
void library_bf16gemm(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t* a,
                      int64_t a_row, int64_t a_step, const uint16_t* b, int64_t b_row,
                      int64_t b_step, bool accumulate, float* c, int64_t c_row);

/// run(pair.first) and run(pair.second): at once, by a thread each, where there are two threads and
/// the library takes both products, which are of one size and large enough.
void run_pair(void (*run)(const Matmul&), const MatmulPair& pair);

}  // namespace reverie::cpu
