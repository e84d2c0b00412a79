#include "core/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_set>

#include "core/compact_weights.h"
#include "core/config.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace reverie {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian, and read in place");

constexpr uint64_t kLongestHeader = 100'000'000;  // the format's own limit
constexpr size_t kAlignment = 64;
constexpr uint64_t kMostElements = uint64_t(1)
                                   << 56;  // no product or stride of sizes can overflow below this

struct DTypeName {
  DType dtype;
  std::string_view name;
};
constexpr DTypeName kDTypes[] = {{DType::f64, "F64"}, {DType::f32, "F32"}, {DType::bf16, "BF16"},
                                 {DType::f16, "F16"}, {DType::i64, "I64"}, {DType::i32, "I32"},
                                 {DType::u16, "U16"}, {DType::u8, "U8"}};

std::string_view file_name_of(DType dtype) {
  return std::find_if(std::begin(kDTypes), std::end(kDTypes),
                      [&](const DTypeName& d) { return d.dtype == dtype; })
      ->name;
}

struct Entry {
  std::string name;
  std::optional<DType> dtype;
  bool passed_over = false;  // of a type that is not read, and not asked for
  std::optional<Shape> shape;
  std::vector<uint64_t> offsets;  // [begin, end) in the data section
};

// Reads the header as a stream of events: nothing is built that the header has not paid for with
// its own bytes.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& file, const std::function<bool(const std::string&)>& unwanted)
      : file_(file), unwanted_(unwanted) {}
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool null() override { fail("null"); }
  bool boolean(bool) override { fail("true or false"); }
  bool number_integer(number_integer_t value) override {
    fail(fmt::format("the negative number {}", value));
  }
  bool number_float(number_float_t, const string_t& text) override {
    fail(fmt::format("the number {}", text));
  }
  bool binary(binary_t&) override { fail("binary data"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape) {
      if (value > kMostElements) fail(fmt::format("the size {}", value));
      if (entries.back().shape->rank() == kMaxRank)
        unsupported(fmt::format("more than {} dimensions", kMaxRank));
      entries.back().shape->push_back(int64_t(value));
    } else if (place_ == Place::offsets) {
      if (entries.back().offsets.size() == 2) fail("a third number");
      entries.back().offsets.push_back(value);
    } else {
      fail(fmt::format("the number {}", value));
    }
    return true;
  }
  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      metadata[key_] = value;
    } else if (place_ == Place::tensor && key_ == "dtype") {
      for (const DTypeName& known : kDTypes)
        if (known.name == value) entries.back().dtype = known.dtype;
      entries.back().passed_over = unwanted_ && unwanted_(entries.back().name);
      if (!entries.back().dtype && !entries.back().passed_over)
        unsupported(
            fmt::format("dtype \"{}\", wanted one of F64 F32 BF16 F16 I64 I32 U16 U8", value));
    } else {
      fail(fmt::format("the string \"{}\"", value));
    }
    return true;
  }
  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::header;
    } else if (place_ == Place::header) {
      place_ = key_ == "__metadata__" ? Place::metadata : Place::tensor;
      if (place_ == Place::tensor) entries.emplace_back().name = key_;
      keys_.clear();
    } else {
      fail("an object");
    }
    return true;
  }
  bool end_object() override {
    if (place_ == Place::tensor) {
      const Entry& e = entries.back();
      key_.clear();
      if ((!e.dtype && !e.passed_over) || !e.shape || e.offsets.size() != 2)
        fail("no dtype, shape or data_offsets of two numbers");
    }
    place_ = place_ == Place::header ? Place::outside : Place::header;
    return true;
  }
  bool start_array(size_t) override {
    if (place_ == Place::tensor && key_ == "shape") {
      entries.back().shape.emplace();
      place_ = Place::shape;
    } else if (place_ == Place::tensor && key_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      fail("an array");
    }
    return true;
  }
  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }
  bool key(string_t& name) override {
    key_ = name;
    if (!(place_ == Place::header ? names_ : keys_).insert(name).second) fail("the same key twice");
    if (place_ == Place::tensor && name != "dtype" && name != "shape" && name != "data_offsets")
      fail("an unknown key");
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    throw DataError(fmt::format(
        "{}: the header is not valid JSON at byte {}; the file is truncated, altered or no "
        "safetensors file",
        file_, 8 + position));
  }

 private:
  enum class Place { outside, header, metadata, tensor, shape, offsets };

  [[noreturn]] void fail(const std::string& what) const {
    std::string where = "the header";
    if (place_ == Place::header)
      where = fmt::format("the header's \"{}\"", key_);
    else if (place_ == Place::metadata)
      where = fmt::format("the metadata \"{}\"", key_);
    else if (place_ != Place::outside)
      where = fmt::format("tensor \"{}\" {}", entries.back().name, key_);
    throw DataError(fmt::format("{}: {} holds {}; the file is altered or no safetensors file",
                                file_, where, what));
  }

  // Not this program's to read, though the file may be sound.
  [[noreturn]] void unsupported(const std::string& what) const {
    throw DataError(fmt::format("{}: tensor \"{}\" is not supported: it has {}", file_,
                                entries.back().name, what));
  }

  const std::string& file_;
  const std::function<bool(const std::string&)>& unwanted_;
  Place place_ = Place::outside;
  std::string key_;
  std::unordered_set<std::string> names_, keys_;
};

// The data section must be covered exactly: neither holes nor overlaps nor bytes beyond.
void check_offsets(const std::vector<Entry>& entries, uint64_t data_bytes,
                   const std::string& file) {
  std::vector<const Entry*> in_order;
  for (const Entry& e : entries) {
    const auto refuse = [&](const std::string& why) {
      throw DataError(fmt::format("{}: tensor \"{}\" {}{} at bytes {}..{}: {}", file, e.name,
                                  e.dtype ? name_of(*e.dtype) : std::string_view(), e.shape->str(),
                                  e.offsets[0], e.offsets[1], why));
    };
    // Zero sizes count as one, because strides are products of the sizes beside them.
    uint64_t elements = 1, bound = 1;
    for (int64_t size : *e.shape) {
      elements *= uint64_t(size);
      if (__builtin_mul_overflow(bound, uint64_t(std::max<int64_t>(size, 1)), &bound) ||
          bound > kMostElements)
        refuse("the shape has too many elements");
    }
    if (e.offsets[0] > e.offsets[1]) refuse("the offsets run backwards");
    if (e.offsets[1] > data_bytes)
      refuse(fmt::format("the file holds only {} bytes of data", data_bytes));
    if (e.dtype && e.offsets[1] - e.offsets[0] != elements * size_of(*e.dtype))
      refuse(fmt::format("the shape needs {} bytes", elements * size_of(*e.dtype)));
    in_order.push_back(&e);
  }
  std::sort(in_order.begin(), in_order.end(),
            [](const Entry* a, const Entry* b) { return a->offsets < b->offsets; });
  uint64_t end = 0;
  for (const Entry* e : in_order) {
    if (e->offsets[0] != end)
      throw DataError(fmt::format(
          "{}: tensor \"{}\" begins at byte {} of the data, wanted {}: tensors {}", file, e->name,
          e->offsets[0], end, e->offsets[0] < end ? "overlap" : "leave a hole"));
    end = e->offsets[1];
  }
  if (end != data_bytes)
    throw DataError(
        fmt::format("{}: {} bytes of data, but the tensors end at {}", file, data_bytes, end));
}

}  // namespace

const Tensor* SafetensorsFile::find(const std::string& name) const {
  for (const auto& [key, tensor] : tensors)
    if (key == name) return &tensor;
  return nullptr;
}

const Tensor& SafetensorsFile::at(const std::string& name) const {
  if (const Tensor* found = find(name)) return *found;
  std::vector<std::string> names;
  for (const auto& [key, tensor] : tensors) names.push_back(key);
  const auto near = nearest_name(name, names);
  throw DataError(fmt::format("no tensor \"{}\" among the {} of the file{}", name, names.size(),
                              near ? fmt::format("; the nearest name is \"{}\"", *near) : ""));
}

SafetensorsFile read_safetensors(const std::string& file,
                                 const std::function<bool(const std::string&)>& unwanted) {
  const std::shared_ptr<Storage> mapped = map_file(file);
  const char* bytes = static_cast<const char*>(mapped->data());
  if (mapped->bytes() < 8)
    throw DataError(
        fmt::format("{}: {} bytes are too few for a safetensors file", file, mapped->bytes()));
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes, 8);
  if (header_bytes > kLongestHeader || header_bytes > mapped->bytes() - 8)
    throw DataError(fmt::format(
        "{}: a header of {} bytes, but the file has {} in all and a header at most {}; the file "
        "is truncated or no safetensors file",
        file, header_bytes, mapped->bytes(), kLongestHeader));
  const std::string_view header(bytes + 8, header_bytes);
  if (!header.starts_with('{'))
    throw DataError(fmt::format("{}: the header does not begin with '{{'", file));

  HeaderReader reader(file, unwanted);
  nlohmann::json::sax_parse(header.begin(), header.end(), &reader);
  const size_t data_begin = 8 + header_bytes;
  check_offsets(reader.entries, mapped->bytes() - data_begin, file);

  SafetensorsFile result;
  result.metadata = std::move(reader.metadata);
  for (const Entry& e : reader.entries) {
    if (e.passed_over) continue;
    const size_t begin = data_begin + e.offsets[0], element = size_of(*e.dtype);
    Tensor tensor;
    if (begin % element == 0) {
      tensor = Tensor::over(mapped, *e.shape, *e.dtype, int64_t(begin / element));
    } else {  // another program's file, packed without regard to alignment
      tensor = Tensor::empty(*e.shape, *e.dtype);
      if (tensor.bytes() > 0) std::memcpy(tensor.mutable_raw(), bytes + begin, tensor.bytes());
    }
    result.tensors.emplace_back(e.name, std::move(tensor));
  }
  return result;
}

void write_safetensors(const std::string& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  // Wide elements first, so that each tensor is aligned to its element without holes; the header
  // keeps the given order.
  std::vector<size_t> order(tensors.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (const auto& [name, tensor] : tensors)
    require(tensor.defined() && name != "__metadata__", "cannot write tensor \"{}\" ({}) to {}",
            name, tensor.str(), file);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return size_of(tensors[a].second.dtype()) > size_of(tensors[b].second.dtype());
  });
  std::vector<uint64_t> begins(tensors.size());
  uint64_t end = 0;
  for (size_t i : order) {
    begins[i] = end;
    end += tensors[i].second.bytes();
  }

  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  auto& members = header.get_ref<Json::object_t&>();
  std::unordered_set<std::string> names;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, tensor] = tensors[i];
    require(names.insert(name).second, "cannot write {}: two tensors are called \"{}\"", file,
            name);
    members.emplace_back(
        name, Json{{"dtype", file_name_of(tensor.dtype())},
                   {"shape", std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end())},
                   {"data_offsets", {begins[i], begins[i] + tensor.bytes()}}});
  }
  std::string text;
  try {
    text = json_text(header);
  } catch (const Json::exception&) {
    throw UserError(
        fmt::format("cannot write {}: a tensor name or metadata is not valid UTF-8", file));
  }
  text.append((kAlignment - (8 + text.size()) % kAlignment) % kAlignment, ' ');
  require(text.size() <= kLongestHeader, "cannot write {}: its header would have {} bytes", file,
          text.size());

  AtomicFile output(file);
  const uint64_t header_bytes = text.size();
  output.write(&header_bytes, 8);
  output.write(text.data(), text.size());
  for (size_t i : order) {
    const Tensor plain = widened(tensors[i].second.to(Device{}).contiguous());
    if (plain.bytes() > 0) output.write(plain.raw(), plain.bytes());
  }
  output.commit();
}

}  // namespace reverie
