// Where the device is emulated, its memory is the host's, and the CPU multiplies.

#include <algorithm>

#include "core/error.h"
#include "kernels/cuda/gemm/gemm.h"
#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace reverie::cuda {
namespace {

// Batch entry `entry` of t (rank 2 or 3, rows or columns of unit stride) as a CPU tensor [rows,
// columns] over the same memory.
Tensor on_host(const Tensor& t, int64_t entry) {
  const int64_t rows = t.size(-2), columns = t.size(-1), row_stride = t.strides()[-2],
                column_stride = t.strides()[-1];
  const int64_t shift = t.rank() == 3 ? entry * t.strides()[0] : 0;
  auto* data = static_cast<char*>(const_cast<void*>(t.raw())) + shift * int64_t(size_of(t.dtype()));
  // `lines` runs of `length` numbers, each `stride` after the one before.
  const auto over = [&](int64_t lines, int64_t length, int64_t stride) {
    stride = std::max(stride, length);
    const size_t bytes = size_t(lines * stride) * size_of(t.dtype());
    auto storage = std::make_shared<Storage>(data, bytes, Device{}, [] {});
    return Tensor::over(std::move(storage), {lines, stride}, t.dtype()).slice(1, 0, length);
  };
  if (column_stride == 1 || columns <= 1) return over(rows, columns, row_stride);
  return over(columns, rows, column_stride).transpose(0, 1);
}

// `vector` as a CPU tensor over the same memory.
Tensor vector_on_host(Tensor vector, Epilogue epilogue) {
  if (reinterpret_cast<uintptr_t>(begin_of(vector, epilogue)) % kVectorAlignment != 0)
    throw InternalError(fmt::format("an epilogue's vector {} must begin on a boundary of {} bytes",
                                    vector, kVectorAlignment));
  return on_host(vector.view({1, -1}), 0).view({-1});
}

// The library's epilogues, by the CPU's kernels.
void run_epilogue(const Matmul& args, Epilogue epilogue, Tensor vector) {
  if (epilogue == Epilogue::bias) {
    Tensor c = on_host(args.c, 0);
    kernel::binary_forward(Device{}, {Binary::add, c, vector, c, c.size(0), 1});
    return;
  }
  const Tensor summed = epilogue == Epilogue::sums_of_b
                            ? on_host(args.b, 0).contiguous()
                            : on_host(args.a, 0).transpose(0, 1).contiguous();
  kernel::sum_forward(Device{}, {summed, 1, summed.size(0), summed.size(1), 1.0, false, vector});
}

}  // namespace

bool multiply(const Matmul& args, Epilogue epilogue, Tensor vector) {
  if (epilogue != Epilogue::none) {
    // As the library: f32 only, and no empty matrices.
    if (args.c.dtype() != DType::f32 || args.c.numel() == 0 || args.a.size(-1) == 0) return false;
    vector = vector_on_host(vector, epilogue);
  }
  const int64_t batch = args.c.rank() == 3 ? args.c.size(0) : 1;
  if (args.c.numel() == 0) return true;
  args.c.mutable_raw();  // counts as a write
  for (int64_t i = 0; i < batch; ++i) {
    Tensor c = on_host(args.c, i);
    kernel::matmul(Device{},
                   {on_host(args.a, i), on_host(args.b, i), args.alpha, args.accumulate, c});
  }
  if (epilogue != Epilogue::none) run_epilogue(args, epilogue, vector);
  return true;
}

}  // namespace reverie::cuda
