// Tensors on device cuda: every way there and back. Skipped where no device is usable; emulated or
// real, the same.

#include "core/cuda.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "core/random.h"
#include "core/staging_buffer.h"
#include "core/tensor.h"
#include "support/message_of.h"

namespace reverie {
namespace {

using ::testing::HasSubstr;
using testing::message_of;

constexpr Device kCuda{DeviceKind::cuda, 0};

Tensor numbers(const Shape& shape) {
  Generator random(3);
  return random.normal(shape, 0, 1, DType::f32);
}

class CudaTensor : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  }
};

TEST(Cuda, IsRefusedWithTheReasonWhereThereIsNone) {
  if (cuda::status().usable) GTEST_SKIP() << "device cuda is usable here";
  EXPECT_THAT(message_of<UserError>([] { numbers({3}).to(kCuda); }),
              HasSubstr(cuda::status().in_words));
}

TEST_F(CudaTensor, GoesThereAndBack) {
  const Tensor x = numbers({7, 5});
  const Tensor there = x.to(kCuda);
  EXPECT_EQ(there.device(), kCuda);
  EXPECT_EQ(there.str(), "f32[7, 5] cuda");
  EXPECT_FALSE(there.shares_storage_with(x));
  EXPECT_TRUE(bit_identical(there, x));
  EXPECT_TRUE(bit_identical(there.to(Device{}), x));
  EXPECT_TRUE(bit_identical(there.clone(), x));
  EXPECT_EQ(there.to_vector(), x.to_vector());
  EXPECT_EQ(Tensor::full({1}, 2.5, DType::f64, kCuda).item(), 2.5);
  EXPECT_EQ(Tensor::empty({0, 4}, DType::f32).to(kCuda).numel(), 0);
}

TEST_F(CudaTensor, ViewsAreCopiedAsTheyAreSeen) {
  const Tensor x = numbers({6, 8}), there = x.to(kCuda);
  for (const auto& view :
       {std::function<Tensor(const Tensor&)>([](const Tensor& t) { return t.transpose(0, 1); }),
        {[](const Tensor& t) { return t.slice(1, 2, 5); }},
        {[](const Tensor& t) { return t.slice(0, 1, 4); }},
        {[](const Tensor& t) { return t.select(0, 3); }}}) {
    EXPECT_TRUE(bit_identical(view(there).to(Device{}), view(x).clone()));
    EXPECT_TRUE(bit_identical(view(there).contiguous(), view(x).contiguous()));
    EXPECT_TRUE(bit_identical(view(x).to(kCuda), view(x).clone()));
  }
  EXPECT_TRUE(bit_identical(there.to(DType::bf16), x.to(DType::bf16)));
}

TEST_F(CudaTensor, PartsAreWrittenAndTheRestStays) {
  Tensor here = numbers({6, 8}), there = here.to(kCuda);
  const Tensor more = numbers({6, 3});
  for (Tensor* t : {&here, &there}) {
    Tensor columns = t->slice(1, 2, 5), row = t->slice(0, 4, 5), last = t->slice(1, 7, 8);
    columns.copy_from(t == &here ? more : more.to(kCuda));
    row.fill(0);
    last.fill(1.5);
    const uint32_t before = t->version();
    columns.copy_from(more.to(DType::f64));
    EXPECT_GT(t->version(), before);
  }
  EXPECT_TRUE(bit_identical(here, there));
  EXPECT_EQ(Tensor::zeros({3}, DType::i64, kCuda).to_vector(), std::vector<double>(3, 0));
}

TEST_F(CudaTensor, TheHostDoesNotReadItsElements) {
  Tensor there = numbers({3}).to(kCuda);
  EXPECT_THAT(message_of<InternalError>([&] { there.mutable_data<float>(); }),
              HasSubstr("the elements of f32[3] cuda are not on the cpu"));
}

// A tensor of the host over the buffer's bytes; the buffer must live as long.
Tensor over(cuda::StagingBuffer& buffer, const Shape& shape) {
  auto storage = std::make_shared<Storage>(buffer.host(), buffer.bytes(), Device{}, [] {});
  return Tensor::over(std::move(storage), shape, DType::f32);
}

TEST_F(CudaTensor, StagingBuffersAreTakenAsTheyWereSent) {
  cuda::StagingBuffer one(4 * 42), two(4 * 42);
  Tensor first = over(one, {6, 7}), second = over(two, {6, 7});
  const Tensor x = numbers({6, 7});
  first.copy_from(x);
  second.fill(2);
  EXPECT_TRUE(bit_identical(first.to(kCuda), x)) << "not sent yet";
  one.upload();
  two.upload();
  const Tensor there = first.to(kCuda);
  EXPECT_TRUE(bit_identical(there, x));
  EXPECT_TRUE(bit_identical(first, x)) << "the host may read it still";
  EXPECT_TRUE(bit_identical(first.slice(0, 2, 5).to(kCuda), x.slice(0, 2, 5)));
  EXPECT_TRUE(bit_identical(second.to(kCuda), Tensor::full({6, 7}, 2, DType::f32)));
  // What was taken is its taker's.
  one.host();
  first.fill(3);
  one.upload();
  EXPECT_TRUE(bit_identical(there, x));
  EXPECT_TRUE(bit_identical(first.to(kCuda), Tensor::full({6, 7}, 3, DType::f32)));
}

TEST_F(CudaTensor, StagingBufferIsNotChangedOnItsWay) {
  if (cuda::status().flavour != cuda::Flavour::emulated) GTEST_SKIP() << "only emulation sees it";
  cuda::StagingBuffer buffer(4 * 3);
  Tensor x = over(buffer, {3});
  x.fill(1);
  buffer.upload();
  x.fill(2);
  EXPECT_THAT(message_of<InternalError>([&] { x.to(kCuda); }), HasSubstr("after it was sent"));
  buffer.host();
  EXPECT_EQ(x.to(kCuda).to_vector(), std::vector<double>(3, 2));
}

TEST(Cuda, StagingBuffersAreRefusedWhereThereIsNoDevice) {
  if (cuda::status().usable) GTEST_SKIP() << "device cuda is usable here";
  EXPECT_THAT(message_of<UserError>([] { cuda::StagingBuffer(4); }),
              HasSubstr(cuda::status().in_words));
}

TEST_F(CudaTensor, MemoryIsCounted) {
  const size_t before = allocator(kCuda).stats().in_use;
  {
    const Tensor t = Tensor::empty({1024}, DType::f32, kCuda);
    EXPECT_GE(allocator(kCuda).stats().in_use, before + 4096);
  }
  EXPECT_EQ(allocator(kCuda).stats().in_use, before);
  allocator(kCuda).reset_peak();
  EXPECT_EQ(allocator(kCuda).stats().peak, before);
}

}  // namespace
}  // namespace reverie
