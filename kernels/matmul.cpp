#include "kernels/matmul.h"

#include <atomic>

#include "kernels/copy.h"

namespace reverie {
namespace {

std::atomic<int64_t> g_numbers_of_panel{int64_t(1) << 24};

}  // namespace

bool read_as_stored(const Tensor& b) {
  return is_compact(b) && b.rank() == 2 && as_on_gpu(b.device()) &&
         (compact_rows(b) || compact_rows(b.transpose(0, 1)));
}

Tensor wide_operand(const Tensor& b, DType dtype) {
  if (!read_as_stored(b)) return b;
  const bool turned = !compact_rows(b);
  const Tensor rows = turned ? b.transpose(0, 1) : b;
  Tensor wide = Tensor::empty(rows.shape(), dtype, rows.device());
  kernel::widen_rows(rows.device(), {rows, wide});
  return turned ? wide.transpose(0, 1) : wide;
}

int64_t numbers_of_panel() {
  return g_numbers_of_panel.load(std::memory_order_relaxed);
}
void set_numbers_of_panel(int64_t numbers) {
  g_numbers_of_panel.store(numbers, std::memory_order_relaxed);
}

}  // namespace reverie
