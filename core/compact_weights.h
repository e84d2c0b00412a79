#pragma once
/// Matrices of weights that stay in memory as a file has them: in blocks of few bits, or in 16
/// bits. To everyone else they are ordinary tensors of f32: whoever reads their elements finds
/// them, bit for bit what dequantising gives, at the cost of a second, wide copy that stays
/// (Tensor::raw). Those who know this header read them as they are, on the CPU and on a GPU: matrix
/// products, look-ups, copies (Tensor::copy_from) and hashes.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/tensor.h"

namespace reverie {

/// Types that matrices may stay in; the numbers are GGUF's.
enum class CompactType : uint32_t {
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30
};

/// Rows as they are stored, one after the other; `bytes` is an address on their tensor's device.
struct CompactRows {
  CompactType type;
  const std::byte* bytes;  ///< of the first
  int64_t row_bytes;
  int64_t rows, columns;
};

/// f32 [rows, columns] over such rows, which `owner` keeps alive: read only, on the owner's device.
/// A write to the tensor widens it for good. UserError where a row is no whole number of blocks, or
/// on a GPU where rows do not begin on a boundary of 4 bytes (of 2, where a block is no multiple of
/// 4).
Tensor compact_tensor(const CompactRows&, std::shared_ptr<Storage> owner);

/// How t is stored; nullopt: as an ordinary tensor, or it is not one or several whole rows in their
/// order.
std::optional<CompactRows> compact_rows(const Tensor& t);
/// Whether its storage is compact, whatever part of it t sees.
bool is_compact(const Tensor& t);

/// The elements of t on the CPU, of which compact_rows(t) is given, in their order.
void widen_into(const Tensor& t, float* out);
/// t itself, or an ordinary tensor of the same elements.
Tensor widened(const Tensor& t);
/// t (compact_rows(t) is given) on a device, stored likewise: itself where it is there.
Tensor compact_on(const Tensor& t, Device device);
/// The rows of t (compact_rows(t) is given) in another order, stored likewise: row i is row
/// order[i] of t.
Tensor compact_rows_in_order(const Tensor& t, std::span<const int64_t> order);
/// A contiguous tensor of f16 or bf16, of two dimensions, as f32 over the same bytes.
Tensor compact_tensor(const Tensor& narrow);
/// A compact tensor of bf16, as that, over the same bytes; undefined for any other.
Tensor as_bf16(const Tensor& t);

/// hash_bytes() of the elements of a contiguous tensor on the CPU; compact ones are widened piece
/// by piece.
std::string hash_elements(const Tensor& t);

/// Bytes that the elements of t take where they are read: less than t.bytes() where compact.
size_t stored_bytes(const Tensor& t);
/// How many compact tensors have been widened for good in this process: tests and reports ask.
int64_t widened_for_good();

/// Whether frozen weights stay compact: yes, unless the environment's REVERIE_WEIGHTS is "f32"
/// ("compact" is the default; ConfigError for anything else).
bool keeps_weights_compact();

/// While one is alive in this process, what is done with compact weights on the CPU counts as if it
/// were done on `device`: for a dry run of what happens there.
class WeightsAsOn {
 public:
  explicit WeightsAsOn(Device device);
  ~WeightsAsOn();
  WeightsAsOn(const WeightsAsOn&) = delete;
  WeightsAsOn& operator=(const WeightsAsOn&) = delete;

 private:
  bool counted_;
};
/// Whether weights on this device lie on a GPU, or count so.
bool as_on_gpu(Device);

namespace detail {
/// `blocks` blocks of a type that GgufFile::dequantize() reads, F32 excepted.
void dequantize_blocks(CompactType type, const std::byte* in, int64_t blocks, float* out);
/// The elements of a storage that has no data of its own.
void* elements_of_compact(Storage&, bool for_writing);
/// Ordinary storage of the same elements, on the CPU.
std::shared_ptr<Storage> host_copy_of_compact(const Storage&);
}  // namespace detail

}  // namespace reverie
