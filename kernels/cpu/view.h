#pragma once
/// A tensor as plain data. Files under isa/ are compiled once per instruction set and must not
/// instantiate inline functions that other files share (see core/host_device.h), so they read
/// tensors through this and through nothing else.

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/host_device.h"
#include "core/shape.h"

namespace reverie {
class Tensor;
}

namespace reverie::cpu {

struct View {
  void* data;  ///< null: undefined
  DType dtype;
  int rank;
  int64_t count;             ///< elements
  int64_t size[kMaxRank];    ///< of dimensions 0 .. rank - 1
  int64_t stride[kMaxRank];  ///< in elements
};
View view(const Tensor&);  ///< for reading
View writable(Tensor&);    ///< counts as a write
bool defined(const Tensor&);

template <class T>
REVERIE_INLINE T* pointer(const View& v) {
  return static_cast<T*>(v.data);
}
/// Columns and rows of a tensor seen as [.., columns].
REVERIE_INLINE int64_t columns(const View& v) {
  return v.size[v.rank - 1];
}
REVERIE_INLINE int64_t rows(const View& v) {
  return columns(v) == 0 ? 0 : v.count / columns(v);
}

/// Working memory of the calling thread, kept between calls: at least `bytes`, 64-byte aligned,
/// contents undefined. A slot holds one block at a time; `shared` is for the thread that opens a
/// parallel region, `local` for each thread within it.
enum class Slot : uint8_t { shared, shared_second, local, local_second, shared_third };
void* scratch(Slot, size_t bytes);

}  // namespace reverie::cpu
