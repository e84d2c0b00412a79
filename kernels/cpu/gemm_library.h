#pragma once
// The library behind f32 and bf16 matrix products (see cmake/gemm_library.cmake).

#include <cstdint>

namespace reverie::cpu {

// Whether f32 goes to the library: not when there is none, nor when REVERIE_GEMM=own or set_gemm
// says so.
bool use_gemm_library();

// c [m, n] = alpha * a b (+ c), a(i, k) at a[i * a_row + k * a_step] and so on, one stride of each
// 1; c row-major.
void library_sgemm(int64_t m, int64_t n, int64_t k, float alpha, const float* a, int64_t a_row,
                   int64_t a_step, const float* b, int64_t b_row, int64_t b_step, bool accumulate,
                   float* c, int64_t c_row);

// The same of bf16 operands (their bits); sums are in f32. Only where has_bf16_dot_products().
void library_bf16gemm(int64_t m, int64_t n, int64_t k, float alpha, const uint16_t* a,
                      int64_t a_row, int64_t a_step, const uint16_t* b, int64_t b_row,
                      int64_t b_step, bool accumulate, float* c, int64_t c_row);

}  // namespace reverie::cpu
