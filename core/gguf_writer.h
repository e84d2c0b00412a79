#pragma once
/// Writes GGUF files (version 3), tensors one at a time.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/gguf.h"
#include "core/tensor.h"

namespace reverie {

/// Tensor types that are written; the format's numbers.
enum class GgufTensorType : uint32_t { f32 = 0, f16 = 1, q8_0 = 8, bf16 = 30 };
/// "f32", "f16", "bf16", "q8_0" -> the type. ConfigError for another name.
GgufTensorType gguf_tensor_type(std::string_view name);

/// Stores `count` values (a multiple of the type's block) at `out`, bit for bit as the Python
/// package `gguf` does. With a = |x| and, for q8_0, a the largest |x| of x's block of 32, the stored
/// value differs from x by at most
///   f16   2^-11 a, at least 2^-25
///   bf16  2^-8 a, at least 2^-134
///   q8_0  d / 2 + 127 max(2^-11 d, 2^-25) with d = a / 127, that is 0.00443 a but for tiny blocks
/// (q8_0: x / d is rounded to an integer, at most 127, which costs d / 2; d is then rounded to half
/// precision. A factor of 1 + 2^-14 covers the f32 roundings in between.) UserError, naming
/// `tensor`, where a value is not finite or overflows half precision.
void gguf_quantize(GgufTensorType type, const float* in, int64_t count, std::byte* out,
                   std::string_view tensor);
/// That bound, from a.
double gguf_error_bound(GgufTensorType type, double a);

/// How far stored values are from those that were given.
struct GgufErrors {
  double largest = 0;        ///< |stored - x|
  double largest_share = 0;  ///< of that value's bound; never above 1
};
GgufErrors gguf_errors(GgufTensorType type, const float* given, int64_t count,
                       const std::byte* stored);

class GgufWriter {
 public:
  /// Metadata, in the order of these calls. A key is given once (InternalError).
  void integer(const std::string& key, uint32_t value);
  void number(const std::string& key, double value);  ///< stored as f32
  void boolean(const std::string& key, bool value);
  void text(const std::string& key, std::string_view value);
  void texts(const std::string& key, const std::vector<std::string>& values);
  void integers(const std::string& key, const std::vector<int32_t>& values);
  void numbers(const std::string& key, const std::vector<float>& values);
  /// A tensor of `shape`, whose values are asked for when its turn comes. Stored as `type` where its
  /// rows are whole blocks, else as f32.
  void tensor(const std::string& name, const Shape& shape, GgufTensorType type,
              std::function<Tensor()> read);

  struct Saved {
    int64_t tensors = 0, in_full = 0;  ///< tensors, and those of them that are stored as f32
    GgufErrors errors;                 ///< of the others
  };
  /// Writes the file atomically. UserError and MachineError as above.
  Saved save(const std::string& file) const;

 private:
  struct Planned {
    std::string name;
    Shape shape;
    GgufTensorType type;
    std::function<Tensor()> read;
    uint64_t bytes() const;
  };
  void begin(const std::string& key, GgufValueType type);
  void begin_array(const std::string& key, GgufValueType type, size_t count);

  std::string metadata_;
  uint64_t entries_ = 0;
  std::vector<std::string> keys_;
  std::vector<Planned> tensors_;
};

}  // namespace reverie
