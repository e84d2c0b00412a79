#include "kernels/cpu/view.h"

#include <cstdlib>
#include <memory>
#include <new>

#include "core/tensor.h"
#include "kernels/cpu/compact_view.h"

namespace reverie::cpu {
namespace {

View layout(const Tensor& t) {
  View v{};
  v.dtype = t.dtype();
  v.rank = t.rank();
  v.count = t.numel();
  for (int i = 0; i < v.rank; ++i) {
    v.size[i] = t.size(i);
    v.stride[i] = t.strides()[i];
  }
  return v;
}

struct Block {
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> memory;
  size_t bytes = 0;
};

}  // namespace

View view(const Tensor& t) {
  if (!t.defined()) return View{};
  View v = layout(t);
  v.data = const_cast<void*>(t.raw());
  return v;
}

View writable(Tensor& t) {
  if (!t.defined()) return View{};
  View v = layout(t);
  v.data = t.mutable_raw();
  return v;
}

bool defined(const Tensor& t) {
  return t.defined();
}

View shape_view(const Tensor& t) {
  return layout(t);
}

CompactView compact_view(const Tensor& t) {
  CompactView v{};
  if (!is_compact(t) || t.rank() != 2) return v;
  auto rows = compact_rows(t);
  if (!rows) {
    v.transposed = true;
    rows = compact_rows(t.transpose(0, 1));
    if (!rows) return v;
  }
  v.bytes = reinterpret_cast<const uint8_t*>(rows->bytes);
  v.type = rows->type;
  v.row_bytes = rows->row_bytes;
  v.rows = rows->rows;
  v.columns = rows->columns;
  return v;
}

void* scratch(Slot slot, size_t bytes) {
  static thread_local Block blocks[5];
  Block& block = blocks[size_t(slot)];
  if (block.bytes < bytes || block.memory == nullptr) {
    block.memory.reset();
    block.bytes = 0;
    const size_t rounded = (bytes + bytes / 2 + 4095) / 4096 * 4096 + 4096;
    block.memory.reset(std::aligned_alloc(64, rounded));
    if (block.memory == nullptr)
      throw MachineError(
          fmt::format("kernels: no memory for a working buffer of {} bytes", rounded));
    block.bytes = rounded;
  }
  return block.memory.get();
}

}  // namespace reverie::cpu
