#include "core/gguf.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <unordered_set>

#include "core/config.h"
#include "core/error.h"
#include "core/files.h"

namespace reverie {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF files are read in place");

constexpr uint64_t kLongestName = 65535;  // the format's own limit for keys
constexpr uint32_t kMostDimensions = 4;   // the format's own
constexpr int kDeepestNesting = 4;
constexpr uint64_t kMostElements = uint64_t(1) << 56;  // no size in bytes overflows below this
constexpr uint64_t kDefaultAlignment = 32;
// The fewest bytes of a metadata entry (key length, type, one byte) and of a tensor's (name length,
// dimensions, type, offset): what bounds their counts.
constexpr uint64_t kLeastEntry = 8 + 4 + 1, kLeastTensor = 8 + 4 + 4 + 8;

constexpr std::string_view kTypeNames[] = {"u8",   "i8",   "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "text", "array", "u64", "i64", "f64"};
constexpr uint64_t kTypeBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};  // 0: varies

std::string_view name_of(GgufValueType type) {
  return kTypeNames[size_t(type)];
}
uint64_t size_of(GgufValueType type) {
  return kTypeBytes[size_t(type)];
}

template <class T>
T load(const char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

bool is_integer(GgufValueType type) {
  using enum GgufValueType;
  return type != f32 && type != f64 && type != boolean && type != text && type != array;
}

// The integer at `bytes`; nullopt for a u64 beyond i64.
std::optional<int64_t> load_integer(GgufValueType type, const char* bytes) {
  switch (type) {
    case GgufValueType::u8:
      return load<uint8_t>(bytes);
    case GgufValueType::i8:
      return load<int8_t>(bytes);
    case GgufValueType::u16:
      return load<uint16_t>(bytes);
    case GgufValueType::i16:
      return load<int16_t>(bytes);
    case GgufValueType::u32:
      return load<uint32_t>(bytes);
    case GgufValueType::i32:
      return load<int32_t>(bytes);
    case GgufValueType::i64:
      return load<int64_t>(bytes);
    default:
      if (const auto value = load<uint64_t>(bytes); value <= uint64_t(INT64_MAX))
        return int64_t(value);
      return std::nullopt;
  }
}

double load_number(GgufValueType type, const char* bytes) {
  if (type == GgufValueType::f32) return load<float>(bytes);
  if (type == GgufValueType::f64) return load<double>(bytes);
  if (type == GgufValueType::u64) return double(load<uint64_t>(bytes));
  return double(*load_integer(type, bytes));
}

}  // namespace

// A cursor over the mapped file that cannot pass its end.
class GgufReader {
 public:
  explicit GgufReader(const std::string& path) {
    file_.path = path;
    file_.mapped = map_file(path);
    at_ = begin_ = static_cast<const char*>(file_.mapped->data());
    end_ = begin_ + file_.mapped->bytes();
  }

  GgufFile read() {
    what_ = "the header";
    if (left() < 4 || std::memcmp(at_, "GGUF", 4) != 0)
      fail("is no GGUF file: it does not begin with 'GGUF'");
    at_ += 4;
    const auto version = take<uint32_t>();
    if (version != 2 && version != 3)
      fail(fmt::format("is of version {}; wanted 2 or 3{}", version,
                       version << 16 >> 16 == 0 ? " (a big-endian file is not supported)" : ""));
    const auto tensor_count = take<uint64_t>(), entry_count = take<uint64_t>();
    check_count(entry_count, kLeastEntry, "metadata entries");
    check_count(tensor_count, kLeastTensor, "tensors");
    for (uint64_t i = 0; i < entry_count; ++i) read_entry(i);
    check_count(tensor_count, kLeastTensor, "tensors");
    std::vector<Range> ranges;
    for (uint64_t i = 0; i < tensor_count; ++i) ranges.push_back(read_tensor(i));
    place_tensors(ranges);
    return std::move(file_);
  }

  // The value of `type` at the cursor, which is moved behind it.
  GgufValue take_value(GgufValueType type, int depth) {
    GgufValue value;
    value.type_ = type;
    value.end_ = end_;
    if (type == GgufValueType::array) {
      if (depth == kDeepestNesting)
        fail(fmt::format("nests arrays deeper than {}", kDeepestNesting));
      value.element_type_ = take_type();
      value.count_ = take<uint64_t>();
      check_count(value.count_, least_bytes(value.element_type_), "elements");
      value.bytes_ = at_;
      if (const uint64_t bytes = size_of(value.element_type_))
        skip(value.count_ * bytes);
      else
        for (uint64_t i = 0; i < value.count_; ++i) take_value(value.element_type_, depth + 1);
      if (value.element_type_ == GgufValueType::boolean) check_booleans(value.bytes_, value.count_);
      return value;
    }
    value.bytes_ = at_;
    if (type == GgufValueType::text) {
      const auto length = take<uint64_t>();
      check_count(length, 1, "bytes of text");
      at_ += length;
    } else {
      skip(size_of(type));
      if (type == GgufValueType::boolean) check_booleans(value.bytes_, 1);
    }
    return value;
  }

  // Over an array's bytes, which were checked when the file was opened.
  explicit GgufReader(const GgufValue& array)
      : begin_(array.bytes_), at_(array.bytes_), end_(array.end_) {}

 private:
  struct Range {  // in the data section
    uint64_t offset, bytes;
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(fmt::format("{}: {} {}; at byte {} of {}", file_.path, what_, what,
                                at_ - begin_, end_ - begin_));
  }
  uint64_t left() const { return uint64_t(end_ - at_); }
  void skip(uint64_t bytes) {
    if (bytes > left())
      fail(
          fmt::format("needs {} more bytes and {} are left: the file is truncated", bytes, left()));
    at_ += bytes;
  }
  template <class T>
  T take() {
    const char* from = at_;
    skip(sizeof(T));
    return load<T>(from);
  }
  void check_count(uint64_t count, uint64_t least_bytes_each, const char* things) const {
    if (count > left() / least_bytes_each)
      fail(
          fmt::format("names {} {}, more than the remaining {} bytes can hold: the file is "
                      "truncated or altered",
                      count, things, left()));
  }
  static uint64_t least_bytes(GgufValueType type) {
    if (type == GgufValueType::text) return 8;
    return type == GgufValueType::array ? 12 : size_of(type);
  }
  void check_booleans(const char* bytes, uint64_t count) const {
    for (uint64_t i = 0; i < count; ++i)
      if (uint8_t(bytes[i]) > 1) fail(fmt::format("holds the truth value {}", uint8_t(bytes[i])));
  }
  std::string take_name(const char* things, uint64_t index) {
    what_ = fmt::format("{} {}", things, index);
    const auto length = take<uint64_t>();
    if (length > kLongestName)
      fail(fmt::format("has a name of {} bytes; at most {} are allowed", length, kLongestName));
    const char* from = at_;
    skip(length);
    std::string name(from, length);
    what_ = fmt::format("{} \"{}\"", things, name);
    return name;
  }
  GgufValueType take_type() {
    const auto type = take<uint32_t>();
    if (type >= std::size(kTypeNames)) fail(fmt::format("has the unknown value type {}", type));
    return GgufValueType(type);
  }

  void read_entry(uint64_t index) {
    const std::string key = take_name("metadata", index);
    if (key.empty()) fail("has no key");
    const GgufValueType type = take_type();
    const GgufValue value = take_value(type, 0);
    if (!file_.metadata.emplace(key, value).second) fail("is given twice");
  }

  Range read_tensor(uint64_t index) {
    GgufTensor tensor;
    tensor.name = take_name("tensor", index);
    if (tensor.name.empty()) fail("has no name");
    if (!names_.insert(tensor.name).second) fail("is given twice");
    const auto dimensions = take<uint32_t>();
    if (dimensions > kMostDimensions)
      fail(fmt::format("has {} dimensions; at most {} are allowed", dimensions, kMostDimensions));
    uint64_t sizes[kMostDimensions], bound = 1, elements = 1;
    for (uint32_t i = 0; i < dimensions; ++i) {
      sizes[i] = take<uint64_t>();
      // Zero sizes count as one here, because strides are products of the sizes beside them.
      if (__builtin_mul_overflow(bound, std::max<uint64_t>(sizes[i], 1), &bound) ||
          bound > kMostElements)
        fail("has more elements than can be counted");
      elements *= sizes[i];
    }
    for (uint32_t i = dimensions; i-- > 0;) tensor.shape.push_back(int64_t(sizes[i]));
    tensor.type = take<uint32_t>();
    const GgufLayout* layout = gguf_layout(tensor.type);
    if (!layout) fail(fmt::format("has the unknown tensor type {}", tensor.type));
    const uint64_t row = dimensions == 0 ? 1 : sizes[0];
    if (row % layout->elements != 0)
      fail(fmt::format("of type {} has rows of {}, which is not a multiple of the block size {}",
                       layout->name, row, layout->elements));
    file_.tensors.push_back(std::move(tensor));
    // Below 2^56 elements of at most 8 bytes: no overflow.
    return {take<uint64_t>(), elements / layout->elements * layout->bytes};
  }

  void place_tensors(const std::vector<Range>& ranges) {
    what_ = "metadata \"general.alignment\"";
    const auto alignment = uint64_t(file_.integer("general.alignment", int64_t(kDefaultAlignment)));
    if (alignment == 0 || alignment % 8 != 0 || alignment > (1 << 20))
      fail(fmt::format("is {}; wanted a multiple of 8", alignment));
    const auto header = uint64_t(at_ - begin_);
    const uint64_t data = (header + alignment - 1) / alignment * alignment;
    const uint64_t available = uint64_t(end_ - begin_) > data ? uint64_t(end_ - begin_) - data : 0;
    std::vector<std::pair<uint64_t, size_t>> in_order;
    for (size_t i = 0; i < ranges.size(); ++i) {
      GgufTensor& tensor = file_.tensors[i];
      const auto [offset, bytes] = ranges[i];
      what_ = fmt::format("tensor \"{}\"", tensor.name);
      if (offset % alignment != 0)
        fail(fmt::format("begins at {}, which is not aligned to {}", offset, alignment));
      if (bytes > available || offset > available - bytes)
        fail(
            fmt::format("has {} bytes at {} of the data section, which has {}: the file is "
                        "truncated or altered",
                        bytes, offset, available));
      // begin_ + data may lie behind the end, where no tensor has bytes.
      if (bytes == 0) continue;
      tensor.bytes = {reinterpret_cast<const std::byte*>(begin_ + data + offset), bytes};
      in_order.emplace_back(offset, i);
    }
    std::sort(in_order.begin(), in_order.end());
    for (size_t i = 1; i < in_order.size(); ++i) {
      const GgufTensor& before = file_.tensors[in_order[i - 1].second];
      what_ = fmt::format("tensor \"{}\"", file_.tensors[in_order[i].second].name);
      if (in_order[i - 1].first + before.bytes.size() > in_order[i].first)
        fail(fmt::format("overlaps tensor \"{}\"", before.name));
    }
  }

  GgufFile file_;
  const char *begin_, *at_, *end_;
  std::string what_ = "a value";  // that is being read, for messages
  std::unordered_set<std::string> names_;
};

GgufFile read_gguf(const std::string& path) {
  return GgufReader(path).read();
}

// ---- values -------------------------------------------------------------------------------------

std::vector<GgufValue> GgufValue::elements() const {
  if (type_ != GgufValueType::array) throw InternalError("elements of a value that is no array");
  GgufReader reader(*this);
  std::vector<GgufValue> values;
  for (uint64_t i = 0; i < count_; ++i) values.push_back(reader.take_value(element_type_, 0));
  return values;
}

std::string GgufValue::describe() const {
  if (type_ != GgufValueType::array) return std::string(name_of(type_));
  return fmt::format("an array of {} {}", count_, name_of(element_type_));
}

namespace {

[[noreturn]] void refuse(const GgufFile& file, std::string_view key, std::string_view wanted,
                         const std::string& got) {
  throw DataError(
      fmt::format("{}: metadata \"{}\": wanted {}, got {}", file.path, key, wanted, got));
}

// The value under `key`, which passes `fits`; null where it is absent and may be.
template <class F>
const GgufValue* look_up(const GgufFile& file, std::string_view key, std::string_view wanted,
                         bool optional, F&& fits) {
  const GgufValue* value = file.find_value(key);
  if (!value) {
    if (optional) return nullptr;
    std::vector<std::string> keys;
    for (const auto& [name, unused] : file.metadata) keys.push_back(name);
    const auto near = nearest_name(std::string(key), keys);
    refuse(file, key, wanted,
           near ? fmt::format("nothing; the nearest key is \"{}\"", *near) : "nothing");
  }
  if (!fits(*value)) refuse(file, key, wanted, value->describe());
  return value;
}

}  // namespace

const GgufValue* GgufFile::find_value(std::string_view key) const {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

int64_t GgufFile::integer(std::string_view key, std::optional<int64_t> fallback) const {
  const GgufValue* value = look_up(*this, key, "an integer", fallback.has_value(),
                                   [](const GgufValue& v) { return is_integer(v.type_); });
  if (!value) return *fallback;
  const auto integer = load_integer(value->type_, value->bytes_);
  if (!integer) refuse(*this, key, "an integer below 2^63", "a larger one");
  return *integer;
}

double GgufFile::number(std::string_view key, std::optional<double> fallback) const {
  const GgufValue* value =
      look_up(*this, key, "a number", fallback.has_value(), [](const GgufValue& v) {
        return is_integer(v.type_) || v.type_ == GgufValueType::f32 ||
               v.type_ == GgufValueType::f64;
      });
  return value ? load_number(value->type_, value->bytes_) : *fallback;
}

bool GgufFile::boolean(std::string_view key, std::optional<bool> fallback) const {
  const GgufValue* value =
      look_up(*this, key, "true or false", fallback.has_value(),
              [](const GgufValue& v) { return v.type_ == GgufValueType::boolean; });
  return value ? *value->bytes_ != 0 : *fallback;
}

std::string GgufFile::text(std::string_view key, std::optional<std::string> fallback) const {
  const GgufValue* value =
      look_up(*this, key, "a text", fallback.has_value(),
              [](const GgufValue& v) { return v.type_ == GgufValueType::text; });
  return value ? std::string(value->bytes_ + 8, load<uint64_t>(value->bytes_)) : *fallback;
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
  const GgufValue* value =
      look_up(*this, key, "an array of integers", false, [](const GgufValue& v) {
        return v.type_ == GgufValueType::array && is_integer(v.element_type_);
      });
  std::vector<int64_t> integers;
  for (uint64_t i = 0; i < value->count_; ++i) {
    const auto integer =
        load_integer(value->element_type_, value->bytes_ + i * size_of(value->element_type_));
    if (!integer) refuse(*this, key, "integers below 2^63", fmt::format("a larger one at {}", i));
    integers.push_back(*integer);
  }
  return integers;
}

std::vector<double> GgufFile::numbers(std::string_view key) const {
  const GgufValue* value =
      look_up(*this, key, "an array of numbers", false, [](const GgufValue& v) {
        return v.type_ == GgufValueType::array &&
               (is_integer(v.element_type_) || v.element_type_ == GgufValueType::f32 ||
                v.element_type_ == GgufValueType::f64);
      });
  std::vector<double> numbers;
  for (uint64_t i = 0; i < value->count_; ++i)
    numbers.push_back(
        load_number(value->element_type_, value->bytes_ + i * size_of(value->element_type_)));
  return numbers;
}

std::vector<std::string> GgufFile::texts(std::string_view key) const {
  const GgufValue* value = look_up(*this, key, "an array of texts", false, [](const GgufValue& v) {
    return v.type_ == GgufValueType::array && v.element_type_ == GgufValueType::text;
  });
  std::vector<std::string> texts;
  const char* at = value->bytes_;
  for (uint64_t i = 0; i < value->count_; ++i) {
    const auto length = load<uint64_t>(at);
    texts.emplace_back(at + 8, length);
    at += 8 + length;
  }
  return texts;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  for (const GgufTensor& tensor : tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

const GgufTensor& GgufFile::at(std::string_view name) const {
  if (const GgufTensor* found = find(name)) return *found;
  std::vector<std::string> names;
  for (const GgufTensor& tensor : tensors) names.push_back(tensor.name);
  const auto near = nearest_name(std::string(name), names);
  throw DataError(fmt::format("{}: no tensor \"{}\" among the {} of the file{}", path, name,
                              names.size(),
                              near ? fmt::format("; the nearest name is \"{}\"", *near) : ""));
}

bool is_gguf(const std::string& path) {
  char magic[4] = {};
  std::ifstream file(path, std::ios::binary);
  return file.read(magic, sizeof magic) && std::string_view(magic, sizeof magic) == "GGUF";
}

}  // namespace reverie
