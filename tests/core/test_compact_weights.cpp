// Weights that stay as a file has them are ordinary tensors to whoever does not know better.

#include "core/compact_weights.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "core/error.h"
#include "core/files.h"
#include "core/fixtures.h"
#include "core/gguf.h"
#include "core/random.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;

GgufFile golden_blocks() {
  return read_gguf(testing::test_directory() + "/golden/blocks.gguf");
}

// bf16 [rows, columns] and the same as f32 over its bytes.
struct Pair {
  Tensor narrow, compact;
  explicit Pair(const Shape& shape, DType dtype = DType::bf16)
      : narrow(Generator(1).normal(shape, 0, 1, DType::f32).to(dtype)),
        compact(compact_tensor(narrow)) {}
};

TEST(CompactWeights, EveryTypeOfAFileReadsAsItIsDequantised) {
  const GgufFile file = golden_blocks();
  int compact = 0;
  for (const GgufTensor& t : file.tensors) {
    if (!gguf_layout(t.type)->readable) continue;
    const Tensor kept = file.compact(t), wide = file.dequantize(t);
    if (const auto rows = compact_rows(kept)) {
      ++compact;
      EXPECT_EQ(uint32_t(rows->type), t.type);
      EXPECT_EQ(stored_bytes(kept), t.bytes.size()) << t.name;
      EXPECT_EQ(hash_elements(kept), hash_elements(wide)) << t.name;
      EXPECT_TRUE(is_compact(kept)) << t.name;  // reading by parts has widened nothing
    }
    EXPECT_TRUE(bit_identical(kept, wide)) << t.name;
  }
  EXPECT_EQ(compact, 10);
}

TEST(CompactWeights, CopiesAreWideAndLeaveTheSourceAsItIs) {
  const Pair p({6, 5});
  const int64_t before = widened_for_good();
  const Tensor wide = p.narrow.to(DType::f32);
  EXPECT_TRUE(bit_identical(p.compact.clone(), wide));
  EXPECT_TRUE(bit_identical(widened(p.compact), wide));
  EXPECT_TRUE(bit_identical(p.compact.to(DType::f64), wide.to(DType::f64)));
  EXPECT_TRUE(bit_identical(widened(p.compact.slice(0, 2, 4)), wide.slice(0, 2, 4).contiguous()));
  EXPECT_TRUE(bit_identical(widened(p.compact.transpose(0, 1)), wide.transpose(0, 1).contiguous()));
  EXPECT_TRUE(bit_identical(p.compact.slice(1, 1, 3).contiguous(), wide.slice(1, 1, 3).clone()));
  EXPECT_EQ(hash_elements(p.compact), hash_bytes(wide.raw(), wide.bytes()));
  EXPECT_EQ(hash_elements(p.compact.slice(0, 1, 3)),
            hash_bytes(wide.slice(0, 1, 3).raw(), wide.bytes() / 3));
  EXPECT_EQ(widened_for_good(), before);
  EXPECT_EQ(stored_bytes(p.compact), p.narrow.bytes());
}

TEST(CompactWeights, ElementsAreThereForWhoeverReadsThem) {
  const Pair p({6, 5}, DType::f16);
  const int64_t before = widened_for_good();
  EXPECT_EQ(p.compact.data<float>()[7], float(p.narrow.data<Float16>()[7]));
  EXPECT_EQ(widened_for_good(), before + 1);
  EXPECT_TRUE(compact_rows(p.compact));  // who knows better still reads the file's
  EXPECT_EQ(p.compact.raw(), p.compact.raw());
  EXPECT_EQ(widened_for_good(), before + 1);
}

TEST(CompactWeights, AWriteWidensThemForGood) {
  const Pair p({6, 5});
  Tensor same = p.compact;
  const uint32_t version = same.version();
  same.mutable_data<float>()[7] = 100;
  EXPECT_GT(p.compact.version(), version);
  EXPECT_FALSE(is_compact(p.compact));
  EXPECT_EQ(p.compact.clone().data<float>()[7], 100);
  EXPECT_EQ(float(p.narrow.data<BFloat16>()[7]), p.narrow.to(DType::f32).data<float>()[7]);
  EXPECT_EQ(stored_bytes(p.compact), p.compact.bytes());
}

TEST(CompactWeights, PartsAndOrders) {
  const Pair p({6, 5});
  const Tensor wide = p.narrow.to(DType::f32);
  EXPECT_EQ(compact_rows(p.compact.slice(0, 2, 4))->rows, 2);
  EXPECT_FALSE(compact_rows(p.compact.slice(1, 0, 2)));
  EXPECT_FALSE(compact_rows(p.compact.transpose(0, 1)));
  EXPECT_FALSE(compact_rows(wide));
  const std::vector<int64_t> order = {5, 0, 1, 4, 3, 2};
  const Tensor turned = compact_rows_in_order(p.compact, order);
  for (size_t i = 0; i < order.size(); ++i)
    EXPECT_TRUE(bit_identical(widened(turned.select(0, int64_t(i))),
                              wide.select(0, order[i]).contiguous()));
  EXPECT_TRUE(bit_identical(as_bf16(p.compact), p.narrow));
  EXPECT_TRUE(bit_identical(as_bf16(p.compact.slice(0, 2, 4)), p.narrow.slice(0, 2, 4)));
  EXPECT_TRUE(bit_identical(as_bf16(turned).to(DType::f32), widened(turned)));
  EXPECT_FALSE(as_bf16(wide));
  EXPECT_FALSE(as_bf16(Pair({6, 5}, DType::f16).compact));
}

TEST(CompactWeights, WhatIsNoMatrixOfSixteenBitsIsRefused) {
  EXPECT_THAT(testing::message_of<UserError>([] {
                compact_tensor(Tensor::zeros({2, 3}, DType::f32));
              }),
              HasSubstr("wanted a contiguous matrix of f16 or bf16"));
  EXPECT_THAT(testing::message_of<UserError>([] {
                compact_tensor({CompactType::q8_0, nullptr, 34, 2, 33}, nullptr);
              }),
              HasSubstr("a row of 33 Q8_0 takes no 34 bytes"));
}

TEST(CompactWeights, TheEnvironmentDecides) {
  ::setenv("REVERIE_WEIGHTS", "f32", 1);
  EXPECT_FALSE(keeps_weights_compact());
  ::setenv("REVERIE_WEIGHTS", "compact", 1);
  EXPECT_TRUE(keeps_weights_compact());
  ::setenv("REVERIE_WEIGHTS", "f16", 1);
  EXPECT_THAT(testing::message_of<ConfigError>([] { keeps_weights_compact(); }),
              HasSubstr("wanted compact or f32"));
  ::unsetenv("REVERIE_WEIGHTS");
  EXPECT_TRUE(keeps_weights_compact());
}

TEST(CompactWeights, ADryRunCountsThemAsOnAGpu) {
  constexpr Device kCpu, kGpu{DeviceKind::cuda, 0};
  EXPECT_FALSE(as_on_gpu(kCpu));
  EXPECT_TRUE(as_on_gpu(kGpu));
  {
    const WeightsAsOn cpu(kCpu);
    EXPECT_FALSE(as_on_gpu(kCpu));
    const WeightsAsOn gpu(kGpu);
    EXPECT_TRUE(as_on_gpu(kCpu));
  }
  EXPECT_FALSE(as_on_gpu(kCpu));
}

TEST(CompactWeights, OnTheirOwnDeviceTheyAreThemselves) {
  const Pair p({6, 5});
  EXPECT_TRUE(compact_on(p.compact, Device{}).shares_storage_with(p.compact));
  EXPECT_THAT(testing::message_of<UserError>([] {
                compact_on(Tensor::zeros({2, 3}, DType::f32), Device{});
              }),
              HasSubstr("f32[2, 3] cpu is stored otherwise"));
}

}  // namespace
}  // namespace reverie
