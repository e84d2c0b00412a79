#include "core/compact_weights.h"

#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/cuda.h"
#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "core/gguf.h"

namespace reverie {
namespace {

std::atomic<int64_t> g_widened{0};
std::atomic<int> g_scopes_as_on_gpu{0};

const GgufLayout& layout_of(CompactType type) {
  return *gguf_layout(uint32_t(type));
}

// Storage without data() until somebody who does not know better asks for it. No other storage of
// any bytes is without, but for only_rounded(): allocators throw, and files are mapped or refused.
class CompactStorage final : public Storage {
 public:
  CompactStorage(const CompactRows& rows, std::shared_ptr<Storage> owner)
      : Storage(nullptr, size_t(rows.rows * rows.columns) * sizeof(float), owner->device(), [] {}),
        rows_(rows),
        owner_(std::move(owner)) {}
  // Null once the elements have been written.
  const CompactRows* rows() const {
    return written_.load(std::memory_order_acquire) ? nullptr : &rows_;
  }
  const std::shared_ptr<Storage>& owner() const { return owner_; }
  ~CompactStorage() { delete wide_.load(); }
  // Without a mutex: a copy of the process that is made meanwhile could never take it.
  void* wide(bool for_writing) {
    Storage* wide = wide_.load(std::memory_order_acquire);
    if (!wide) {
      std::unique_ptr<Storage> made = wide_copy(device());
      // Whoever is first gives the elements; the others' are the same.
      if (wide_.compare_exchange_strong(wide, made.get(), std::memory_order_acq_rel)) {
        wide = made.release();
        g_widened.fetch_add(1, std::memory_order_relaxed);
      }
    }
    if (for_writing) written_.store(true, std::memory_order_release);
    return wide->data();
  }
  // On the CPU, or where the rows are.
  std::unique_ptr<Storage> wide_copy(Device to) const {
    auto host = std::make_unique<Storage>(bytes(), Device{});
    read(0, rows_.rows, static_cast<float*>(host->data()));
    if (to == Device{}) return host;
    auto copy = std::make_unique<Storage>(bytes(), to);
    cuda::copy(copy->data(), host->data(), bytes(), cuda::Direction::to_device);
    return copy;
  }
  // All rows as they are: of bf16.
  Tensor narrow() const {
    const int64_t offset = rows_.bytes - static_cast<const std::byte*>(owner_->data());
    return Tensor::over(owner_, {rows_.rows, rows_.columns}, DType::bf16, offset / 2);
  }
  // By the CPU, into its memory.
  void read(int64_t first, int64_t count, float* out) const {
    const std::byte* bytes = rows_.bytes + first * rows_.row_bytes;
    std::vector<std::byte> fetched;
    if (device() != Device{}) {
      fetched.resize(size_t(count * rows_.row_bytes));
      cuda::copy(fetched.data(), bytes, fetched.size(), cuda::Direction::to_host);
      bytes = fetched.data();
    }
    const int64_t blocks = rows_.columns / int64_t(layout_of(rows_.type).elements);
    detail::dequantize_blocks(rows_.type, bytes, count * blocks, out);
  }

 private:
  CompactRows rows_;
  std::shared_ptr<Storage> owner_;
  std::atomic<Storage*> wide_{nullptr};
  std::atomic<bool> written_{false};
};

CompactStorage* compact_storage(const Tensor& t) {
  if (!t.defined() || t.storage()->bytes() == 0 || t.storage()->data() != nullptr ||
      t.storage()->only_rounded())
    return nullptr;
  auto* storage = static_cast<CompactStorage*>(t.storage().get());
  return storage->rows() != nullptr ? storage : nullptr;
}

}  // namespace

namespace detail {

void* elements_of_compact(Storage& storage, bool for_writing) {
  return static_cast<CompactStorage&>(storage).wide(for_writing);
}
std::shared_ptr<Storage> host_copy_of_compact(const Storage& storage) {
  return static_cast<const CompactStorage&>(storage).wide_copy(Device{});
}

}  // namespace detail

Tensor compact_tensor(const CompactRows& rows, std::shared_ptr<Storage> owner) {
  const GgufLayout& layout = layout_of(rows.type);
  const int64_t blocks = rows.columns / int64_t(layout.elements);
  require(blocks * int64_t(layout.elements) == rows.columns &&
              rows.row_bytes == blocks * int64_t(layout.bytes),
          "compact weights: a row of {} {} takes no {} bytes", rows.columns, layout.name,
          rows.row_bytes);
  const Shape shape{rows.rows, rows.columns};
  if (shape.numel() == 0) return Tensor::empty(shape, DType::f32);
  const size_t boundary = owner->device() == Device{} ? 1 : layout.bytes % 4 == 0 ? 4 : 2;
  require(uintptr_t(rows.bytes) % boundary == 0,
          "compact weights: rows of {} begin beside a boundary of {} bytes, on which a GPU reads "
          "them; copy them to storage of their own",
          layout.name, boundary);
  return Tensor::over(std::make_shared<CompactStorage>(rows, std::move(owner)), shape, DType::f32);
}

Tensor compact_tensor(const Tensor& narrow) {
  require(narrow.rank() == 2 && narrow.is_contiguous() &&
              (narrow.dtype() == DType::f16 || narrow.dtype() == DType::bf16),
          "compact weights: {}; wanted a contiguous matrix of f16 or bf16", narrow);
  return compact_tensor({narrow.dtype() == DType::f16 ? CompactType::f16 : CompactType::bf16,
                         static_cast<const std::byte*>(narrow.raw()), narrow.size(1) * 2,
                         narrow.size(0), narrow.size(1)},
                        narrow.storage());
}

std::optional<CompactRows> compact_rows(const Tensor& t) {
  const CompactStorage* storage = compact_storage(t);
  if (!storage || t.dtype() != DType::f32 || t.rank() < 1 || !t.is_contiguous()) return {};
  CompactRows rows = *storage->rows();
  if (t.size(-1) != rows.columns || t.offset() % rows.columns != 0) return {};
  rows.bytes += t.offset() / rows.columns * rows.row_bytes;
  rows.rows = t.numel() / rows.columns;
  return rows;
}

bool is_compact(const Tensor& t) {
  return compact_storage(t) != nullptr;
}

void widen_into(const Tensor& t, float* out) {
  const auto rows = compact_rows(t);
  require(rows && t.device() == Device{},
          "compact weights: {} is stored otherwise, or on another device", t);
  compact_storage(t)->read(t.offset() / rows->columns, rows->rows, out);
}

Tensor widened(const Tensor& t) {
  if (!is_compact(t)) return t;
  Tensor wide = Tensor::empty(t.shape(), DType::f32, t.device());
  wide.copy_from(t);
  return wide;
}

Tensor compact_on(const Tensor& t, Device device) {
  const auto rows = compact_rows(t);
  require(rows.has_value(), "compact weights: {} is stored otherwise", t);
  if (device == t.device()) return t;
  const auto size = size_t(rows->rows * rows->row_bytes);
  const auto bytes = std::make_shared<Storage>(size, device);
  if (!dry_run())
    cuda::copy(bytes->data(), rows->bytes, size,
               device == Device{} ? cuda::Direction::to_host : cuda::Direction::to_device);
  return compact_tensor({rows->type, static_cast<const std::byte*>(bytes->data()), rows->row_bytes,
                         rows->rows, rows->columns},
                        bytes)
      .view(t.shape());
}

Tensor compact_rows_in_order(const Tensor& t, std::span<const int64_t> order) {
  const auto rows = compact_rows(t);
  require(rows && t.device() == Device{} && int64_t(order.size()) == rows->rows,
          "compact weights: {} rows in order, but {} is stored otherwise", order.size(), t);
  const auto size = size_t(rows->rows * rows->row_bytes);
  // Without values, and counted with the weights that stay in their file.
  const auto bytes = dry_run() ? map_zeros(size) : std::make_shared<Storage>(size, Device{});
  auto* to = static_cast<std::byte*>(bytes->data());
  for (size_t i = 0; i < order.size() && !dry_run(); ++i)
    std::memcpy(to + i * size_t(rows->row_bytes), rows->bytes + order[i] * rows->row_bytes,
                size_t(rows->row_bytes));
  return compact_tensor({rows->type, to, rows->row_bytes, rows->rows, rows->columns}, bytes);
}

Tensor as_bf16(const Tensor& t) {
  const auto rows = compact_rows(t);
  if (!rows || rows->type != CompactType::bf16) return {};
  const int64_t first = t.offset() / rows->columns;
  return compact_storage(t)->narrow().slice(0, first, first + rows->rows).view(t.shape());
}

std::string hash_elements(const Tensor& t) {
  const auto rows = compact_rows(t);
  require(t.device() == Device{}, "hash_elements: {}; wanted a tensor on the cpu", t);
  if (!rows) return hash_bytes(t.raw(), t.bytes());
  constexpr int64_t kElements = 1 << 20;
  const int64_t step = std::max<int64_t>(1, kElements / rows->columns);
  std::vector<float> piece(size_t(std::min(step, rows->rows) * rows->columns));
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  if (!state) throw MachineError("out of memory while hashing weights");
  XXH3_128bits_reset(state.get());
  const CompactStorage& storage = *compact_storage(t);
  const int64_t first = t.offset() / rows->columns;
  for (int64_t row = 0; row < rows->rows; row += step) {
    const int64_t count = std::min(step, rows->rows - row);
    storage.read(first + row, count, piece.data());
    XXH3_128bits_update(state.get(), piece.data(), size_t(count * rows->columns) * sizeof(float));
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

size_t stored_bytes(const Tensor& t) {
  const CompactStorage* storage = compact_storage(t);
  if (!storage) return t.bytes();
  const CompactRows& rows = *storage->rows();
  return size_t(double(t.numel()) * double(rows.row_bytes) / double(rows.columns));
}

int64_t widened_for_good() {
  return g_widened.load(std::memory_order_relaxed);
}

bool keeps_weights_compact() {
  const char* wanted = std::getenv("REVERIE_WEIGHTS");
  const std::string_view name = wanted == nullptr ? "" : wanted;
  if (name.empty() || name == "compact") return true;
  if (name == "f32") return false;
  throw ConfigError(
      fmt::format("environment variable REVERIE_WEIGHTS is '{}'; wanted compact or f32", name));
}
WeightsAsOn::WeightsAsOn(Device device) : counted_(device.kind != DeviceKind::cpu) {
  if (counted_) ++g_scopes_as_on_gpu;
}
WeightsAsOn::~WeightsAsOn() {
  if (counted_) --g_scopes_as_on_gpu;
}
bool as_on_gpu(Device device) {
  return device.kind != DeviceKind::cpu || g_scopes_as_on_gpu > 0;
}

}  // namespace reverie
