#pragma once
/// GGUF files (versions 2 and 3): metadata, and tensors that may be stored in blocks of few bits.

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace reverie {

/// Whether a file begins as one; false where it cannot be read.
bool is_gguf(const std::string& path);

/// The format's own numbers.
enum class GgufValueType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  text,
  array,
  u64,
  i64,
  f64
};

/// One metadata value, read from the mapped file when asked for; checked when the file was opened.
class GgufValue {
 public:
  GgufValueType type() const { return type_; }
  GgufValueType element_type() const { return element_type_; }  ///< of an array
  uint64_t count() const { return count_; }                     ///< elements of an array
  /// The elements of an array, which may be arrays themselves.
  std::vector<GgufValue> elements() const;
  std::string describe() const;  ///< "an array of 3 i32", "u32"

 private:
  friend class GgufReader;
  friend struct GgufFile;
  GgufValueType type_ = GgufValueType::u8, element_type_ = GgufValueType::u8;
  uint64_t count_ = 0;
  const char* bytes_ = nullptr;  ///< of the value; of an array's first element
  const char* end_ = nullptr;    ///< of the file
};

struct GgufTensor {
  std::string name;
  Shape shape;    ///< row-major: slowest dimension first, the reverse of the file's order
  uint32_t type;  ///< the format's number
  std::span<const std::byte> bytes;  ///< in the mapped file
};

/// How a tensor type is stored: `elements` of a row take `bytes`.
struct GgufLayout {
  std::string_view name;  ///< "Q4_K"
  uint64_t elements, bytes;
  bool readable;  ///< dequantize() knows it
};
const GgufLayout* gguf_layout(uint32_t type);  ///< null: no such type

struct GgufFile {
  std::string path;
  std::shared_ptr<Storage> mapped;
  std::map<std::string, GgufValue, std::less<>> metadata;
  std::vector<GgufTensor> tensors;  ///< in file order

  const GgufTensor& at(
      std::string_view name) const;  ///< DataError when absent, with the nearest name
  const GgufTensor* find(std::string_view name) const;  ///< null when absent
  const GgufValue* find_value(std::string_view key) const;

  /// Metadata by key. DataError naming the key and the type wanted when it is absent (and no
  /// fallback is given), of another kind or out of range. Any integer type serves as an integer, any
  /// number type as a number.
  int64_t integer(std::string_view key, std::optional<int64_t> fallback = {}) const;
  double number(std::string_view key, std::optional<double> fallback = {}) const;
  bool boolean(std::string_view key, std::optional<bool> fallback = {}) const;
  std::string text(std::string_view key, std::optional<std::string> fallback = {}) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  std::vector<std::string> texts(std::string_view key) const;

  /// f32, bit for bit what the Python package `gguf` gives, for types F32 F16 BF16 Q8_0 Q4_0 Q4_1
  /// Q5_0 Q5_1 Q4_K Q5_K Q6_K; F32 is a view of the mapped file. DataError naming the tensor and the
  /// type for others.
  Tensor dequantize(const GgufTensor&) const;
  Tensor dequantize(std::string_view name) const { return dequantize(at(name)); }
  /// The same elements, kept as the file has them (core/compact_weights.h) where that is a matrix of
  /// another type than F32.
  Tensor compact(const GgufTensor&) const;
};

/// Maps the file read-only. Everything is checked before anything is allocated for it: counts
/// against the bytes that are left, dimensions against overflow, offsets against alignment, the
/// file's end and each other, sizes against the type's blocks, names for being unique, nesting for
/// depth. DataError where the file is truncated or hostile, UserError when it cannot be read.
GgufFile read_gguf(const std::string& path);

}  // namespace reverie
