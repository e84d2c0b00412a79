#include "kernels/cuda/gemm/panels.h"

#include <algorithm>

#include "kernels/copy.h"
#include "kernels/cuda/gemm/gemm.h"

namespace reverie::cuda {
namespace {

// Rows of weights in a panel. Multiples of 64 begin where the library reads 16 bytes at a time.
int64_t rows_of_panel(int64_t columns) {
  return std::max<int64_t>(64, numbers_of_panel() / columns / 64 * 64);
}

}  // namespace

bool fits_in_a_panel(const Tensor& b) {
  if (!read_as_stored(b)) return true;
  const bool turned = !compact_rows(b);
  return b.size(turned ? 1 : 0) <= rows_of_panel(b.size(turned ? 0 : 1));
}

bool multiply_by_panels(const Matmul& args) {
  if (!read_as_stored(args.b)) return false;
  const bool turned = !compact_rows(args.b);  // weights [n, k], or [k, n]
  const Tensor weights = turned ? args.b.transpose(0, 1) : args.b;
  const int64_t rows = weights.size(0), each = std::min(rows, rows_of_panel(weights.size(1)));
  Tensor panel = Tensor::empty({each, weights.size(1)}, args.a.dtype(), weights.device());
  for (int64_t first = 0; first < rows; first += each) {
    const int64_t end = std::min(rows, first + each);
    Tensor part = panel.slice(0, 0, end - first);
    kernel::widen_rows(weights.device(), {weights.slice(0, first, end), part});
    if (turned) {  // so many columns of c
      Tensor c = args.c.slice(-1, first, end);
      multiply({args.a, part.transpose(0, 1), args.alpha, args.accumulate, c});
    } else {  // so many terms of all of c
      multiply(
          {args.a.slice(-1, first, end), part, args.alpha, args.accumulate || first > 0, args.c});
    }
  }
  return true;
}

}  // namespace reverie::cuda
