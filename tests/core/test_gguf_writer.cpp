// GGUF files that are written: read back by us, and bit for bit what the Python package `gguf`
// writes.

#include "core/gguf_writer.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/fixtures.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string golden(const std::string& name) {
  return testing::test_directory() + "/golden/" + name;
}

constexpr std::pair<const char*, GgufTensorType> kTypes[] = {
    {"F16", GgufTensorType::f16}, {"BF16", GgufTensorType::bf16}, {"Q8_0", GgufTensorType::q8_0}};

TEST(GgufQuantize, TheBytesThatThePythonPackageGives) {
  const SafetensorsFile file = read_safetensors(golden("quantized.safetensors"));
  const Tensor values = file.at("values");
  for (const auto& [name, type] : kTypes) {
    const Tensor wanted = file.at(name);
    std::vector<std::byte> got(wanted.bytes());
    gguf_quantize(type, values.data<float>(), values.numel(), got.data(), "values");
    EXPECT_EQ(std::memcmp(got.data(), wanted.raw(), got.size()), 0) << name;
  }
}

TEST(GgufQuantize, NoValueIsFurtherOffThanItsBound) {
  const SafetensorsFile file = read_safetensors(golden("quantized.safetensors"));
  const Tensor values = file.at("values");
  for (const auto& [name, type] : kTypes) {
    Tensor bytes = file.at(name).clone();
    const auto errors = [&] {
      return gguf_errors(type, values.data<float>(), values.numel(),
                         static_cast<const std::byte*>(bytes.raw()));
    };
    EXPECT_LE(errors().largest_share, 1) << name;
    EXPECT_GT(errors().largest_share, 0.85) << name << ": the bound is not one that is neared";
    bytes.mutable_data<uint8_t>()[2 * 34 + 7] ^= 64;  // one byte of the block with the outlier
    EXPECT_GT(errors().largest_share, 1) << name;
  }
  // 0.00443 of the largest of the block.
  EXPECT_NEAR(gguf_error_bound(GgufTensorType::q8_0, 1.0), 0.00443, 0.00001);
}

TEST(GgufQuantize, WhatATypeCannotHoldIsRefused) {
  const auto message = [](GgufTensorType type, float value) {
    std::vector<float> values(32, 1.0f);
    values[3] = value;
    std::vector<std::byte> out(128);
    return message_of<UserError>([&] { gguf_quantize(type, values.data(), 32, out.data(), "w"); });
  };
  EXPECT_THAT(message(GgufTensorType::f16, 65536), HasSubstr("tensor w holds 65536 at 3"));
  EXPECT_THAT(message(GgufTensorType::q8_0, 9e6f), HasSubstr("tensor w"));
  EXPECT_THAT(message(GgufTensorType::bf16, 3.4e38f), HasSubstr("tensor w"));
  for (const float value : {NAN, INFINITY})
    for (const auto type : {GgufTensorType::f32, GgufTensorType::q8_0})
      EXPECT_THAT(message(type, value), HasSubstr("tensor w"));
  EXPECT_THROW(gguf_tensor_type("q4_0"), ConfigError);
}

TEST(GgufWriter, WhatIsWrittenIsReadBack) {
  const testing::TemporaryDirectory directory;
  GgufWriter out;
  out.text("general.architecture", "none");
  out.integer("a.count", 4'000'000'000);
  out.number("a.number", 0.1);
  out.boolean("a.flag", true);
  out.texts("a.texts", {"", "one", "two words"});
  out.integers("a.integers", {3, -1});
  out.numbers("a.numbers", {0.5f, -0.25f});
  Generator random(1);
  const Tensor matrix = random.normal({3, 64}, 0, 1, DType::f32),
               narrow = random.normal({4, 5}, 0, 1, DType::f32);
  out.tensor("matrix", matrix.shape(), GgufTensorType::q8_0, [&] { return matrix; });
  out.tensor("narrow", narrow.shape(), GgufTensorType::q8_0, [&] { return narrow; });
  out.tensor("half", narrow.shape(), GgufTensorType::f16, [&] { return narrow; });
  const GgufWriter::Saved saved = out.save(directory / "file.gguf");
  EXPECT_EQ(saved.tensors, 3);
  EXPECT_EQ(saved.in_full, 1);  // rows of 5 are no blocks of 32
  EXPECT_GT(saved.errors.largest_share, 0.5);
  EXPECT_LE(saved.errors.largest_share, 1);

  const GgufFile file = read_gguf(directory / "file.gguf");
  EXPECT_EQ(file.text("general.architecture"), "none");
  EXPECT_EQ(file.integer("a.count"), 4'000'000'000);
  EXPECT_EQ(file.number("a.number"), double(0.1f));
  EXPECT_TRUE(file.boolean("a.flag"));
  EXPECT_THAT(file.texts("a.texts"), ElementsAre("", "one", "two words"));
  EXPECT_THAT(file.integers("a.integers"), ElementsAre(3, -1));
  EXPECT_THAT(file.numbers("a.numbers"), ElementsAre(0.5, -0.25));
  EXPECT_TRUE(bit_identical(file.dequantize("narrow"), narrow));
  EXPECT_EQ(file.at("half").shape, narrow.shape());
  const auto got = file.dequantize("matrix").to_vector(), wanted = matrix.to_vector();
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], saved.errors.largest);
  EXPECT_THROW(out.text("a.flag", "again"), InternalError);
}

}  // namespace
}  // namespace reverie
