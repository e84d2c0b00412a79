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
#include "trainers/reports/html.h"

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
constexpr int plugin_data = 1, plugin_name = 1;
}
namespace tensor_proto {
constexpr int dtype = 1, shape = 2, string_val = 8, dt_string = 7, shape_dim = 2, dim_size = 1;
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
  file_ = fmt::format("{}/events.out.tfevents.{:010}.{}.{}.{}", directory, int64_t(wall_seconds()),
                      host_name(), ::getpid(), counter++);
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
