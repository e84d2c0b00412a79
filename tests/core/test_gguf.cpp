// What a GGUF file holds, bit for bit, and every hostile file that can be thought of.

#include "core/gguf.h"

#include <gmock/gmock.h>

#include <cstring>
#include <functional>

#include "core/error.h"
#include "core/files.h"
#include "core/fixtures.h"
#include "core/safetensors.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string golden(const std::string& name) {
  return testing::test_directory() + "/golden/" + name;
}

// ---- a sound file ---------------------------------------------------------------------------

TEST(Gguf, EveryTypeGivesTheBitsThatThePythonPackageGives) {
  const GgufFile file = read_gguf(golden("blocks.gguf"));
  const SafetensorsFile expected = read_safetensors(golden("blocks.safetensors"));
  ASSERT_EQ(expected.tensors.size(), 12u);
  for (const auto& [name, wanted] : expected.tensors) {
    const Tensor got = file.dequantize(name);
    EXPECT_TRUE(bit_identical(got, wanted)) << name << ": " << got.str();
    EXPECT_EQ(got.shares_storage_with(file.dequantize("F32")), name == "F32" || name == "cube")
        << name;
  }
  // The comparison itself can fail: one quant changed.
  Tensor changed = file.dequantize("Q4_K").clone();
  changed.mutable_data<float>()[7] *= 1.0001f;
  EXPECT_FALSE(bit_identical(changed, expected.at("Q4_K")));
}

TEST(Gguf, ATypeThatIsNotReadIsNamed) {
  const GgufFile file = read_gguf(golden("blocks.gguf"));
  EXPECT_EQ(file.at("unreadable").shape, Shape({3}));
  const std::string message = message_of<DataError>([&] { file.dequantize("unreadable"); });
  EXPECT_THAT(message, HasSubstr("tensor \"unreadable\" is stored as I8"));
  EXPECT_THAT(message_of<DataError>([&] { file.at("cub"); }), HasSubstr("\"cube\""));
  EXPECT_EQ(file.find("cub"), nullptr);
}

TEST(Gguf, MetadataOfEveryType) {
  const GgufFile file = read_gguf(golden("blocks.gguf"));
  EXPECT_EQ(file.text("general.architecture"), "golden");
  EXPECT_EQ(file.text("a.text"), "d\xC3\xA9j\xC3\xA0 vu");
  EXPECT_EQ(file.integer("a.u8"), 200);
  EXPECT_EQ(file.integer("a.i8"), -100);
  EXPECT_EQ(file.integer("a.u16"), 60000);
  EXPECT_EQ(file.integer("a.i16"), -30000);
  EXPECT_EQ(file.integer("a.u32"), 4'000'000'000);
  EXPECT_EQ(file.integer("a.i32"), -2'000'000'000);
  EXPECT_EQ(file.integer("a.i64"), -(int64_t(1) << 62));
  EXPECT_EQ(file.number("a.u64"), 0x1p63);
  EXPECT_EQ(file.number("a.f32"), double(0.1f));
  EXPECT_EQ(file.number("a.f64"), 0.1);
  EXPECT_EQ(file.number("a.i8"), -100.0);
  EXPECT_TRUE(file.boolean("a.bool"));
  EXPECT_THAT(file.texts("a.texts"), ElementsAre("", "one", "two words"));
  EXPECT_THAT(file.integers("a.integers"), ElementsAre(3, -1, 2));
  EXPECT_THAT(file.numbers("a.numbers"), ElementsAre(0.5, -0.25));
  const std::vector<GgufValue> nested = file.find_value("a.nested")->elements();
  ASSERT_EQ(nested.size(), 3u);
  EXPECT_EQ(nested[2].describe(), "an array of 3 i32");
  EXPECT_EQ(nested[2].elements().size(), 3u);
}

TEST(Gguf, GettersSayWhatTheyWantedAndGot) {
  const GgufFile file = read_gguf(golden("blocks.gguf"));
  const auto says = [](const std::function<void()>& body) { return message_of<DataError>(body); };
  EXPECT_THAT(says([&] { file.integer("a.i9"); }),
              HasSubstr("\"a.i9\": wanted an integer, got no"));
  EXPECT_THAT(says([&] { file.integer("a.f32"); }), HasSubstr("wanted an integer, got f32"));
  EXPECT_THAT(says([&] { file.integer("a.u64"); }), HasSubstr("below 2^63"));
  EXPECT_THAT(says([&] { file.number("a.text"); }), HasSubstr("wanted a number, got text"));
  EXPECT_THAT(says([&] { file.boolean("a.u8"); }), HasSubstr("wanted true or false, got u8"));
  EXPECT_THAT(says([&] { file.text("a.texts"); }), HasSubstr("got an array of 3 text"));
  EXPECT_THAT(says([&] { file.texts("a.integers"); }), HasSubstr("wanted an array of texts"));
  EXPECT_THAT(says([&] { file.integers("a.nested"); }), HasSubstr("an array of 3 array"));
  EXPECT_EQ(file.integer("absent", 7), 7);
  EXPECT_EQ(file.text("absent", "x"), "x");
  EXPECT_FALSE(file.boolean("absent", false));
  // A fallback is for what is absent, not for what is wrong.
  EXPECT_THAT(says([&] { file.integer("a.text", 7); }), HasSubstr("got text"));
}

// ---- hostile files --------------------------------------------------------------------------

// Bytes as the format has them.
struct Bytes {
  std::string bytes;
  template <class T>
  Bytes& put(T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(std::string_view value) {
    put(uint64_t(value.size()));
    bytes += value;
    return *this;
  }
  Bytes& header(uint64_t tensors, uint64_t entries, uint32_t version = 3) {
    bytes += "GGUF";
    return put(version).put(tensors).put(entries);
  }
  Bytes& tensor(std::string_view name, std::vector<uint64_t> sizes, uint32_t type,
                uint64_t offset) {
    text(name).put(uint32_t(sizes.size()));
    for (const uint64_t size : sizes) put(size);
    return put(type).put(offset);
  }
  Bytes& data(size_t count) {
    bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
    bytes.append(count, '\1');
    return *this;
  }
};

constexpr uint32_t kU32 = 4, kBool = 7, kText = 8, kArray = 9;

class HostileGguf : public ::testing::Test {
 protected:
  GgufFile read(const std::string& bytes) {
    write_plainly(file, bytes);
    return read_gguf(file);
  }
  std::string refusal(const Bytes& bytes) {
    return message_of<DataError>([&] { read(bytes.bytes); });
  }
  static Bytes small() {
    Bytes b;
    b.header(2, 3);
    b.text("n").put(kU32).put(uint32_t(7));
    b.text("t").put(kArray).put(kText).put(uint64_t(2)).text("ab").text("");
    b.text("d").put(kArray).put(kArray).put(uint64_t(1)).put(kU32).put(uint64_t(1)).put(1u);
    b.tensor("x", {3, 2}, 0, 0).tensor("y", {32}, 8, 32);
    return b.data(66);
  }
  TemporaryDirectory directory;
  std::string file = directory / "a.gguf";
};

TEST_F(HostileGguf, TheSmallFileIsSound) {
  const GgufFile f = read(small().bytes);
  EXPECT_EQ(f.integer("n"), 7);
  EXPECT_EQ(f.at("x").shape, Shape({2, 3}));
  EXPECT_EQ(f.at("y").bytes.size(), 34u);
  EXPECT_EQ(f.dequantize("y").numel(), 32);
}

TEST_F(HostileGguf, CutOffAtEveryByte) {
  const std::string whole = small().bytes;
  for (size_t n = 0; n < whole.size(); ++n)
    EXPECT_NE(message_of<DataError>([&] { read(whole.substr(0, n)); }), "") << n;
}

TEST_F(HostileGguf, EveryByteAlteredIsRefusedOrRead) {
  const std::string whole = small().bytes;
  for (size_t i = 0; i < whole.size(); ++i)
    for (const int value : {0, 1, 0x7F, 0x80, 0xFF}) {
      std::string altered = whole;
      altered[i] = char(value);
      try {
        const GgufFile f = read(altered);
        for (const GgufTensor& t : f.tensors)
          if (gguf_layout(t.type)->readable) f.dequantize(t);
      } catch (const DataError&) {
      }
    }
}

TEST_F(HostileGguf, MagicAndVersion) {
  EXPECT_THAT(refusal({"GGML aaaaaaaaaaaaaaaaaaaaaaa"}), HasSubstr("no GGUF file"));
  EXPECT_THAT(refusal({""}), HasSubstr("no GGUF file"));
  EXPECT_THAT(refusal(Bytes().header(0, 0, 1)), HasSubstr("version 1"));
  EXPECT_THAT(refusal(Bytes().header(0, 0, 4)), HasSubstr("version 4; wanted 2 or 3"));
  EXPECT_THAT(refusal(Bytes().header(0, 0, 3u << 24)), HasSubstr("big-endian"));
  EXPECT_EQ(read(Bytes().header(0, 0, 2).bytes).tensors.size(), 0u);
  EXPECT_THAT(message_of<UserError>([&] { read_gguf(directory / "none"); }), HasSubstr("none"));
}

TEST_F(HostileGguf, CountsBeyondTheFile) {
  for (const uint64_t huge : {uint64_t(10), uint64_t(1) << 40, ~uint64_t(0)}) {
    EXPECT_THAT(refusal(Bytes().header(0, huge)), HasSubstr("metadata entries"));
    EXPECT_THAT(refusal(Bytes().header(huge, 0)), HasSubstr("tensors"));
    const auto array = [&](uint32_t type) {
      return refusal(Bytes().header(0, 1).text("k").put(kArray).put(type).put(huge).put(1u));
    };
    for (const uint32_t type : {0u, 4u, 6u, 7u, 8u, 9u, 12u})
      EXPECT_THAT(array(type), HasSubstr("elements")) << type;
    EXPECT_THAT(refusal(Bytes().header(0, 1).text("k").put(kText).put(huge)),
                HasSubstr("bytes of text"));
  }
  EXPECT_THAT(refusal(Bytes().header(0, 1).put(~uint64_t(0)).put(kU32).put(1u)),
              HasSubstr("a name of"));
}

TEST_F(HostileGguf, Metadata) {
  const auto one = [] { return Bytes().header(0, 1); };
  EXPECT_THAT(refusal(one().text("k").put(13u).put(1u)), HasSubstr("unknown value type 13"));
  EXPECT_THAT(refusal(one().text("k").put(kArray).put(13u).put(uint64_t(0))),
              HasSubstr("unknown value type 13"));
  EXPECT_THAT(refusal(one().text("k").put(kBool).put(uint8_t(2))), HasSubstr("truth value 2"));
  EXPECT_THAT(refusal(one().text("").put(kU32).put(1u)), HasSubstr("no key"));
  EXPECT_THAT(refusal(Bytes().header(0, 2).text("k").put(kU32).put(1u).text("k").put(kU32).put(1u)),
              HasSubstr("metadata \"k\" is given twice"));
  Bytes deep = one().text("k").put(kArray);
  for (int i = 0; i < 50; ++i) deep.put(kArray).put(uint64_t(1));
  EXPECT_THAT(refusal(deep.put(kU32).put(uint64_t(1)).put(1u)), HasSubstr("deeper than 4"));
  EXPECT_THAT(refusal(one().text("general.alignment").put(kU32).put(0u)), HasSubstr("is 0"));
  EXPECT_THAT(refusal(one().text("general.alignment").put(kU32).put(4u)), HasSubstr("is 4"));
  EXPECT_THAT(refusal(one().text("general.alignment").put(kText).text("32")),
              HasSubstr("wanted an integer, got text"));
}

TEST_F(HostileGguf, Tensors) {
  const auto one = [this](std::vector<uint64_t> sizes, uint32_t type, uint64_t offset) {
    return refusal(Bytes().header(1, 0).tensor("t", sizes, type, offset).data(64));
  };
  EXPECT_THAT(one({1, 1, 1, 1, 1}, 0, 0), HasSubstr("5 dimensions"));
  EXPECT_THAT(one({~uint64_t(0)}, 0, 0), HasSubstr("more elements than"));
  EXPECT_THAT(one({uint64_t(1) << 32, uint64_t(1) << 32}, 0, 0), HasSubstr("more elements than"));
  EXPECT_THAT(one({uint64_t(1) << 62, 4, 0}, 0, 0), HasSubstr("more elements than"));
  EXPECT_THAT(one({16}, 99, 0), HasSubstr("unknown tensor type 99"));
  EXPECT_THAT(one({16}, 4, 0), HasSubstr("unknown tensor type 4"));  // taken out of the format
  EXPECT_THAT(one({31}, 8, 0), HasSubstr("not a multiple of the block size 32"));
  EXPECT_THAT(one({16, 2}, 8, 0), HasSubstr("not a multiple of the block size 32"));
  EXPECT_THAT(one({17}, 0, 0), HasSubstr("68 bytes at 0"));
  EXPECT_THAT(one({1}, 0, 64), HasSubstr("4 bytes at 64"));
  EXPECT_THAT(one({1}, 0, ~uint64_t(31)), HasSubstr("truncated or altered"));
  EXPECT_THAT(one({1}, 0, 4), HasSubstr("not aligned to 32"));
  const auto two = [this](std::string_view second, uint64_t offset) {
    return refusal(
        Bytes().header(2, 0).tensor("t", {12}, 0, 0).tensor(second, {4}, 0, offset).data(64));
  };
  EXPECT_THAT(two("t", 32), HasSubstr("tensor \"t\" is given twice"));
  EXPECT_THAT(two("u", 32), HasSubstr("overlaps tensor"));
  EXPECT_THAT(two("u", 0), HasSubstr("overlaps tensor"));
  EXPECT_THAT(two("", 32), HasSubstr("no name"));
}

TEST_F(HostileGguf, EmptyTensorsHaveNoBytes) {
  const GgufFile f = read(Bytes().header(1, 0).tensor("t", {0, 3}, 8, 0).bytes);
  EXPECT_EQ(f.dequantize("t").shape(), Shape({3, 0}));
}

}  // namespace
}  // namespace reverie
