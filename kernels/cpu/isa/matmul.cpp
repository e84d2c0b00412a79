#include "kernels/matmul.h"

#include "kernels/cpu/gemm_library.h"
#include "kernels/cpu/isa/compact_rows.h"
#include "kernels/cpu/isa/gemm_tiles.h"
#include "kernels/cpu/isa/skinny_gemm.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

// One product of a batch: a(i, k) at a[i * a_row + k * a_step], b(k, j) at b[k * b_row + j *
// b_step].
template <class T>
struct Product {
  int64_t m, n, k;
  const T* a;
  int64_t a_row, a_step;
  const T* b;
  int64_t b_row, b_step;
  T* c;
  int64_t c_row;
  T alpha;
  bool accumulate;
};

constexpr int64_t kDepth =
    256;  // of b that is packed at a time: a panel of it stays in the first-level cache

// Columns [first, first + columns) of b, rows [k0, k0 + depth), as panels of kTileColumns columns
// each, padded with zeros.
template <class T>
void pack_right(const Product<T>& p, int64_t k0, int64_t depth, int64_t first, int64_t columns,
                T* packed) {
  constexpr int64_t kWidth = kTileColumns<T>;
  for (int64_t panel = 0; panel < columns; panel += kWidth, packed += depth * kWidth) {
    const int64_t width = smaller(kWidth, columns - panel);
    const T* from = p.b + k0 * p.b_row + (first + panel) * p.b_step;
    if (p.b_step != 1 && p.b_row == 1) {
      pack_transposed(from, p.b_step, width, depth, packed);
      continue;
    }
    if (width < kWidth)
      for (int64_t i = 0; i < depth * kWidth; ++i) packed[i] = 0;
    if (p.b_step == 1 && width == kWidth) {
      for (int64_t k = 0; k < depth; ++k)
        for (int v = 0; v < kTileVectors; ++v)
          store(packed + k * kWidth + v * kLanes<T>, load(from + k * p.b_row + v * kLanes<T>));
    } else if (p.b_step == 1) {
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t j = 0; j < width; ++j) packed[k * kWidth + j] = from[k * p.b_row + j];
    } else {
      for (int64_t j = 0; j < width; ++j)
        for (int64_t k = 0; k < depth; ++k)
          packed[k * kWidth + j] = from[k * p.b_row + j * p.b_step];
    }
  }
}

// Rows [first, first + rows) of the product's columns [begin, begin + columns).
template <class T>
void block(const Product<T>& p, int64_t first, int64_t rows, int64_t begin, int64_t columns) {
  constexpr int64_t kWidth = kTileColumns<T>;
  const int64_t panels = (columns + kWidth - 1) / kWidth;
  auto* right = static_cast<T*>(
      scratch(Slot::local, size_t(panels * kWidth * smaller(kDepth, p.k)) * sizeof(T)));
  T left[kTileRows * kDepth];
  for (int64_t k0 = 0; k0 < p.k; k0 += kDepth) {
    const int64_t depth = smaller(kDepth, p.k - k0);
    const Into into = p.accumulate || k0 > 0 ? Into::add : Into::overwrite;
    pack_right(p, k0, depth, begin, columns, right);
    for (int64_t i = 0; i < rows; i += kTileRows) {
      const int64_t height = smaller<int64_t>(kTileRows, rows - i);
      Left<T> a{p.a + (first + i) * p.a_row + k0 * p.a_step, p.a_row, p.a_step};
      if (p.a_step != 1) {
        for (int64_t k = 0; k < depth; ++k)
          if (height == kTileRows) {
#pragma GCC unroll 16
            for (int64_t r = 0; r < kTileRows; ++r)
              left[k * kTileRows + r] = a.data[r * a.row + k * a.step];
          } else {
            for (int64_t r = 0; r < height; ++r)
              left[k * kTileRows + r] = a.data[r * a.row + k * a.step];
          }
        a = {left, 1, kTileRows};
      }
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t j = panel * kWidth;
        product(height, depth, a, right + panel * depth * kWidth, kWidth, p.alpha, into,
                p.c + (first + i) * p.c_row + begin + j, p.c_row, smaller(kWidth, columns - j));
      }
    }
  }
}

// Own tiles: every product of the batch is cut into blocks, all of which run in parallel. Each
// element is summed in the order of k whatever the blocks, so results do not depend on the number
// of threads.
template <class T, class ProductOf>
void multiply_own(int64_t batch, const ProductOf& product_of) {
  const Product<T> first = product_of(0);
  const int64_t m = first.m, n = first.n, k = first.k;
  if (k == 0) {
    for (int64_t b = 0; b < batch; ++b) {
      const Product<T> p = product_of(b);
      for (int64_t i = 0; i < m && !p.accumulate; ++i)
        for (int64_t j = 0; j < n; ++j) p.c[i * p.c_row + j] = 0;
    }
    return;
  }
  // Tall blocks pack b seldom; at least four blocks keep two to four threads busy.
  constexpr int64_t kColumns = 256;
  int64_t height = 32 * kTileRows;
  while (height > 4 * kTileRows &&
         batch * ((m + height - 1) / height) * ((n + kColumns - 1) / kColumns) < 8)
    height /= 2;
  const int64_t down = (m + height - 1) / height, across = (n + kColumns - 1) / kColumns;
  for_each(batch * down * across, smaller(height, m) * smaller(kColumns, n) * k / 16,
           [&](int64_t task) {
             const Product<T> p = product_of(task / (down * across));
             const int64_t i = task / across % down * height, j = task % across * kColumns;
             block(p, i, smaller(height, m - i), j, smaller(kColumns, n - j));
           });
}

// Whether a batch is one product over all its rows: b is shared, and rows are evenly apart.
bool is_joined(const View& a, const View& b, const View& c) {
  if (a.rank == 2) return true;
  const int64_t m = a.size[1];
  return b.rank == 2 && a.stride[0] == m * a.stride[1] && c.stride[0] == m * c.stride[1] &&
         a.stride[2] == 1;
}

// Rows of a in f32 or f64, one after the other; as they lie where they do so.
template <class T, class A>
const T* plain_rows(const A* a, int64_t a_row, int64_t a_step, int64_t m, int64_t k,
                    int64_t& plain_row) {
  if constexpr (sizeof(A) == sizeof(T)) {
    if (a_step == 1) {
      plain_row = a_row;
      return a;
    }
  }
  plain_row = k;
  T* rows = static_cast<T*>(scratch(Slot::shared, size_t(m * k) * sizeof(T)));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t x = 0; x < k; ++x) rows[i * k + x] = as<T>(a[i * a_row + x * a_step]);
  return rows;
}

// A skinny product: true if that is what was asked for, and done.
template <class T, class W>
bool multiply_skinny(const Matmul& args, const View& a, const View& b, const View& c) {
  if (!is_joined(a, b, c)) return false;
  const int rank = a.rank;
  const int64_t m = rank == 3 ? a.size[0] * a.size[1] : a.size[0], k = a.size[rank - 1],
                n = c.size[rank - 1], b_row = b.stride[b.rank - 2], b_step = b.stride[b.rank - 1];
  if (m > kSkinnyRows || k == 0) return false;
  SkinnyGemm<T, W> p{.m = m,
                     .n = n,
                     .k = k,
                     .b = pointer<W>(b),
                     .c = pointer<T>(c),
                     .c_row = c.stride[rank - 2],
                     .alpha = T(args.alpha),
                     .accumulate = args.accumulate};
  p.a = plain_rows<T>(pointer<W>(a), a.stride[rank - 2], a.stride[rank - 1], m, k, p.a_row);
  if (b_step == 1 || n == 1) {
    p.b_line = b_row;
    skinny_gemm_row_major(p);
  } else {
    p.b_line = b_step;
    skinny_gemm_transposed(p);
  }
  return true;
}

template <class T>
void multiply(const Matmul& args, const View& a, const View& b, const View& c) {
  const int rank = a.rank;
  const int64_t batch = rank == 3 ? a.size[0] : 1;
  const int64_t m = a.size[rank - 2], k = a.size[rank - 1], n = c.size[rank - 1];
  if (batch == 0 || m == 0 || n == 0) return;
  // f64 is for checks, which compare products of many rows with products of few: there an element
  // is summed in one order, whatever is beside it.
  if constexpr (sizeof(T) == sizeof(float))
    if (multiply_skinny<T, T>(args, a, b, c)) return;
  const int64_t a_batch = rank == 3 ? a.stride[0] : 0, b_batch = b.rank == 3 ? b.stride[0] : 0,
                c_batch = rank == 3 ? c.stride[0] : 0;
  const auto product_of = [&](int64_t i) {
    return Product<T>{m,
                      n,
                      k,
                      pointer<T>(a) + i * a_batch,
                      a.stride[rank - 2],
                      a.stride[rank - 1],
                      pointer<T>(b) + i * b_batch,
                      b.stride[b.rank - 2],
                      b.stride[b.rank - 1],
                      pointer<T>(c) + i * c_batch,
                      c.stride[rank - 2],
                      T(args.alpha),
                      args.accumulate};
  };
  if constexpr (sizeof(T) == sizeof(float)) {
    // A library call is for one product: many small ones are better spread over the threads here.
    const bool shared = batch > 1 && is_joined(a, b, c);
    const int64_t calls = shared ? 1 : batch;
    if (use_gemm_library() && k > 0 && (calls == 1 || m * n * k >= 1 << 20)) {
      for (int64_t i = 0; i < calls; ++i) {
        const Product<T> p = product_of(i);
        library_sgemm(shared ? batch * m : m, n, k, p.alpha, p.a, p.a_row, p.a_step, p.b, p.b_row,
                      p.b_step, p.accumulate, p.c, p.c_row);
      }
      return;
    }
  }
  multiply_own<T>(batch, product_of);
}

// A copy of x in f32, row-major, in working memory.
View widened(const View& x, Slot slot) {
  View wide = x;
  wide.dtype = DType::f32;
  wide.data = scratch(slot, size_t(x.count) * sizeof(float));
  for (int64_t d = x.rank - 1, stride = 1; d >= 0; stride *= x.size[d--]) wide.stride[d] = stride;
  const int64_t height = x.size[x.rank - 2], width = x.size[x.rank - 1];
  for_each(rows(x), width, [&](int64_t row) {
    const uint16_t* from = pointer<uint16_t>(x) + (x.rank == 3 ? row / height * x.stride[0] : 0) +
                           row % height * x.stride[x.rank - 2];
    uint32_t* to = pointer<uint32_t>(wide) + row * width;
    for (int64_t i = 0; i < width; ++i) to[i] = uint32_t(from[i * x.stride[x.rank - 1]]) << 16;
  });
  return wide;
}

void multiply_bf16(const Matmul& args, const View& a, const View& b, const View& c) {
  const int rank = a.rank;
  const int64_t batch = rank == 3 ? a.size[0] : 1, m = a.size[rank - 2], k = a.size[rank - 1],
                n = c.size[rank - 1];
  if (batch == 0 || m == 0 || n == 0 || multiply_skinny<float, uint16_t>(args, a, b, c)) return;
  // A single row or column may have any stride, which the library must not see.
  const bool plain = m > 1 && n > 1 && k > 1;
  if (!has_bf16_dot_products() || !plain || m * n * k < 4096) {
    return multiply<float>(args, widened(a, Slot::shared), widened(b, Slot::shared_second), c);
  }
  const bool joined = batch > 1 && is_joined(a, b, c);
  for (int64_t i = 0; i < (joined ? 1 : batch); ++i) {
    library_bf16gemm(joined ? batch * m : m, n, k, float(args.alpha),
                     pointer<uint16_t>(a) + (rank == 3 ? i * a.stride[0] : 0), a.stride[rank - 2],
                     a.stride[rank - 1], pointer<uint16_t>(b) + (b.rank == 3 ? i * b.stride[0] : 0),
                     b.stride[b.rank - 2], b.stride[b.rank - 1], args.accumulate,
                     pointer<float>(c) + (rank == 3 ? i * c.stride[0] : 0), c.stride[rank - 2]);
  }
}

// Rows of compact weights that are widened at a time: they stay in the second-level cache, or near.
int64_t rows_of_panel(const CompactView& w) {
  constexpr int64_t kPanel = 1 << 19;  // numbers
  return smaller(w.rows, larger<int64_t>(64, kPanel / w.columns / 64 * 64));
}

// One product over all rows of a. `b` is the weights' shape.
void multiply_compact(const Matmul& args, const CompactView& w, const View& a, const View& b,
                      const View& c) {
  const int rank = a.rank;
  const int64_t m = rank == 3 ? a.size[0] * a.size[1] : a.size[0];
  if (w.transposed && m <= kSkinnyRows) {
    int64_t a_row = 0;
    const float* rows = plain_rows<float>(pointer<float>(a), a.stride[rank - 2], a.stride[rank - 1],
                                          m, w.columns, a_row);
    return multiply_compact_rows({w, m, rows, a_row, pointer<float>(c), c.stride[rank - 2],
                                  float(args.alpha), args.accumulate});
  }
  const int64_t each = rows_of_panel(w);
  auto* panel =
      static_cast<float*>(scratch(Slot::shared_second, size_t(each * w.columns) * sizeof(float)));
  for (int64_t first = 0; first < w.rows; first += each) {
    const int64_t count = smaller(each, w.rows - first);
    constexpr int64_t kAtATime = 8;
    for_each((count + kAtATime - 1) / kAtATime, kAtATime * w.columns, [&](int64_t i) {
      const int64_t row = i * kAtATime;
      widen_rows(w, first + row, smaller(kAtATime, count - row), panel + row * w.columns);
    });
    View left = a, right = b, to = c;
    right.data = panel;
    right.count = count * w.columns;
    if (w.transposed) {  // so many columns of c
      right.size[1] = count;
      to.size[rank - 1] = count;
      to.data = pointer<float>(c) + first;
      multiply<float>(args, left, right, to);
    } else {  // so many terms of all of c
      right.size[0] = left.size[rank - 1] = count;
      left.data = pointer<float>(a) + first * a.stride[rank - 1];
      const Matmul part{args.a, args.b, args.alpha, args.accumulate || first > 0, args.c};
      multiply<float>(part, left, right, to);
    }
  }
}

// One of a batch.
View matrix_of(const View& batch, int64_t i) {
  View v{};
  v.dtype = batch.dtype;
  v.rank = 2;
  v.count = batch.size[1] * batch.size[2];
  v.data = pointer<float>(batch) + i * batch.stride[0];
  for (int d = 0; d < 2; ++d) {
    v.size[d] = batch.size[d + 1];
    v.stride[d] = batch.stride[d + 1];
  }
  return v;
}

// Whether b is weights that stay as a file has them, which few rows read as they are, and which are
// widened panel by panel for many; if so, the product is done.
bool multiply_compact(const Matmul& args) {
  const CompactView w = compact_view(args.b);
  if (w.bytes == nullptr) return false;
  const View a = view(args.a), b = shape_view(args.b), c = writable(args.c);
  if (a.count == 0) return true;
  if (is_joined(a, b, c)) {
    multiply_compact(args, w, a, b, c);
  } else {
    for (int64_t i = 0; i < a.size[0]; ++i)
      multiply_compact(args, w, matrix_of(a, i), b, matrix_of(c, i));
  }
  return true;
}

void run_matmul(const Matmul& args) {
  if (multiply_compact(args)) return;
  const View a = view(args.a), b = view(args.b), c = writable(args.c);
  if (a.dtype == DType::bf16) return multiply_bf16(args, a, b, c);
  for_float(a.dtype, [&](auto zero) { multiply<decltype(zero)>(args, a, b, c); });
}

void run_matmul_pair(const MatmulPair& args) {
  run_pair(&run_matmul, args);
}

REVERIE_CPU_KERNEL(matmul, run_matmul);
REVERIE_CPU_KERNEL(matmul_pair, run_matmul_pair);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
