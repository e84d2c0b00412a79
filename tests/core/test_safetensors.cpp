// Round trips, and every hostile file that can be thought of.

#include "core/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <numeric>

#include "core/error.h"
#include "core/files.h"
#include "core/fixtures.h"
#include "core/random.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr DType kEveryDType[] = {DType::u8,  DType::u16, DType::f16, DType::bf16,
                                 DType::i32, DType::f32, DType::i64, DType::f64};

Tensor bytes_of(DType dtype, const Shape& shape, int first) {
  Tensor t = Tensor::empty(shape, dtype);
  auto* bytes = static_cast<unsigned char*>(t.mutable_raw());
  for (size_t i = 0; i < t.bytes(); ++i)
    bytes[i] = static_cast<unsigned char>(size_t(first) + 37 * i);
  return t;
}

// A file with the given header text and data.
std::string file_of(std::string_view header, std::string_view data) {
  const uint64_t n = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  return bytes.append(header).append(data);
}

class SafetensorsTest : public ::testing::Test {
 protected:
  SafetensorsFile read(std::string_view bytes) {
    write_plainly(file, bytes);
    return read_safetensors(file);
  }
  std::string refusal(std::string_view header, std::string_view data) {
    return message_of<DataError>([&] { read(file_of(header, data)); });
  }
  TemporaryDirectory directory;
  std::string file = directory / "a.safetensors";
};

TEST_F(SafetensorsTest, EveryDTypeComesBackBitIdentical) {
  NamedTensors tensors;
  for (const DType dtype : kEveryDType)  // narrow ones first, so that order and alignment matter
    tensors.emplace_back(std::string(name_of(dtype)), bytes_of(dtype, {3, 1, 5}, int(dtype)));
  tensors.emplace_back("scalar", bytes_of(DType::f32, {}, 9));
  tensors.emplace_back("nothing", bytes_of(DType::i64, {2, 0, 3}, 0));
  tensors.emplace_back("odd \"name\" \xc3\xa9", bytes_of(DType::u8, {7}, 4));
  const std::map<std::string, std::string> metadata = {{"config", "{\"a\": 1}"}, {"", "empty"}};
  write_safetensors(file, tensors, metadata);
  const SafetensorsFile back = read_safetensors(file);
  EXPECT_EQ(back.metadata, metadata);
  ASSERT_EQ(back.tensors.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(back.tensors[i].first, tensors[i].first);  // the given order
    EXPECT_TRUE(bit_identical(back.tensors[i].second, tensors[i].second)) << tensors[i].first;
    const Tensor& t = back.tensors[i].second;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % size_of(t.dtype()), 0u);
    EXPECT_TRUE(t.shares_storage_with(back.tensors[0].second));  // a view of the file, not a copy
  }
  EXPECT_EQ(&back.at("scalar"), back.find("scalar"));
  EXPECT_EQ(back.find("none"), nullptr);
  EXPECT_THAT(message_of<DataError>([&] { back.at("skalar"); }), HasSubstr("\"scalar\""));
}

TEST_F(SafetensorsTest, TheDataStartIsAligned) {
  for (size_t n = 1; n < 70; ++n) {
    write_safetensors(file, {{std::string(n, 'x'), bytes_of(DType::f64, {2}, 1)}});
    const std::string bytes = read_file(file);
    EXPECT_EQ((bytes.size() - 16) % 64, 0u);
    EXPECT_EQ(bytes[8], '{');
  }
}

TEST_F(SafetensorsTest, ViewsAreWrittenRowMajor) {
  const Tensor t = Tensor::from<float>({2, 3}, {1, 2, 3, 4, 5, 6});
  write_safetensors(file, {{"t", t.transpose(0, 1)}, {"s", t.slice(1, 1, 2)}});
  const SafetensorsFile back = read_safetensors(file);
  EXPECT_EQ(back.at("t").to_vector(), (std::vector<double>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(back.at("s").to_vector(), (std::vector<double>{2, 5}));
}

TEST_F(SafetensorsTest, AnEmptyFileOfTensorsIsFine) {
  write_safetensors(file, {});
  EXPECT_TRUE(read_safetensors(file).tensors.empty());
  EXPECT_TRUE(read(file_of("{}", "")).tensors.empty());
}

TEST_F(SafetensorsTest, WhatCannotBeWrittenIsRefusedAndTheOldFileStays) {
  write_plainly(file, "old");
  const Tensor t = Tensor::zeros({1}, DType::f32);
  EXPECT_THAT(message_of<UserError>([&] {
                write_safetensors(file, {{"a", t}, {"a", t}});
              }),
              HasSubstr("two tensors are called \"a\""));
  EXPECT_THROW(write_safetensors(file, {{"a", Tensor()}}), UserError);
  EXPECT_THROW(write_safetensors(file, {{"__metadata__", t}}), UserError);
  EXPECT_THROW(write_safetensors(file, {{"\xff", t}}), UserError);
  EXPECT_THROW(write_safetensors(file, {{"a", t}}, {{"k", "\xff"}}), UserError);
  EXPECT_THROW(write_safetensors(directory / "none/a", {{"a", t}}), MachineError);
  EXPECT_EQ(read_file(file), "old");
  EXPECT_EQ(directory.entries(), 1u);
}

TEST_F(SafetensorsTest, AMissingFileIsTheUsersErrorAndNotCorruptData) {
  EXPECT_THAT(message_of<UserError>([&] { read_safetensors(file); }), HasSubstr("No such file"));
}

TEST_F(SafetensorsTest, HostileHeaderLengths) {
  const auto with_length = [&](uint64_t n, size_t more) {
    std::string bytes(8 + more, '{');
    std::memcpy(bytes.data(), &n, 8);
    return message_of<DataError>([&] { read(bytes); });
  };
  EXPECT_THAT(with_length(uint64_t(4) << 30, 100), HasSubstr("header of 4294967296 bytes"));
  EXPECT_THAT(with_length(~uint64_t(0), 100), HasSubstr("18446744073709551615"));  // -1
  EXPECT_THAT(with_length(~uint64_t(0) - 7, 100), HasSubstr("a header of"));  // 8 + n wraps to 0
  EXPECT_THAT(with_length(101, 100), HasSubstr("a header of 101"));
  EXPECT_THAT(with_length(0, 0), HasSubstr("does not begin"));
  EXPECT_THAT(with_length(0, 10), HasSubstr("does not begin"));
  // Beyond the format's limit even where the file is long enough (sparse: it takes no disk).
  write_plainly(file, "");
  std::filesystem::resize_file(file, 200'000'000);
  const uint64_t n = 100'000'001;
  std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
  out.write(reinterpret_cast<const char*>(&n), 8) << "{";
  out.close();
  EXPECT_THAT(message_of<DataError>([&] { read_safetensors(file); }),
              HasSubstr("at most 100000000"));
}

TEST_F(SafetensorsTest, HostileOffsets) {
  const auto offsets = [&](const char* text) {
    return refusal(fmt::format(R"({{"t":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})", text),
                   "12345678");
  };
  EXPECT_THAT(offsets("[-4,0]"), HasSubstr("negative number -4"));
  EXPECT_THAT(offsets("[4,0]"), HasSubstr("backwards"));
  EXPECT_THAT(offsets("[0,9]"), HasSubstr("only 8 bytes"));
  EXPECT_THAT(offsets("[0,5]"), HasSubstr("needs 4 bytes"));
  EXPECT_THAT(offsets("[18446744073709551612,18446744073709551615]"), HasSubstr("only 8 bytes"));
  EXPECT_THAT(offsets("[18446744073709551615,3]"), HasSubstr("backwards"));
  EXPECT_THAT(offsets("[0,99999999999999999999999]"), HasSubstr("9999"));
  EXPECT_THAT(offsets("[0,4.0]"), HasSubstr("4.0"));
  EXPECT_THAT(offsets("[0,1e999]"), HasSubstr("not valid JSON"));
  EXPECT_THAT(offsets("[0]"), HasSubstr("data_offsets of two numbers"));
  EXPECT_THAT(offsets("[0,4,8]"), HasSubstr("a third number"));
  EXPECT_THAT(offsets("[]"), HasSubstr("data_offsets of two numbers"));
  EXPECT_THAT(offsets("[0,[4]]"), HasSubstr("an array"));
  EXPECT_THAT(offsets("4"), HasSubstr("the number 4"));
  EXPECT_THAT(offsets("null"), HasSubstr("null"));
  EXPECT_THAT(offsets("[0,4]"), HasSubstr("the tensors end at 4"));  // four bytes belong to nobody
  EXPECT_THAT(offsets("[4,8]"), HasSubstr("hole"));
}

TEST_F(SafetensorsTest, OverlapsAndHolesBetweenTensors) {
  const auto pair = [&](const char* a, const char* b) {
    return refusal(fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                               R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                               a, b),
                   "12345678");
  };
  EXPECT_THAT(pair("[0,4]", "[2,6]"), AllOf(HasSubstr("\"b\""), HasSubstr("overlap")));
  EXPECT_THAT(pair("[0,4]", "[0,4]"), HasSubstr("overlap"));
  EXPECT_THAT(pair("[4,8]", "[2,6]"), HasSubstr("hole"));
  write_plainly(file, "");
  EXPECT_EQ(read(file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]},)"
                         R"("b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                         R"("z":{"dtype":"F64","shape":[0],"data_offsets":[4,4]}})",
                         "12345678"))
                .at("a")
                .to_vector()[0],
            double('5'));  // any order in the header is fine
}

TEST_F(SafetensorsTest, HostileShapes) {
  const auto shape = [&](const char* text) {
    return refusal(
        fmt::format(R"({{"t":{{"dtype":"F32","shape":{},"data_offsets":[0,0]}}}})", text), "");
  };
  EXPECT_THAT(shape("[-1]"), HasSubstr("negative number -1"));
  EXPECT_THAT(shape("[4611686018427387904,4]"),
              HasSubstr("4611686018427387904"));  // 2^62 * 4 * 4 wraps to 0
  EXPECT_THAT(shape("[4294967296,4294967296]"), HasSubstr("too many elements"));  // 2^64 wraps to 0
  EXPECT_THAT(shape("[0,4294967296,4294967296]"),
              HasSubstr("too many elements"));  // empty, but strides overflow
  EXPECT_THAT(shape("[18446744073709551615]"), HasSubstr("18446744073709551615"));
  EXPECT_THAT(shape("[1,1,1,1,1,1,1]"), HasSubstr("more than 6 dimensions"));
  EXPECT_THAT(shape("[1.5]"), HasSubstr("1.5"));
  EXPECT_THAT(shape("\"4\""), HasSubstr("\"4\""));
  EXPECT_THAT(shape("{}"), HasSubstr("an object"));
  EXPECT_THAT(shape("[true]"), HasSubstr("true or false"));
  EXPECT_THAT(shape("[]"), HasSubstr("needs 4 bytes"));  // a scalar
  EXPECT_THAT(shape(std::string(100000, '[').c_str()), HasSubstr("an array"));
}

TEST_F(SafetensorsTest, HostileHeaders) {
  const std::string good = R"("t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_NO_THROW(read(file_of("{" + good + "}", "x")));
  EXPECT_NO_THROW(read(file_of("{" + good + "}   \n", "x")));
  EXPECT_THAT(refusal("{" + good + "," + good + "}", "x"),
              HasSubstr("\"t\" holds the same key twice"));
  EXPECT_THAT(refusal("{" + good + "}}", "x"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal("{" + good, "x"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(" {" + good + "}", "x"), HasSubstr("does not begin"));
  EXPECT_THAT(refusal("[]", ""), HasSubstr("does not begin"));
  EXPECT_THAT(refusal(R"({"t":3})", ""), HasSubstr("the number 3"));
  EXPECT_THAT(refusal(R"({"t":{}})", ""), HasSubstr("no dtype, shape or data_offsets"));
  EXPECT_THAT(refusal(R"({"t":{"shape":[],"data_offsets":[0,4]}})", "1234"), HasSubstr("no dtype"));
  EXPECT_THAT(refusal(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", "1234"), HasSubstr("shape"));
  EXPECT_THAT(refusal(R"({"t":{"dtype":"F32","dtype":"F32"}})", ""),
              HasSubstr("the same key twice"));
  EXPECT_THAT(refusal(R"({"t":{"dtype":"F32","extra":1}})", ""), HasSubstr("unknown key"));
  EXPECT_THAT(refusal(R"({"t":{"dtype":32}})", ""), HasSubstr("the number 32"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":1}})", ""),
              AllOf(HasSubstr("metadata \"a\""), HasSubstr("number 1")));
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":"1","a":"2"}})", ""),
              HasSubstr("the same key twice"));
  EXPECT_THAT(refusal("{\"\xff\":{}}", ""), HasSubstr("not valid JSON"));
  for (const char* dtype : {"I8", "BOOL", "F8_E4M3", "f32", ""})
    EXPECT_THAT(
        refusal(fmt::format(R"({{"w":{{"dtype":"{}","shape":[1],"data_offsets":[0,1]}}}})", dtype),
                "x"),
        AllOf(HasSubstr("\"w\""), HasSubstr(fmt::format("dtype \"{}\"", dtype)),
              HasSubstr("BF16")));
}

TEST_F(SafetensorsTest, MisalignedTensorsOfOthersAreCopied) {
  const float values[] = {1.5f, -2.0f};
  std::string data = "x";
  data.append(reinterpret_cast<const char*>(values), sizeof values);
  for (const char* padding : {"", " ", "  ", "   "}) {
    const SafetensorsFile f =
        read(file_of(std::string(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                 R"("f":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}})") +
                         padding,
                     data));
    EXPECT_EQ(f.at("f").to_vector(), (std::vector<double>{1.5, -2.0}));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(f.at("f").raw()) % 4, 0u);
  }
}

std::string small_file(const std::string& file) {
  write_safetensors(file,
                    {{"a", bytes_of(DType::f32, {2, 3}, 1)},
                     {"b.c", bytes_of(DType::u8, {5}, 2)},
                     {"d", bytes_of(DType::f64, {}, 3)}},
                    {{"format", "pt"}});
  return read_file(file);
}

TEST_F(SafetensorsTest, TruncationAtEveryByteIsRefused) {
  const std::string whole = small_file(file);
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_THROW(read(std::string_view(whole).substr(0, n)), DataError) << n;
  EXPECT_THROW(read(whole + "x"), DataError);  // and so are bytes beyond the end
  EXPECT_NO_THROW(read(whole));
}

TEST_F(SafetensorsTest, RandomDamageIsReadOrRefused) {
  const std::string whole = small_file(file);
  const size_t head = whole.size() - (24 + 5 + 8);
  Generator random(2024);
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string bytes = whole;
    for (uint64_t flips = 1 + random.below(4); flips > 0; --flips) {
      // Mostly the header; half the damage swaps in another byte of the header, which keeps it
      // nearly valid.
      const size_t at =
          random.below(8) == 0 ? random.below(bytes.size()) : 8 + random.below(head - 8);
      if (random.below(2))
        bytes[at] = bytes[8 + random.below(head - 8)];
      else
        bytes[at] = char(bytes[at] ^ (1 << random.below(8)));
    }
    if (random.below(10) == 0) bytes.erase(8 + random.below(head), 1 + random.below(4));
    try {
      const SafetensorsFile f = read(bytes);
      for (const auto& [name, tensor] : f.tensors)
        (void)tensor.to_vector();  // every byte is within the file
    } catch (const DataError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);  // the damage is damage
  EXPECT_LT(refused, 4000);  // and some of it is harmless
}

}  // namespace
}  // namespace reverie
