// Weights that stay as a file has them: every kernel that reads them as they are gives what it gives
// for the widened ones.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/compact_weights.h"
#include "core/cuda.h"
#include "core/error.h"
#include "core/gguf.h"
#include "core/random.h"
#include "kernels/copy.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/matmul.h"
#include "support/message_of.h"

namespace reverie::test {
namespace {

constexpr CompactType kTypes[] = {
    CompactType::f16,  CompactType::q4_0, CompactType::q4_1, CompactType::q5_0, CompactType::q5_1,
    CompactType::q8_0, CompactType::q4_k, CompactType::q5_k, CompactType::q6_k, CompactType::bf16};

std::string name_of(CompactType type) {
  return std::string(gguf_layout(uint32_t(type))->name);
}

// Where a block keeps its scales in half precision; -1: none.
struct Halves {
  int first, second;
};
Halves halves_of(CompactType type) {
  switch (type) {
    case CompactType::q4_1:
    case CompactType::q5_1:
    case CompactType::q4_k:
    case CompactType::q5_k:
      return {0, 2};
    case CompactType::q6_k:
      return {208, -1};
    case CompactType::f16:
    case CompactType::bf16:
      return {-1, -1};
    default:
      return {0, -1};
  }
}

// Random blocks whose scales are small numbers of either sign.
Tensor random_weights(CompactType type, int64_t rows, int64_t columns, uint64_t seed) {
  const GgufLayout& layout = *gguf_layout(uint32_t(type));
  Generator random(seed);
  const int64_t blocks = columns / int64_t(layout.elements),
                row_bytes = blocks * int64_t(layout.bytes);
  auto storage = std::make_shared<Storage>(size_t(rows * row_bytes), Device{});
  auto* bytes = static_cast<std::byte*>(storage->data());
  const auto small = [&] { return 0.05f * (float(random.below(2001)) / 1000 - 1); };
  for (int64_t i = 0; i < rows * row_bytes; ++i) bytes[i] = std::byte(random.below(256));
  const Halves halves = halves_of(type);
  for (int64_t block = 0; block < rows * blocks; ++block) {
    std::byte* at = bytes + block * int64_t(layout.bytes);
    const auto put = [&](int where, uint16_t bits) { std::memcpy(at + where, &bits, 2); };
    for (const int where : {halves.first, halves.second})
      if (where >= 0) put(where, Float16(small()).bits);
    if (type == CompactType::f16) put(0, Float16(small()).bits);
    if (type == CompactType::bf16) put(0, BFloat16(small()).bits);
  }
  return compact_tensor({type, bytes, row_bytes, rows, columns}, storage);
}

// Columns that are whole blocks of every type, or end within a vector where rows may.
std::vector<int64_t> columns_of_type(CompactType type) {
  if (type == CompactType::f16 || type == CompactType::bf16) return {1, 7, 64, 83, 1057};
  const auto block = int64_t(gguf_layout(uint32_t(type))->elements);
  return {block, 3 * block, 1280};
}

Tensor random(const Shape& shape, uint64_t seed) {
  return Generator(seed).normal(shape, 0, 1, DType::f32);
}

Tensor product(const Tensor& a, const Tensor& b, double alpha = 1, Tensor onto = {}) {
  Shape shape = a.shape();
  shape[-1] = b.size(-1);
  Tensor c = onto ? onto.clone() : Tensor::empty(shape, DType::f32);
  kernel::matmul({}, {a, b, alpha, onto.defined(), c});
  return c;
}

// The largest error, as a share of what sums of so many terms of such sizes may be off by.
double error_share(const Tensor& got, const Tensor& a, const Tensor& wide, double alpha,
                   const Tensor& onto) {
  const std::vector<double> x = a.to_vector(), w = wide.to_vector(), y = got.to_vector(),
                            before = onto ? onto.to_vector() : std::vector<double>(y.size(), 0);
  const int64_t n = wide.size(1), k = wide.size(0), m = int64_t(x.size()) / k;
  double worst = 0;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0, size = 0;
      for (int64_t t = 0; t < k; ++t) {
        const double term = alpha * x[size_t(i * k + t)] * w[size_t(t * n + j)];
        sum += term;
        size += std::abs(term);
      }
      const double had = before[size_t(i * n + j)], bound = (size + std::abs(had)) * double(k + 2);
      worst = std::max(worst, std::abs(y[size_t(i * n + j)] - sum - had) / (bound * 0x1p-24));
    }
  return worst;
}

class EveryIsa : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam())) GTEST_SKIP() << "this machine lacks the instruction set";
    before_ = active_isa();
    set_active_isa(GetParam());
    widened_ = widened_for_good();
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(widened_for_good(), widened_) << "a kernel did not know compact weights";
    set_active_isa(before_);
  }

 private:
  Isa before_{};
  int64_t widened_ = 0;
};

// Row by row, in the order in which the widened weights are summed.
TEST_P(EveryIsa, FewRowsGiveTheBitsOfTheWidenedWeights) {
  for (const CompactType type : kTypes)
    for (const int64_t columns : columns_of_type(type))
      for (const int64_t rows : {2, 67, 130}) {  // a single column is summed otherwise
        const Tensor weights = random_weights(type, rows, columns, 3), wide = widened(weights);
        for (const int64_t m : {1, 2, 3, 4, 5, 8}) {
          const Tensor a = random({m, columns}, 4), onto = random({m, rows}, 5);
          const std::string where =
              name_of(type) + " " + weights.str() + ", rows of a " + std::to_string(m);
          const Tensor got = product(a, weights.transpose(0, 1));
          EXPECT_LE(error_share(got, a, wide.transpose(0, 1), 1, {}), 1) << where;
          // How the end of a row that fills no vector is summed is the compiler's choice.
          if (columns % 16 == 0) {
            EXPECT_TRUE(bit_identical(got, product(a, wide.transpose(0, 1)))) << where;
          }
          EXPECT_LE(error_share(product(a, weights.transpose(0, 1), 0.5, onto), a,
                                wide.transpose(0, 1), 0.5, onto),
                    1)
              << where;
        }
      }
}

TEST_P(EveryIsa, ManyRowsAndBothDirectionsStayWithinTheBoundOfSums) {
  for (const CompactType type : kTypes)
    for (const int64_t columns : columns_of_type(type)) {
      const Tensor weights = random_weights(type, 131, columns, 6), wide = widened(weights),
                   part = weights.slice(0, 3, 90), wide_part = wide.slice(0, 3, 90);
      for (const int64_t m : {1, 9, 40}) {
        const std::string where =
            name_of(type) + " " + weights.str() + ", rows of a " + std::to_string(m);
        const Tensor a = random({m, columns}, 7), g = random({m, 131}, 8);
        const Tensor onto = random({m, columns}, 9);
        EXPECT_LE(error_share(product(a, weights.transpose(0, 1)), a, wide.transpose(0, 1), 1, {}),
                  1)
            << where;
        EXPECT_LE(
            error_share(product(a, part.transpose(0, 1)), a, wide_part.transpose(0, 1), 1, {}), 1)
            << where;
        EXPECT_LE(error_share(product(g, weights), g, wide, 1, {}), 1) << where;
        EXPECT_LE(error_share(product(g, weights, 2, onto), g, wide, 2, onto), 1) << where;
      }
    }
}

// More rows of weights than a panel holds.
TEST_P(EveryIsa, SeveralPanels) {
  const Tensor weights = random_weights(CompactType::q8_0, 700, 1280, 10), wide = widened(weights);
  const Tensor a = random({9, 1280}, 11), g = random({9, 700}, 12);
  EXPECT_LE(error_share(product(a, weights.transpose(0, 1)), a, wide.transpose(0, 1), 1, {}), 1);
  EXPECT_LE(error_share(product(g, weights), g, wide, 1, {}), 1);
}

TEST_P(EveryIsa, BatchesWhoseRowsAreApart) {
  const Tensor weights = random_weights(CompactType::q4_1, 70, 64, 13), wide = widened(weights);
  const Tensor a = random({3, 24, 64}, 14), some = a.slice(1, 2, 22);
  Tensor got = product(some, weights.transpose(0, 1));
  const Tensor plain = some.contiguous();
  EXPECT_LE(error_share(got, plain, wide.transpose(0, 1), 1, {}), 1);
}

TEST_P(EveryIsa, ABiasComesWithTheProduct) {
  const Tensor weights = random_weights(CompactType::q5_0, 70, 64, 15), x = random({2, 64}, 16),
               bias = random({70}, 17);
  Tensor y = Tensor::empty({2, 70}, DType::f32), z = y.clone();
  kernel::linear_forward({}, {x, weights.transpose(0, 1), bias, y});
  kernel::linear_forward({}, {x, widened(weights).transpose(0, 1), bias, z});
  EXPECT_TRUE(bit_identical(y, z));
}

TEST_P(EveryIsa, LookUpsGiveTheBitsOfTheWidenedTable) {
  for (const CompactType type : kTypes)
    for (const int64_t columns : columns_of_type(type)) {
      const Tensor table = random_weights(type, 50, columns, 18), wide = widened(table);
      const Tensor tokens = Tensor::from<int32_t>({6}, {49, 0, 7, 7, 48, 1});
      for (const Tensor& positions : {Tensor(), random({5, columns}, 19)}) {
        Tensor y = Tensor::empty({6, columns}, DType::f32), z = y.clone();
        kernel::embedding_forward({}, {tokens, table, positions, 1, 3, y});
        kernel::embedding_forward({}, {tokens, wide, positions, 1, 3, z});
        EXPECT_TRUE(bit_identical(y, z)) << name_of(type) << " " << table.str();
      }
    }
}

TEST_P(EveryIsa, RoundingToBf16IsThatOfTheWidenedWeights) {
  for (const CompactType type : kTypes) {
    const Tensor weights = random_weights(type, 40, 256, 20);
    Tensor y = Tensor::empty(weights.shape(), DType::bf16), z = y.clone();
    kernel::cast({}, {weights, y});
    kernel::cast({}, {widened(weights), z});
    EXPECT_TRUE(bit_identical(y, z)) << name_of(type);
  }
}

// The comparisons above can fail: a bit of one block is enough.
TEST_P(EveryIsa, AChangedBitIsSeen) {
  for (const CompactType type : kTypes) {
    const Tensor weights = random_weights(type, 67, 256, 21), wide = widened(weights);
    const auto rows = *compact_rows(weights);
    const_cast<std::byte&>(rows.bytes[66 * rows.row_bytes + 20]) ^= std::byte(1 << 6);
    const Tensor a = random({1, 256}, 22), many = random({9, 256}, 23), g = random({9, 67}, 24),
                 last = Tensor::from<int32_t>({1}, {66});
    EXPECT_FALSE(
        bit_identical(product(a, weights.transpose(0, 1)), product(a, wide.transpose(0, 1))))
        << name_of(type);
    EXPECT_GT(
        error_share(product(many, weights.transpose(0, 1)), many, wide.transpose(0, 1), 1, {}), 1)
        << name_of(type);
    EXPECT_GT(error_share(product(g, weights), g, wide, 1, {}), 1) << name_of(type);
    Tensor y = Tensor::empty({1, 256}, DType::f32), z = y.clone();
    kernel::embedding_forward({}, {last, weights, Tensor(), 0, 1, y});
    kernel::embedding_forward({}, {last, wide, Tensor(), 0, 1, z});
    EXPECT_FALSE(bit_identical(y, z)) << name_of(type);
  }
}

// On a GPU, weights of bf16 stay so.
class OnAGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
    weights = compact_tensor(as_bf16(random_weights(CompactType::bf16, 67, 83, 31)).to(gpu));
    wide = widened(weights);
    widened_before = widened_for_good();
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(widened_for_good(), widened_before);
  }
  static constexpr Device gpu{DeviceKind::cuda, 0};
  Tensor weights, wide;
  int64_t widened_before = 0;
};

TEST_F(OnAGpu, ProductsAndLookUpsGiveTheBitsOfTheWidenedWeights) {
  EXPECT_EQ(stored_bytes(weights), wide.bytes() / 2);
  EXPECT_EQ(weights.device(), gpu);
  for (const Tensor& first : {random({5, 83}, 32), random({2, 5, 83}, 33)}) {
    const Tensor a = first.to(gpu), g = random({5, 67}, 34).to(gpu),
                 onto = random({5, 83}, 35).to(gpu);
    Shape shape = a.shape();
    shape[-1] = 67;
    Tensor got = Tensor::empty(shape, DType::f32, gpu), wanted = got.clone();
    kernel::matmul(gpu, {a, weights.transpose(0, 1), 0.5, false, got});
    kernel::matmul(gpu, {a, wide.transpose(0, 1), 0.5, false, wanted});
    EXPECT_TRUE(bit_identical(got, wanted));
    Tensor back = onto.clone(), wanted_back = onto.clone();
    kernel::matmul(gpu, {g, weights, 1.0, true, back});
    kernel::matmul(gpu, {g, wide, 1.0, true, wanted_back});
    EXPECT_TRUE(bit_identical(back, wanted_back));
  }
  const Tensor x = random({5, 83}, 36).to(gpu), bias = random({67}, 37).to(gpu),
               indices = Tensor::from<int32_t>({3}, {66, 0, 41}).to(gpu);
  Tensor y = Tensor::empty({5, 67}, DType::f32, gpu), z = y.clone();
  kernel::linear_forward(gpu, {x, weights.transpose(0, 1), bias, y});
  kernel::linear_forward(gpu, {x, wide.transpose(0, 1), bias, z});
  EXPECT_TRUE(bit_identical(y, z));
  Tensor found = Tensor::empty({3, 83}, DType::f32, gpu), wanted = found.clone();
  kernel::embedding_forward(gpu, {indices, weights, Tensor(), 0, 1, found});
  kernel::embedding_forward(gpu, {indices, wide, Tensor(), 0, 1, wanted});
  EXPECT_TRUE(bit_identical(found, wanted));
}

// The comparison above can fail.
TEST_F(OnAGpu, AChangedBitIsSeen) {
  Tensor narrow = as_bf16(weights).to(Device{});
  static_cast<BFloat16*>(narrow.mutable_raw())[66 * 83 + 20].bits ^= 1 << 7;
  const Tensor changed = compact_tensor(narrow.to(gpu)),
               a = Tensor::full({5, 83}, 1, DType::f32, gpu);
  Tensor got = Tensor::empty({5, 67}, DType::f32, gpu), wanted = got.clone();
  kernel::matmul(gpu, {a, changed.transpose(0, 1), 1.0, false, got});
  kernel::matmul(gpu, {a, wide.transpose(0, 1), 1.0, false, wanted});
  EXPECT_FALSE(bit_identical(got, wanted));
}

TEST_F(OnAGpu, OthersSeeElements) {
  EXPECT_TRUE(bit_identical(weights.to(Device{}), wide.to(Device{})));
  EXPECT_TRUE(bit_identical(weights.slice(0, 3, 9), wide.slice(0, 3, 9)));
  EXPECT_TRUE(bit_identical(weights.transpose(0, 1).contiguous(), wide.transpose(0, 1)));
  EXPECT_EQ(widened_for_good(), widened_before);
  // Whoever reads memory, or writes, has all of it in f32 from then on.
  EXPECT_TRUE(bit_identical(as_bf16(weights.slice(0, 3, 9)).to(DType::f32), wide.slice(0, 3, 9)));
  Tensor written = weights;
  written.fill(2);
  EXPECT_EQ(widened_for_good(), ++widened_before);
  EXPECT_TRUE(bit_identical(written.to(Device{}), Tensor::full({67, 83}, 2, DType::f32)));
  EXPECT_FALSE(is_compact(written));
  EXPECT_THAT(testing::message_of<UserError>([] {
                compact_tensor(Tensor::zeros({2, 3}, DType::f16, gpu));
              }),
              ::testing::HasSubstr("a GPU reads those of bf16 alone"));
}

INSTANTIATE_TEST_SUITE_P(CompactWeights, EveryIsa,
                         ::testing::Values(Isa::portable, Isa::avx2, Isa::avx512),
                         [](const auto& info) {
                           return std::string(reverie::name_of(info.param));
                         });

}  // namespace
}  // namespace reverie::test
