// Tensors as values, views of them, and the memory beneath.

#include "core/tensor.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <thread>

#include "core/compact_weights.h"
#include "core/error.h"
#include "core/fixtures.h"
#include "core/rounded_copy.h"
#include "support/message_of.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Tensor counting(const Shape& shape) {
  Tensor t = Tensor::empty(shape, DType::f32);
  float* p = t.mutable_data<float>();
  for (int64_t i = 0; i < t.numel(); ++i) p[i] = float(i);
  return t;
}

TEST(Shape, CountsAndCompares) {
  const Shape s{2, 3, 4};
  EXPECT_EQ(s.rank(), 3);
  EXPECT_EQ(s[-1], 4);
  EXPECT_EQ(s.numel(), 24);
  EXPECT_EQ(s.str(), "[2, 3, 4]");
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_EQ(Shape{}.str(), "[]");
  EXPECT_TRUE((s == Shape{2, 3, 4}));
  EXPECT_FALSE((s == Shape{2, 3}));
  EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1}), UserError);
}

TEST(Float16, RoundsToNearestEvenAndKeepsSpecials) {
  // The value of every bit pattern, by the definition.
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    Float16 h;
    h.bits = uint16_t(bits);
    const int exponent = int(bits >> 10 & 31), fraction = int(bits & 1023);
    const double sign = bits >> 15 ? -1 : 1;
    if (exponent == 31 && fraction != 0) {
      EXPECT_TRUE(std::isnan(float(h)));
      EXPECT_TRUE(std::isnan(float(Float16(float(h)))));
      continue;
    }
    const double value = exponent == 31  ? sign * INFINITY
                         : exponent == 0 ? sign * std::ldexp(fraction, -24)
                                         : sign * std::ldexp(1024 + fraction, exponent - 25);
    ASSERT_EQ(double(float(h)), value) << bits;
    ASSERT_EQ(Float16(float(h)).bits, bits);
    if (exponent == 31 || bits >> 15) continue;
    // Half way to the next one: to the even of the two; a little less or more: to the nearer.
    const float half = float(exponent == 0 ? std::ldexp(fraction + 0.5, -24)
                                           : std::ldexp(1024 + fraction + 0.5, exponent - 25));
    ASSERT_EQ(Float16(half).bits, bits + (bits & 1)) << bits;
    ASSERT_EQ(Float16(std::nextafter(half, 0.0f)).bits, bits) << bits;
    ASSERT_EQ(Float16(std::nextafter(half, INFINITY)).bits, bits + 1) << bits;
    ASSERT_EQ(Float16(-half).bits, (bits + (bits & 1)) | 0x8000u) << bits;
  }
  EXPECT_EQ(Tensor::full({2}, 1.5, DType::f16).to_vector(), (std::vector<double>{1.5, 1.5}));
}

TEST(BFloat16, RoundsToNearestEvenAndKeepsSpecials) {
  const auto round = [](float v) { return float(BFloat16(v)); };
  EXPECT_EQ(round(1.0f), 1.0f);
  EXPECT_EQ(round(1.00390625f), 1.0f);       // 1 + 2^-8: halfway, to even
  EXPECT_EQ(round(1.01171875f), 1.015625f);  // 1 + 3 * 2^-8: halfway, to even
  EXPECT_EQ(round(1.005f), 1.0078125f);
  EXPECT_EQ(round(std::numeric_limits<float>::max()), std::numeric_limits<float>::infinity());
  EXPECT_EQ(round(-std::numeric_limits<float>::infinity()),
            -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::signbit(round(-0.0f)));
  for (const uint32_t bits :
       {0x7fc00000u, 0x7f800001u, 0xffffffffu})  // also the NaN whose high half is infinity
    EXPECT_TRUE(std::isnan(round(std::bit_cast<float>(bits)))) << bits;
}

TEST(Tensor, MakesFillsAndReads) {
  EXPECT_EQ(Tensor::zeros({2, 2}, DType::i64).to_vector(), (std::vector<double>{0, 0, 0, 0}));
  EXPECT_EQ(Tensor::full({2}, 1.5, DType::bf16).to_vector(), (std::vector<double>{1.5, 1.5}));
  const Tensor t = Tensor::from<int32_t>({3}, {1, 2, 3});
  EXPECT_EQ(t.dtype(), DType::i32);
  EXPECT_EQ(t.str(), "i32[3] cpu");
  EXPECT_EQ(Tensor::full({}, 7, DType::f64).item(), 7);
  EXPECT_EQ(Tensor::zeros({0, 5}, DType::f32).numel(), 0);
  EXPECT_THROW(Tensor::from<float>({2}, {1, 2, 3}), UserError);
  EXPECT_THROW(t.item(), UserError);
  EXPECT_THAT(message_of<UserError>([&] { t.data<float>(); }), HasSubstr("wanted a tensor of f32"));
  EXPECT_THROW(Tensor::empty({-1}, DType::f32), UserError);
  EXPECT_THROW(Tensor::empty({int64_t(1) << 40, int64_t(1) << 40}, DType::f32), UserError);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(t.raw()) % 64, 0u);
}

TEST(Tensor, AnUndefinedTensorIsNoTensor) {
  Tensor t;
  EXPECT_FALSE(t.defined());
  EXPECT_FALSE(t);
  EXPECT_EQ(t.version(), 0u);
  EXPECT_THROW(t.raw(), InternalError);
  EXPECT_THROW(t.mutable_raw(), InternalError);
  EXPECT_TRUE(bit_identical(t, Tensor()));
  EXPECT_FALSE(bit_identical(t, counting({1})));
}

TEST(Tensor, CopiesAndViewsShareStorageAndClonesDoNot) {
  Tensor a = counting({2, 3});
  EXPECT_TRUE(a.unique());
  const Tensor b = a;
  EXPECT_FALSE(a.unique());
  a.fill(5);
  EXPECT_EQ(b.to_vector()[3], 5);
  EXPECT_TRUE(a.shares_storage_with(a.slice(0, 1, 2)));
  EXPECT_FALSE(a.shares_storage_with(a.clone()));
  EXPECT_TRUE(bit_identical(a, a.clone()));
}

TEST(Tensor, Slices) {
  const Tensor t = counting({3, 4});
  EXPECT_EQ(t.slice(0, 1, 3).to_vector(), (std::vector<double>{4, 5, 6, 7, 8, 9, 10, 11}));
  EXPECT_TRUE(t.slice(0, 1, 3).is_contiguous());
  const Tensor columns = t.slice(-1, 1, 3);
  EXPECT_EQ(columns.to_vector(), (std::vector<double>{1, 2, 5, 6, 9, 10}));
  EXPECT_FALSE(columns.is_contiguous());
  EXPECT_EQ(columns.contiguous().to_vector(), columns.to_vector());
  EXPECT_TRUE(columns.contiguous().is_contiguous());
  EXPECT_EQ(columns.slice(0, 1, 2).slice(1, 1, 2).item(), 6);
  EXPECT_EQ(t.slice(1, 2, 2).numel(), 0);
  EXPECT_EQ(t.select(0, 1).shape(), (Shape{4}));
  EXPECT_EQ(t.select(1, 2).to_vector(), (std::vector<double>{2, 6, 10}));
  EXPECT_THROW(t.slice(0, 2, 4), UserError);
  EXPECT_THROW(t.slice(0, 2, 1), UserError);
  EXPECT_THROW(t.slice(0, -1, 1), UserError);
  EXPECT_THROW(t.slice(2, 0, 1), UserError);
  EXPECT_THROW(t.select(0, 3), UserError);
}

TEST(Tensor, Transposes) {
  const Tensor t = counting({2, 3, 4});
  const Tensor u = t.transpose(0, -1);
  EXPECT_EQ(u.shape(), (Shape{4, 3, 2}));
  EXPECT_FALSE(u.is_contiguous());
  const std::vector<double> v = u.to_vector();
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 3; ++j)
      for (int k = 0; k < 2; ++k) EXPECT_EQ(v[size_t((i * 3 + j) * 2 + k)], (k * 3 + j) * 4 + i);
  EXPECT_TRUE(bit_identical(u.transpose(2, 0), t));
  EXPECT_TRUE(bit_identical(u.contiguous(), u));
  EXPECT_THROW(t.transpose(0, 3), UserError);
  EXPECT_TRUE(counting({1, 5}).transpose(0, 1).is_contiguous());  // a dimension of one has no order
}

TEST(Tensor, ViewsReshapeContiguousTensors) {
  const Tensor t = counting({2, 6});
  EXPECT_EQ(t.view({3, -1}).shape(), (Shape{3, 4}));
  EXPECT_EQ(t.view({12}).to_vector(), t.to_vector());
  EXPECT_EQ(t.slice(0, 1, 2).view({2, 3}).to_vector(), (std::vector<double>{6, 7, 8, 9, 10, 11}));
  EXPECT_EQ(counting({1}).view({}).rank(), 0);
  EXPECT_THROW(t.view({5, -1}), UserError);
  EXPECT_THROW(t.view({-1, -1}), UserError);
  EXPECT_THROW(t.view({11}), UserError);
  EXPECT_THROW(t.view({-3, -4}), UserError);
  EXPECT_THROW(t.transpose(0, 1).view({12}), UserError);
}

TEST(Tensor, OverChecksThatItFits) {
  const auto storage = std::make_shared<Storage>(size_t(16), Device{});
  EXPECT_NO_THROW(Tensor::over(storage, {4}, DType::f32));
  EXPECT_NO_THROW(Tensor::over(storage, {1}, DType::f64, 1));
  EXPECT_THROW(Tensor::over(storage, {4}, DType::f32, 1), UserError);
  EXPECT_THROW(Tensor::over(storage, {3}, DType::f64), UserError);
  EXPECT_THROW(Tensor::over(storage, {1}, DType::f32, -1), UserError);
  EXPECT_THROW(Tensor::over(storage, {int64_t(1) << 62, 4}, DType::f32), UserError);
}

TEST(Tensor, Casts) {
  const Tensor t = Tensor::from<double>({4}, {-1.5, 0.0, 2.75, 100.0});
  EXPECT_TRUE(t.to(DType::f64).shares_storage_with(t));
  EXPECT_EQ(t.to(DType::f32).to_vector(), t.to_vector());
  EXPECT_EQ(t.to(DType::i32).to_vector(), (std::vector<double>{-1, 0, 2, 100}));
  EXPECT_EQ(t.to(DType::bf16).to_vector(), t.to_vector());
  EXPECT_EQ(Tensor::from<float>({1}, {1.005f}).to(DType::bf16).item(), 1.0078125);
  EXPECT_EQ(counting({2, 3}).transpose(0, 1).to(DType::i64).to_vector(),
            (std::vector<double>{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(Tensor::from<int64_t>({1}, {int64_t(1) << 40}).to(DType::f32).item(),
            double(int64_t(1) << 40));
}

TEST(Tensor, CopyFromWritesThroughViews) {
  Tensor t = Tensor::zeros({2, 3}, DType::f32);
  Tensor column = t.slice(1, 1, 2);
  column.copy_from(Tensor::from<double>({2, 1}, {7, 8}));
  EXPECT_EQ(t.to_vector(), (std::vector<double>{0, 7, 0, 0, 8, 0}));
  column.fill(1);
  EXPECT_EQ(t.to_vector(), (std::vector<double>{0, 1, 0, 0, 1, 0}));
  EXPECT_THROW(t.copy_from(column), UserError);
}

TEST(Tensor, VersionsCountWritesToTheStorage) {
  Tensor t = Tensor::zeros({4}, DType::f32);
  const uint32_t before = t.version();
  (void)t.data<float>();
  (void)t.to_vector();
  const Tensor view = t.slice(0, 0, 2);
  EXPECT_EQ(t.version(), before);
  t.mutable_data<float>();
  EXPECT_GT(t.version(), before);
  EXPECT_EQ(view.version(), t.version());  // a view is as old as what it shows
  const uint32_t after = t.version();
  Tensor(view).fill(3);
  EXPECT_GT(t.version(), after);
}

TEST(Tensor, BitIdenticalIsExact) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(bit_identical(Tensor::from<float>({1}, {nan}), Tensor::from<float>({1}, {nan})));
  EXPECT_FALSE(bit_identical(Tensor::from<float>({1}, {0.0f}), Tensor::from<float>({1}, {-0.0f})));
  EXPECT_FALSE(bit_identical(counting({4}), counting({2, 2})));
  EXPECT_FALSE(bit_identical(Tensor::zeros({1}, DType::f32), Tensor::zeros({1}, DType::i32)));
}

TEST(Storage, ForeignMemoryIsReleasedWithTheLastTensor) {
  float memory[4] = {1, 2, 3, 4};
  int released = 0;
  {
    Tensor t = Tensor::over(
        std::make_shared<Storage>(memory, sizeof memory, Device{}, [&] { ++released; }), {4},
        DType::f32);
    const Tensor view = t.slice(0, 2, 3);
    t = Tensor();
    EXPECT_EQ(view.item(), 3);
    EXPECT_EQ(released, 0);
  }
  EXPECT_EQ(released, 1);
}

TEST(CpuAllocator, ReusesFreedBlocksAndCountsThem) {
  Allocator& cpu = allocator({});
  cpu.release_cached();
  cpu.reset_peak();
  const AllocatorStats start = cpu.stats();
  constexpr size_t kBytes = 3'000'001;
  void* first = cpu.allocate(kBytes);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  const AllocatorStats held = cpu.stats();
  EXPECT_GE(held.in_use, start.in_use + kBytes);
  EXPECT_GE(held.reserved, start.reserved + kBytes);
  cpu.free(first, kBytes);
  EXPECT_EQ(cpu.stats().in_use, start.in_use);
  EXPECT_EQ(cpu.stats().reserved, held.reserved);  // kept for the next one
  void* second = cpu.allocate(kBytes);
  EXPECT_EQ(second, first);
  EXPECT_EQ(cpu.stats().reserved, held.reserved);
  EXPECT_EQ(cpu.stats().peak, held.in_use);
  void* third = cpu.allocate(kBytes);
  EXPECT_NE(third, second);
  const size_t both = cpu.stats().in_use;
  cpu.free(second, kBytes);
  cpu.free(third, kBytes);
  EXPECT_EQ(cpu.stats().peak, both);  // the peak stays until it is reset
  cpu.reset_peak();
  EXPECT_EQ(cpu.stats().peak, start.in_use);
  cpu.release_cached();
  EXPECT_EQ(cpu.stats().reserved, start.reserved);
}

TEST(CpuAllocator, EverySizeIsWritableAndKeptApart) {
  Allocator& cpu = allocator({});
  std::vector<std::pair<unsigned char*, size_t>> blocks;
  for (size_t n = 0; n < 5000; n += n < 1100 ? 1 : 97)
    blocks.emplace_back(static_cast<unsigned char*>(cpu.allocate(n)), n);
  for (size_t i = 0; i < blocks.size(); ++i)
    std::fill_n(blocks[i].first, blocks[i].second, static_cast<unsigned char>(i));
  for (size_t i = 0; i < blocks.size(); ++i)
    for (size_t j = 0; j < blocks[i].second; ++j)
      ASSERT_EQ(blocks[i].first[j], static_cast<unsigned char>(i)) << blocks[i].second;
  for (const auto& [p, n] : blocks) cpu.free(p, n);
}

TEST(CpuAllocator, TooMuchIsTheMachinesError) {
  const AllocatorStats before = allocator({}).stats();
  EXPECT_THAT(message_of<MachineError>([] { Tensor::empty({int64_t(1) << 50}, DType::u8); }),
              HasSubstr("out of memory"));
  EXPECT_EQ(allocator({}).stats().in_use, before.in_use);
}

TEST(CpuAllocator, ServesManyThreads) {
  const size_t before = allocator({}).stats().in_use;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([i] {
      for (int64_t n = 1; n < 400; ++n) {
        Tensor t = Tensor::full({n}, i, DType::i32);
        ASSERT_EQ(t.to_vector().back(), i);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(allocator({}).stats().in_use, before);
}

TEST(RoundedCopy, IsGoodUntilTheNextWrite) {
  Tensor weights = counting({4, 6}), rounded = weights.to(DType::bf16);
  EXPECT_FALSE(rounded_copy(weights));
  keep_rounded_copy(weights, rounded);
  EXPECT_TRUE(bit_identical(rounded_copy(weights), rounded));
  EXPECT_TRUE(rounded_copy(weights).shares_storage_with(rounded));
  const Tensor rows = rounded_copy(weights.slice(0, 1, 3));
  EXPECT_TRUE(bit_identical(rows, rounded.slice(0, 1, 3)));
  EXPECT_TRUE(bit_identical(rounded_copy(weights.view({24})), rounded.view({24})));
  EXPECT_FALSE(rounded_copy(weights.transpose(0, 1)));
  EXPECT_FALSE(rounded_copy(rounded));
  weights.fill(1);
  EXPECT_FALSE(rounded_copy(weights));
  EXPECT_FALSE(rounded_copy(Tensor()));
}

TEST(RoundedCopy, WantsWholeStoragesOfOneShape) {
  const Tensor weights = counting({4, 6}), rounded = weights.to(DType::bf16);
  for (const auto& [w, r] : {std::pair{weights, weights},
                             {weights, rounded.slice(0, 0, 2)},
                             {weights.slice(0, 0, 2), rounded.slice(0, 0, 2)}})
    EXPECT_THAT(testing::message_of<UserError>([&] { keep_rounded_copy(w, r); }),
                HasSubstr("wanted a whole storage of f32"));
}

TEST(RoundedCopy, MayBePartOfALargerStorage) {
  Tensor weights = counting({4, 6}), all = Tensor::zeros({40}, DType::bf16);
  const Tensor rounded = all.slice(0, 8, 32).view({4, 6});
  Tensor(rounded).copy_from(weights.to(DType::bf16));
  keep_rounded_copy(weights, rounded);
  EXPECT_TRUE(bit_identical(rounded_copy(weights), weights.to(DType::bf16)));
  EXPECT_TRUE(rounded_copy(weights).shares_storage_with(all));
  EXPECT_TRUE(
      bit_identical(rounded_copy(weights.slice(0, 2, 4)), weights.slice(0, 2, 4).to(DType::bf16)));
}

TEST(RoundedCopy, MayBeAllThatIsThere) {
  const Tensor rounded = counting({4, 6}).to(DType::bf16), weights = only_rounded(rounded);
  EXPECT_EQ(weights.str(), "f32[4, 6] cpu");
  EXPECT_TRUE(bit_identical(rounded_copy(weights), rounded));
  EXPECT_TRUE(bit_identical(rounded_copy(weights.slice(0, 1, 3)), rounded.slice(0, 1, 3)));
  EXPECT_FALSE(is_compact(weights));
  Tensor other = Tensor::empty({4, 6}, DType::f32), written = weights;
  for (const auto& [what, use] :
       {std::pair<const char*, std::function<void()>>{"read", [&] { weights.to_vector(); }},
        {"copied", [&] { other.copy_from(weights); }},
        {"written", [&] { written.fill(1); }}})
    EXPECT_THAT(testing::message_of<UserError>(use), HasSubstr("in bf16 alone")) << what;
}

}  // namespace
}  // namespace reverie
