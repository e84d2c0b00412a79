// Weights that stay as a file has them: every kernel that reads them as they are gives what it
// gives for the widened ones.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/compact_weights.h"
#include "core/cuda.h"
#include "core/error.h"
#include "core/random.h"
#include "kernels/copy.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/matmul.h"
#include "kernels/random_blocks.h"
#include "support/message_of.h"

namespace reverie::test {
namespace {

Tensor random_weights(CompactType type, int64_t rows, int64_t columns, uint64_t seed) {
  Generator random(seed);
  const std::vector<std::byte> blocks = random_blocks(type, rows, columns, random);
  auto storage = std::make_shared<Storage>(blocks.size(), Device{});
  auto* bytes = static_cast<std::byte*>(storage->data());
  std::memcpy(bytes, blocks.data(), blocks.size());
  return compact_tensor({type, bytes, row_bytes_of(type, columns), rows, columns}, storage);
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
  for (const CompactType type : kCompactTypes)
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
  for (const CompactType type : kCompactTypes)
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
  for (const CompactType type : kCompactTypes)
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
  for (const CompactType type : kCompactTypes) {
    const Tensor weights = random_weights(type, 40, 256, 20);
    Tensor y = Tensor::empty(weights.shape(), DType::bf16), z = y.clone();
    kernel::widen_rows({}, {weights, y});
    kernel::cast({}, {widened(weights), z});
    EXPECT_TRUE(bit_identical(y, z)) << name_of(type);
  }
}

// The comparisons above can fail: a bit of one block is enough.
TEST_P(EveryIsa, AChangedBitIsSeen) {
  for (const CompactType type : kCompactTypes) {
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

// On a GPU, weights stay as they are, too.
class OnAGpu : public ::testing::TestWithParam<CompactType> {
 protected:
  void SetUp() override {
    if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
    host = random_weights(GetParam(), 67, columns, 31);
    weights = compact_on(host, gpu);
    wide = widened(weights);
    widened_before = widened_for_good();
  }
  void TearDown() override {
    set_numbers_of_panel(numbers);
    if (IsSkipped()) return;
    EXPECT_EQ(widened_for_good(), widened_before);
  }
  Tensor on_gpu(const Shape& shape, uint64_t seed) { return random(shape, seed).to(gpu); }
  Tensor multiplied(const Tensor& a, const Tensor& b, double alpha = 1, Tensor onto = {}) {
    Shape shape = a.shape();
    shape[-1] = b.size(-1);
    Tensor c = onto ? onto.clone() : Tensor::empty(shape, DType::f32, gpu);
    kernel::matmul(gpu, {a, b, alpha, onto.defined(), c});
    return c;
  }
  Tensor found_in(const Tensor& table, const Tensor& positions) {
    const Tensor indices = Tensor::from<int32_t>({3}, {66, 0, 41}).to(gpu);
    Tensor y = Tensor::empty({3, table.size(1)}, DType::f32, gpu);
    kernel::embedding_forward(gpu, {indices, table, positions, 1, 2, y});
    return y;
  }
  Tensor with_bias(const Tensor& x, const Tensor& w, const Tensor& bias) {
    Tensor y = Tensor::empty({x.size(0), w.size(0)}, DType::f32, gpu);
    kernel::linear_forward(gpu, {x, w.transpose(0, 1), bias, y});
    return y;
  }

  static constexpr Device gpu{DeviceKind::cuda, 0};
  const int64_t numbers = numbers_of_panel();
  // Whole blocks of every type, or an odd number where a row may end anywhere.
  const int64_t columns =
      GetParam() == CompactType::f16 || GetParam() == CompactType::bf16 ? 83 : 512;
  Tensor host, weights, wide;
  int64_t widened_before = 0;
};

TEST_P(OnAGpu, ProductsAndLookUpsGiveTheBitsOfTheWidenedWeights) {
  EXPECT_EQ(stored_bytes(weights), stored_bytes(host));
  EXPECT_LT(stored_bytes(weights), wide.bytes());
  EXPECT_EQ(weights.device(), gpu);
  EXPECT_TRUE(bit_identical(wide, widened(host)));
  for (const Tensor& a : {on_gpu({5, columns}, 32), on_gpu({2, 5, columns}, 33)})
    EXPECT_TRUE(bit_identical(multiplied(a, weights.transpose(0, 1), 0.5),
                              multiplied(a, wide.transpose(0, 1), 0.5)));
  const Tensor g = on_gpu({5, 67}, 34), onto = on_gpu({5, columns}, 35);
  EXPECT_TRUE(bit_identical(multiplied(g, weights, 1, onto), multiplied(g, wide, 1, onto)));
  const Tensor x = on_gpu({5, columns}, 36), bias = on_gpu({67}, 37);
  EXPECT_TRUE(bit_identical(with_bias(x, weights, bias), with_bias(x, wide, bias)));
  for (const Tensor& positions : {Tensor(), on_gpu({4, columns}, 38)})
    EXPECT_TRUE(bit_identical(found_in(weights, positions), found_in(wide, positions)));
  Tensor narrow = Tensor::empty(weights.shape(), DType::bf16, gpu);
  kernel::widen_rows(gpu, {weights, narrow});
  EXPECT_TRUE(bit_identical(narrow, wide.to(DType::bf16)));
}

// They are read as they are stored, and summed in another order.
TEST_P(OnAGpu, FewRowsStayWithinTheBoundOfSums) {
  for (const int64_t m : {1, 2, 3, 4}) {
    const Tensor a = on_gpu({m, columns}, 39), onto = on_gpu({m, 67}, 40);
    const Tensor right = weights.transpose(0, 1), wide_right = wide.transpose(0, 1);
    EXPECT_LE(error_share(multiplied(a, right), a, wide_right, 1, {}), 1) << m;
    EXPECT_LE(error_share(multiplied(a, right, 0.5, onto), a, wide_right, 0.5, onto), 1) << m;
    const Tensor cube = a.view({1, m, columns});
    EXPECT_LE(error_share(multiplied(cube, right).view({m, 67}), a, wide_right, 1, {}), 1) << m;
    // Rows that are apart, and begin anywhere.
    Tensor wider = on_gpu({m, columns + 3}, 41);
    const Tensor part = wider.slice(1, 1, columns + 1);
    EXPECT_LE(error_share(multiplied(part, right), part, wide_right, 1, {}), 1) << m;
  }
}

TEST_P(OnAGpu, SeveralPanels) {
  set_numbers_of_panel(1);  // 64 rows at a time
  const Tensor a = on_gpu({9, columns}, 42), g = on_gpu({9, 67}, 43),
               onto = on_gpu({9, columns}, 44), bias = on_gpu({67}, 45);
  EXPECT_LE(error_share(multiplied(a, weights.transpose(0, 1)), a, wide.transpose(0, 1), 1, {}), 1);
  EXPECT_LE(error_share(multiplied(g, weights), g, wide, 1, {}), 1);
  EXPECT_LE(error_share(multiplied(g, weights, 2, onto), g, wide, 2, onto), 1);
  Tensor before = Tensor::empty({9, 67}, DType::f32);
  for (int64_t i = 0; i < 9; ++i) before.select(0, i).copy_from(bias);
  EXPECT_LE(error_share(with_bias(a, weights, bias), a, wide.transpose(0, 1), 1, before), 1);
  const Tensor cube = on_gpu({2, 5, columns}, 48);
  EXPECT_LE(
      error_share(multiplied(cube, weights.transpose(0, 1)), cube, wide.transpose(0, 1), 1, {}), 1);
}

// Beside operands of bf16, weights are rounded as they are read.
TEST_P(OnAGpu, OperandsOfBf16) {
  const Tensor rounded = wide.to(DType::bf16);
  for (const int64_t m : {1, 4, 5}) {
    const Tensor a = on_gpu({m, columns}, 46).to(DType::bf16),
                 g = on_gpu({m, 67}, 47).to(DType::bf16);
    EXPECT_LE(
        error_share(multiplied(a, weights.transpose(0, 1)), a, rounded.transpose(0, 1), 1, {}), 1)
        << m;
    EXPECT_LE(error_share(multiplied(g, weights), g, rounded, 1, {}), 1) << m;
  }
}

// The comparisons above can fail: a bit of one block is enough.
TEST_P(OnAGpu, AChangedBitIsSeen) {
  const auto rows = *compact_rows(host);
  const_cast<std::byte&>(rows.bytes[66 * rows.row_bytes + 20]) ^= std::byte(1 << 6);
  const Tensor changed = compact_on(host, gpu), none;
  for (const int64_t m : {1, 5}) {
    const Tensor a = Tensor::full({m, columns}, 1, DType::f32, gpu),
                 g = Tensor::full({m, 67}, 1, DType::f32, gpu);
    EXPECT_GT(error_share(multiplied(a, changed.transpose(0, 1)), a, wide.transpose(0, 1), 1, {}),
              1)
        << m;
    EXPECT_GT(error_share(multiplied(g, changed), g, wide, 1, {}), 1) << m;
  }
  const Tensor a = Tensor::full({5, columns}, 1, DType::f32, gpu);
  EXPECT_FALSE(
      bit_identical(multiplied(a, changed.transpose(0, 1)), multiplied(a, wide.transpose(0, 1))));
  EXPECT_FALSE(bit_identical(found_in(changed, none), found_in(wide, none)));
  Tensor narrow = Tensor::empty(wide.shape(), DType::bf16, gpu);
  kernel::widen_rows(gpu, {changed, narrow});
  EXPECT_FALSE(bit_identical(narrow, wide.to(DType::bf16)));
}

TEST_P(OnAGpu, OthersSeeElements) {
  EXPECT_TRUE(bit_identical(weights.to(Device{}), wide.to(Device{})));
  EXPECT_TRUE(bit_identical(weights.slice(0, 3, 9), wide.slice(0, 3, 9)));
  EXPECT_TRUE(bit_identical(weights.transpose(0, 1).contiguous(), wide.transpose(0, 1)));
  EXPECT_TRUE(bit_identical(widened(compact_on(weights, Device{})), wide.to(Device{})));
  EXPECT_EQ(hash_elements(compact_on(weights, Device{})), hash_elements(host));
  EXPECT_EQ(widened_for_good(), widened_before);
  // Whoever reads memory, or writes, has all of it in f32 from then on.
  if (GetParam() == CompactType::bf16) {
    EXPECT_TRUE(bit_identical(as_bf16(weights.slice(0, 3, 9)).to(DType::f32), wide.slice(0, 3, 9)));
  }
  Tensor written = weights;
  written.fill(2);
  EXPECT_EQ(widened_for_good(), ++widened_before);
  EXPECT_TRUE(bit_identical(written.to(Device{}), Tensor::full({67, columns}, 2, DType::f32)));
  EXPECT_FALSE(is_compact(written));
}

TEST_P(OnAGpu, RowsThatBeginBesideABoundaryAreRefused) {
  const auto bytes = std::make_shared<Storage>(size_t(4096), gpu);
  const auto beginning_at = [&](int64_t byte) {
    const CompactRows rows{GetParam(), static_cast<const std::byte*>(bytes->data()) + byte,
                           row_bytes_of(GetParam(), columns), 2, columns};
    compact_tensor(rows, bytes);
  };
  const auto refused = ::testing::HasSubstr("copy them to storage of their own");
  EXPECT_THAT(testing::message_of<UserError>([&] { beginning_at(1); }), refused);
  // Blocks of whole words are read by words.
  if (layout_of(GetParam()).bytes % 4 == 0) {
    EXPECT_THAT(testing::message_of<UserError>([&] { beginning_at(2); }), refused);
  } else {
    beginning_at(2);
  }
  beginning_at(4);
}

INSTANTIATE_TEST_SUITE_P(Types, OnAGpu, ::testing::ValuesIn(kCompactTypes),
                         [](const auto& info) { return name_of(info.param); });

INSTANTIATE_TEST_SUITE_P(CompactWeights, EveryIsa,
                         ::testing::Values(Isa::portable, Isa::avx2, Isa::avx512),
                         [](const auto& info) {
                           return std::string(reverie::name_of(info.param));
                         });

}  // namespace
}  // namespace reverie::test
