#include "trainers/monitoring/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <climits>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/error.h"
#include "core/json.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0x82f63b78u : 0);
    table[i] = value;
  }
  return table;
}();

// Protobuf's wire types, and the field numbers of the messages we write.
enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
namespace event {
constexpr int wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7;
}
namespace session_log {
constexpr int status = 1, start = 1;
}
namespace summary {
constexpr int value = 1;
}
namespace value {
constexpr int tag = 1, simple_value = 2, tensor = 8, metadata = 9;
}
namespace metadata {
constexpr int plugin_data = 1, plugin_name = 1, content = 2, data_class = 4, data_class_tensor = 2;
}
namespace tensor_proto {
constexpr int dtype = 1, shape = 2, float_val = 5, string_val = 8, dt_float = 1, dt_string = 7,
              shape_dim = 2, dim_size = 1;
}
namespace hparams_proto {
constexpr int session_start = 3, session_end = 4, hparams = 1, group_name = 4, start_seconds = 5,
              status = 1, success = 1, end_seconds = 2, map_key = 1, map_value = 2;
}
namespace any_value {  // google.protobuf.Value
constexpr int number = 2, text = 3, boolean = 4;
}
namespace layout_proto {
constexpr int category = 2, title = 1, chart = 2, multiline = 2, tag = 1;
}

void put_varint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += char(v | 0x80);
  out += char(v);
}
template <class T>
void put_little_endian(std::string& out, T v) {
  for (size_t i = 0; i < sizeof v; ++i) out += char(v >> (8 * i));
}
void put_key(std::string& out, int field, WireType type) {
  put_varint(out, uint64_t(field) << 3 | type);
}
void put_integer(std::string& out, int field, int64_t v) {
  put_key(out, field, kVarint);
  put_varint(out, uint64_t(v));
}
void put_bytes(std::string& out, int field, std::string_view v) {
  put_key(out, field, kBytes);
  put_varint(out, v.size());
  out += v;
}

void put_double(std::string& out, int field, double v) {
  put_key(out, field, kFixed64);
  put_little_endian(out, std::bit_cast<uint64_t>(v));
}

// One entry of a map<string, google.protobuf.Value> for every value in `json`.
void put_hparams(std::string& out, const Json& json, const std::string& path) {
  if ((json.is_object() || json.is_array()) && !json.empty()) {
    size_t index = 0;
    for (const auto& [key, value] : json.items()) {
      const std::string name = json.is_array() ? std::to_string(index++) : key;
      put_hparams(out, value, path.empty() ? name : path + "." + name);
    }
    return;
  }
  std::string value, entry;
  if (json.is_number())
    put_double(value, any_value::number, json.get<double>());
  else if (json.is_boolean())
    put_integer(value, any_value::boolean, json.get<bool>());
  else
    put_bytes(value, any_value::text, json.is_string() ? json.get<std::string>() : json_text(json));
  put_bytes(entry, hparams_proto::map_key, path);
  put_bytes(entry, hparams_proto::map_value, value);
  put_bytes(out, hparams_proto::hparams, entry);
}

std::string host_name() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] ? name : "localhost";
}

double wall_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Four blanks before every line: a Markdown code block, in which nothing is markup.
std::string as_code_block(std::string_view text) {
  std::string out = "    ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "    ";
  }
  return out;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ uint8_t(c)) & 0xff];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

std::string tfrecord_frame(std::string_view data) {
  std::string out;
  put_little_endian(out, uint64_t(data.size()));
  put_little_endian(out, masked_crc32c(out));
  out += data;
  put_little_endian(out, masked_crc32c(data));
  return out;
}

TensorBoardWriter::TensorBoardWriter(const std::string& directory,
                                     std::optional<int64_t> resume_step) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) throw MachineError(fmt::format("cannot make {}: {}", directory, error.message()));
  const bool is_first =
      std::filesystem::directory_iterator(directory) == std::filesystem::directory_iterator();
  // TensorBoard reads the files of a directory in the order of their names.
  static std::atomic<int> counter{0};
  file_ = fmt::format("{}/events.out.tfevents.{:010}.{}.{}.{:06}", directory,
                      int64_t(wall_seconds()), host_name(), ::getpid(), counter++);
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0)
    throw MachineError(
        fmt::format("cannot create {}: {}", file_, std::generic_category().message(errno)));
  write_event(0, event::file_version, "brain.Event:2");
  if (resume_step || !is_first) {
    std::string message;
    put_integer(message, session_log::status, session_log::start);
    write_event(resume_step.value_or(0) + 1, event::session_log, message);
  }
}

TensorBoardWriter::~TensorBoardWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void TensorBoardWriter::scalar(std::string_view tag, double number, int64_t step) {
  std::string entry, message;
  put_bytes(entry, value::tag, tag);
  put_key(entry, value::simple_value, kFixed32);
  put_little_endian(entry, std::bit_cast<uint32_t>(float(number)));
  put_bytes(message, summary::value, entry);
  write_event(step, event::summary, message);
}

void TensorBoardWriter::text(std::string_view tag, std::string_view text, int64_t step) {
  std::string dim, shape, tensor, plugin, meta, entry, message;
  put_integer(dim, tensor_proto::dim_size, 1);
  put_bytes(shape, tensor_proto::shape_dim, dim);
  put_integer(tensor, tensor_proto::dtype, tensor_proto::dt_string);
  put_bytes(tensor, tensor_proto::shape, shape);
  put_bytes(tensor, tensor_proto::string_val, as_code_block(valid_utf8(text)));
  put_bytes(plugin, metadata::plugin_name, "text");
  put_bytes(meta, metadata::plugin_data, plugin);
  put_bytes(entry, value::tag, tag);
  put_bytes(entry, value::tensor, tensor);
  put_bytes(entry, value::metadata, meta);
  put_bytes(message, summary::value, entry);
  write_event(step, event::summary, message);
}

void TensorBoardWriter::hparams(const Json& config, std::string_view run_name) {
  std::string start, content;
  put_hparams(start, config, "");
  put_bytes(start, hparams_proto::group_name, valid_utf8(run_name));
  put_double(start, hparams_proto::start_seconds, wall_seconds());
  put_bytes(content, hparams_proto::session_start, start);
  write_plugin_data("_hparams_/session_start_info", "hparams", content);
}

void TensorBoardWriter::end_of_session() {
  std::string end, content;
  put_integer(end, hparams_proto::status, hparams_proto::success);
  put_double(end, hparams_proto::end_seconds, wall_seconds());
  put_bytes(content, hparams_proto::session_end, end);
  write_plugin_data("_hparams_/session_end_info", "hparams", content);
}

// The content stands in the metadata; the tensor is a single zero.
void TensorBoardWriter::write_plugin_data(std::string_view tag, std::string_view plugin,
                                          std::string_view content) {
  std::string dim, shape, tensor, data, meta, entry, message;
  put_integer(dim, tensor_proto::dim_size, 1);
  put_bytes(shape, tensor_proto::shape_dim, dim);
  put_integer(tensor, tensor_proto::dtype, tensor_proto::dt_float);
  put_bytes(tensor, tensor_proto::shape, shape);
  put_key(tensor, tensor_proto::float_val, kFixed32);
  put_little_endian(tensor, uint32_t(0));
  put_bytes(data, metadata::plugin_name, plugin);
  put_bytes(data, metadata::content, content);
  put_bytes(meta, metadata::plugin_data, data);
  put_integer(meta, metadata::data_class, metadata::data_class_tensor);
  put_bytes(entry, value::tag, tag);
  put_bytes(entry, value::tensor, tensor);
  put_bytes(entry, value::metadata, meta);
  put_bytes(message, summary::value, entry);
  write_event(0, event::summary, message);
}

void TensorBoardWriter::layout(const std::vector<Chart>& charts) {
  std::string category, layout, tensor, plugin, meta, entry, message;
  put_bytes(category, layout_proto::title, "run");
  for (const Chart& chart : charts) {
    std::string lines, content;
    // Regular expressions that are matched from the beginning on.
    for (const std::string& tag : chart.tags) put_bytes(lines, layout_proto::tag, tag + "$");
    put_bytes(content, layout_proto::title, chart.title);
    put_bytes(content, layout_proto::multiline, lines);
    put_bytes(category, layout_proto::chart, content);
  }
  put_bytes(layout, layout_proto::category, category);
  put_integer(tensor, tensor_proto::dtype, tensor_proto::dt_string);
  put_bytes(tensor, tensor_proto::shape, "");
  put_bytes(tensor, tensor_proto::string_val, layout);
  put_bytes(plugin, metadata::plugin_name, "custom_scalars");
  put_bytes(meta, metadata::plugin_data, plugin);
  put_integer(meta, metadata::data_class, metadata::data_class_tensor);
  put_bytes(entry, value::tag, "custom_scalars__config__");
  put_bytes(entry, value::tensor, tensor);
  put_bytes(entry, value::metadata, meta);
  put_bytes(message, summary::value, entry);
  write_event(0, event::summary, message);
}

void TensorBoardWriter::write_event(int64_t step, int field, std::string_view message) {
  std::string out;
  put_key(out, event::wall_time, kFixed64);
  put_little_endian(out, std::bit_cast<uint64_t>(wall_seconds()));
  put_integer(out, event::step, step);
  put_bytes(out, field, message);
  const std::string frame = tfrecord_frame(out);
  ssize_t written;
  do written = ::write(descriptor_, frame.data(), frame.size());
  while (written < 0 && errno == EINTR);
  if (written != ssize_t(frame.size()))
    throw MachineError(fmt::format("cannot write {}: {}", file_,
                                   std::generic_category().message(written < 0 ? errno : ENOSPC)));
}

}  // namespace reverie
