#include "trainers/monitoring/tensorboard.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "support/temporary_directory.h"

namespace reverie {
namespace {
using testing::TemporaryDirectory;

// RFC 3720, appendix B.4, and the customary check string.
TEST(TensorBoard, Crc32cOfKnownData) {
  std::string up, down;
  for (int i = 0; i < 32; ++i) {
    up += char(i);
    down += char(31 - i);
  }
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  EXPECT_EQ(crc32c(up), 0x46dd794eu);
  EXPECT_EQ(crc32c(down), 0x113fdb5cu);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8u);
}

// A decoder written apart from the encoder: a message as field number -> values, as bytes or as
// integer.
struct Field {
  uint64_t number = 0;
  std::string bytes;
};
using Message = std::multimap<int, Field>;

struct Reader {
  std::string_view data;
  size_t at = 0;
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const uint8_t byte = uint8_t(data.at(at++));
      value |= uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }
  uint64_t fixed(size_t bytes) {
    if (at + bytes > data.size()) throw std::runtime_error("cut off");
    uint64_t value = 0;
    std::memcpy(&value, data.data() + at, bytes);
    at += bytes;
    return value;
  }
  std::string take(size_t bytes) {
    if (at + bytes > data.size()) throw std::runtime_error("cut off");
    at += bytes;
    return std::string(data.substr(at - bytes, bytes));
  }
};

Message decode(std::string_view bytes) {
  Message message;
  for (Reader reader{bytes}; reader.at < bytes.size();) {
    const uint64_t key = reader.varint();
    Field field;
    switch (key & 7) {
      case 0:
        field.number = reader.varint();
        break;
      case 1:
        field.number = reader.fixed(8);
        break;
      case 2:
        field.bytes = reader.take(reader.varint());
        break;
      case 5:
        field.number = reader.fixed(4);
        break;
      default:
        throw std::runtime_error("unknown wire type");
    }
    message.emplace(int(key >> 3), field);
  }
  return message;
}
const Field& only(const Message& message, int field) {
  if (message.count(field) != 1)
    throw std::runtime_error("field " + std::to_string(field) + " not there once");
  return message.find(field)->second;
}

std::vector<Message> read_events(const std::string& file) {
  const std::string bytes = read_file(file);
  std::vector<Message> events;
  for (Reader reader{bytes}; reader.at < bytes.size();) {
    const std::string length = reader.take(8);
    EXPECT_EQ(reader.fixed(4), masked_crc32c(length));
    uint64_t size = 0;
    std::memcpy(&size, length.data(), 8);
    const std::string data = reader.take(size);
    EXPECT_EQ(reader.fixed(4), masked_crc32c(data));
    events.push_back(decode(data));
  }
  return events;
}

TEST(TensorBoard, FileHoldsVersionScalarsAndText) {
  TemporaryDirectory dir;
  std::string file;
  {
    TensorBoardWriter writer(dir / "new/tensorboard");
    writer.scalar("loss/train", 1.75, 0);
    writer.scalar("loss/train", -0.5, 300);
    writer.text("sample", "first\n*second* \xff", 300);
    file = writer.file();
  }
  EXPECT_NE(file.find("/events.out.tfevents."), file.npos);
  const auto events = read_events(file);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(only(events[0], 3).bytes, "brain.Event:2");
  const double wall = std::bit_cast<double>(only(events[0], 1).number);
  EXPECT_GT(wall, 1.7e9);

  const int64_t steps[] = {0, 300};
  const float values[] = {1.75f, -0.5f};
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(int64_t(only(events[size_t(i + 1)], 2).number), steps[i]);
    const Message value = decode(only(decode(only(events[size_t(i + 1)], 5).bytes), 1).bytes);
    EXPECT_EQ(only(value, 1).bytes, "loss/train");
    EXPECT_EQ(std::bit_cast<float>(uint32_t(only(value, 2).number)), values[i]);
  }

  const Message text = decode(only(decode(only(events[3], 5).bytes), 1).bytes);
  EXPECT_EQ(only(text, 1).bytes, "sample");
  const Message tensor = decode(only(text, 8).bytes);
  EXPECT_EQ(only(tensor, 1).number, 7u);                                                // DT_STRING
  EXPECT_EQ(only(decode(only(decode(only(tensor, 2).bytes), 2).bytes), 1).number, 1u);  // shape [1]
  EXPECT_EQ(only(tensor, 8).bytes, "    first\n    *second* \xEF\xBF\xBD");
  EXPECT_EQ(only(decode(only(decode(only(text, 9).bytes), 1).bytes), 1).bytes, "text");
}

Message content_of(const Message& event, const std::string& tag, const std::string& plugin) {
  const Message value = decode(only(decode(only(event, 5).bytes), 1).bytes);
  EXPECT_EQ(only(value, 1).bytes, tag);
  const Message data = decode(only(decode(only(value, 9).bytes), 1).bytes);
  EXPECT_EQ(only(data, 1).bytes, plugin);
  if (plugin == "custom_scalars") return decode(only(decode(only(value, 8).bytes), 8).bytes);
  return decode(only(data, 2).bytes);
}

TEST(TensorBoard, HparamsHoldTheConfigAndTheRunsName) {
  TemporaryDirectory dir;
  TensorBoardWriter writer(dir.path());
  writer.hparams(parse_json(R"({"seed": 7, "model": {"type": "gpt2", "bias": false},
                                 "sizes": [1, 2.5], "memory": null})"),
                 "shakespeare");
  writer.end_of_session();
  const auto events = read_events(writer.file());
  ASSERT_EQ(events.size(), 3u);
  const Message start =
      decode(only(content_of(events[1], "_hparams_/session_start_info", "hparams"), 3).bytes);
  EXPECT_EQ(only(start, 4).bytes, "shakespeare");
  std::map<std::string, Message> values;
  for (auto [at, end] = start.equal_range(1); at != end; ++at) {
    const Message entry = decode(at->second.bytes);
    values[only(entry, 1).bytes] = decode(only(entry, 2).bytes);
  }
  ASSERT_EQ(values.size(), 6u);
  EXPECT_EQ(std::bit_cast<double>(only(values["seed"], 2).number), 7);
  EXPECT_EQ(only(values["model.type"], 3).bytes, "gpt2");
  EXPECT_EQ(only(values["model.bias"], 4).number, 0u);
  EXPECT_EQ(std::bit_cast<double>(only(values["sizes.1"], 2).number), 2.5);
  EXPECT_EQ(only(values["memory"], 3).bytes, "null");
  const Message end =
      decode(only(content_of(events[2], "_hparams_/session_end_info", "hparams"), 4).bytes);
  EXPECT_EQ(only(end, 1).number, 1u);  // STATUS_SUCCESS
}

TEST(TensorBoard, OneChartHoldsSeveralTags) {
  TemporaryDirectory dir;
  TensorBoardWriter writer(dir.path());
  writer.layout({{"loss", {"train/loss", "evaluation/val_loss"}}});
  const auto events = read_events(writer.file());
  const Message category =
      decode(only(content_of(events[1], "custom_scalars__config__", "custom_scalars"), 2).bytes);
  const Message chart = decode(only(category, 2).bytes);
  EXPECT_EQ(only(chart, 1).bytes, "loss");
  const Message lines = decode(only(chart, 2).bytes);
  ASSERT_EQ(lines.count(1), 2u);
  EXPECT_EQ(lines.find(1)->second.bytes, "train/loss$");
}

TEST(TensorBoard, AResumedRunWritesANewFileThatForgetsLaterSteps) {
  TemporaryDirectory dir;
  TensorBoardWriter first(dir.path()), second(dir.path(), 1234);
  EXPECT_LT(first.file(), second.file());
  const auto events = read_events(second.file());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(only(events[1], 2).number, 1235u);
  EXPECT_EQ(only(decode(only(events[1], 7).bytes), 1).number, 1u);  // SessionLog.START
  EXPECT_EQ(read_events(first.file()).size(), 1u);
}

TEST(TensorBoard, ADirectoryThatCannotBeMadeIsTheMachinesError) {
  TemporaryDirectory dir;
  write_file_atomically(dir / "file", "");
  EXPECT_THROW(TensorBoardWriter(dir / "file/below"), MachineError);
}

}  // namespace
}  // namespace reverie
