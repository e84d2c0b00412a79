#include "core/gguf_writer.h"

#include <algorithm>
#include <cmath>

#include "core/compact_weights.h"
#include "core/error.h"
#include "core/files.h"

namespace reverie {
namespace {

constexpr uint64_t kAlignment = 32;  // the format's default

template <class T>
void put(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_text(std::string& to, std::string_view text) {
  put(to, uint64_t(text.size()));
  to += text;
}
uint64_t aligned(uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

void GgufWriter::begin(const std::string& key, GgufValueType type) {
  if (std::find(keys_.begin(), keys_.end(), key) != keys_.end())
    throw InternalError(fmt::format("GGUF metadata \"{}\" is given twice", key));
  keys_.push_back(key);
  put_text(metadata_, key);
  put(metadata_, uint32_t(type));
  ++entries_;
}
void GgufWriter::begin_array(const std::string& key, GgufValueType type, size_t count) {
  begin(key, GgufValueType::array);
  put(metadata_, uint32_t(type));
  put(metadata_, uint64_t(count));
}

void GgufWriter::integer(const std::string& key, uint32_t value) {
  begin(key, GgufValueType::u32);
  put(metadata_, value);
}
void GgufWriter::number(const std::string& key, double value) {
  begin(key, GgufValueType::f32);
  put(metadata_, float(value));
}
void GgufWriter::boolean(const std::string& key, bool value) {
  begin(key, GgufValueType::boolean);
  put(metadata_, uint8_t(value));
}
void GgufWriter::text(const std::string& key, std::string_view value) {
  begin(key, GgufValueType::text);
  put_text(metadata_, value);
}
void GgufWriter::texts(const std::string& key, const std::vector<std::string>& values) {
  begin_array(key, GgufValueType::text, values.size());
  for (const std::string& value : values) put_text(metadata_, value);
}
void GgufWriter::integers(const std::string& key, const std::vector<int32_t>& values) {
  begin_array(key, GgufValueType::i32, values.size());
  for (const int32_t value : values) put(metadata_, value);
}
void GgufWriter::numbers(const std::string& key, const std::vector<float>& values) {
  begin_array(key, GgufValueType::f32, values.size());
  for (const float value : values) put(metadata_, value);
}

uint64_t GgufWriter::Planned::bytes() const {
  const GgufLayout& layout = *gguf_layout(uint32_t(type));
  return uint64_t(shape.numel()) / layout.elements * layout.bytes;
}

void GgufWriter::tensor(const std::string& name, const Shape& shape, GgufTensorType type,
                        std::function<Tensor()> read) {
  const uint64_t row = shape.rank() == 0 ? 1 : uint64_t(shape[shape.rank() - 1]);
  if (row % gguf_layout(uint32_t(type))->elements != 0) type = GgufTensorType::f32;
  tensors_.push_back({name, shape, type, std::move(read)});
}

GgufWriter::Saved GgufWriter::save(const std::string& file) const {
  std::string head = "GGUF";
  put(head, uint32_t(3));
  put(head, uint64_t(tensors_.size()));
  put(head, entries_);
  head += metadata_;
  uint64_t at = 0;
  for (const Planned& tensor : tensors_) {
    put_text(head, tensor.name);
    put(head, uint32_t(tensor.shape.rank()));
    for (int d = int(tensor.shape.rank()); d-- > 0;) put(head, uint64_t(tensor.shape[d]));
    put(head, uint32_t(tensor.type));
    put(head, at);
    at += aligned(tensor.bytes());
  }
  head.resize(aligned(head.size()));

  Saved saved;
  AtomicFile out(file);
  out.write(head.data(), head.size());
  for (const Planned& tensor : tensors_) {
    const Tensor values = widened(tensor.read().to(Device{}).to(DType::f32).contiguous());
    if (values.shape() != tensor.shape)
      throw InternalError(fmt::format("tensor {} is {}, said to be {}", tensor.name,
                                      values.shape().str(), tensor.shape.str()));
    std::vector<std::byte> stored(aligned(tensor.bytes()));
    gguf_quantize(tensor.type, values.data<float>(), values.numel(), stored.data(), tensor.name);
    out.write(stored.data(), stored.size());
    ++saved.tensors;
    if (tensor.type == GgufTensorType::f32) {
      ++saved.in_full;
      continue;
    }
    const GgufErrors errors =
        gguf_errors(tensor.type, values.data<float>(), values.numel(), stored.data());
    saved.errors.largest = std::max(saved.errors.largest, errors.largest);
    saved.errors.largest_share = std::max(saved.errors.largest_share, errors.largest_share);
  }
  out.commit();
  return saved;
}

}  // namespace reverie
