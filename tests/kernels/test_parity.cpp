// Every case of every row, in both dtypes, on every instruction set of this machine, with one and
// two threads: against the naive references, to the bit between thread counts, and within the bytes
// that belong to each tensor.

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <set>

#include "kernels/case.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"

namespace reverie::test {
namespace {

uint64_t seed_of(const Case& c) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a: the same inputs everywhere
  for (char character : c.row + " " + c.name)
    hash = (hash ^ uint64_t(uint8_t(character))) * 1099511628211u;
  return hash;
}

Execution execute(const Case& c, DType dtype, int threads) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  Execution r(dtype, seed_of(c));
  c.body(r);
  omp_set_num_threads(before);
  return r;
}

std::set<std::string> rows_with_cases() {
  std::set<std::string> rows;
  for (const Case& c : all_cases()) rows.insert(c.row);
  return rows;
}

struct Place {
  std::string row;
  Isa isa;
};
std::vector<Place> places() {
  std::vector<Place> all;
  for (const std::string& row : rows_with_cases())
    for (int isa = 0; isa < kIsas; ++isa) all.push_back({row, Isa(isa)});
  return all;
}

class Parity : public testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (!isa_supported(GetParam().isa))
      GTEST_SKIP() << "this machine lacks " << name_of(GetParam().isa);
    set_active_isa(GetParam().isa);
  }
  void TearDown() override {
    for (int isa = 0; isa < kIsas; ++isa)
      if (isa_supported(Isa(isa))) set_active_isa(Isa(isa));
  }
};

TEST_P(Parity, MatchesTheNaiveReference) {
  int count = 0;
  for (const Case& c : all_cases()) {
    if (c.row != GetParam().row) continue;
    for (DType dtype : {DType::f32, DType::f64}) {
      SCOPED_TRACE(fmt::format("{} {} {}", c.row, c.name, name_of(dtype)));
      const Execution one = execute(c, dtype, 1), two = execute(c, dtype, 2);
      EXPECT_EQ(one.damage(), "");
      EXPECT_EQ(two.damage(), "");
      ASSERT_FALSE(one.results().empty());
      for (size_t i = 0; i < one.results().size(); ++i) {
        const Execution::Result& r = one.results()[i];
        EXPECT_EQ(disagreement(r.expected, r.tensor.to_vector(), dtype, r.factor, r.least_size), "")
            << r.name;
        EXPECT_TRUE(bit_identical(r.tensor, two.results()[i].tensor))
            << r.name << " differs between one and two threads";
        ++count;
      }
    }
  }
  EXPECT_GT(count, 0);
}

INSTANTIATE_TEST_SUITE_P(Rows, Parity, testing::ValuesIn(places()), [](const auto& info) {
  return fmt::format("{}_{}", info.param.row, name_of(info.param.isa));
});

// The comparison must reject a reference that is off in one element by a ten-thousandth of the
// typical size.
TEST(ParityItself, RejectsAPerturbedReferenceOfEveryRow) {
  std::set<std::string> rejected;
  for (const Case& c : all_cases()) {
    for (DType dtype : {DType::f32, DType::f64}) {
      const Execution r = execute(c, dtype, 1);
      for (const Execution::Result& result : r.results()) {
        Values wrong = result.expected;
        if (wrong.empty()) continue;
        double& victim = wrong[seed_of(c) % wrong.size()];
        victim += 1e-4 * std::max(std::abs(victim), typical_size(wrong, result.least_size)) + 1e-12;
        EXPECT_NE(
            disagreement(wrong, result.tensor.to_vector(), dtype, result.factor, result.least_size),
            "")
            << c.row << " " << c.name << " " << result.name << " " << name_of(dtype);
        rejected.insert(c.row);
      }
    }
  }
  EXPECT_EQ(rejected, rows_with_cases());
}

TEST(ParityItself, RejectsNaNsOverrunsAndChangedInputs) {
  EXPECT_NE(disagreement({1, 2}, {1, std::nan("")}, DType::f32), "");
  EXPECT_NE(disagreement({1, 2}, {1}, DType::f32), "");
  EXPECT_NE(disagreement({0, 0}, {0, 1e-30}, DType::f32), "");
  EXPECT_EQ(disagreement({1, 2}, {1, 2.000001}, DType::f32), "");
  Execution overrun(DType::f32, 1);
  Tensor& y = overrun.output("y", {3});
  overrun.expect("y", {0, 0, 0});
  EXPECT_EQ(overrun.damage(), "");
  y.mutable_data<float>()[3] = 0;
  EXPECT_NE(overrun.damage(), "");
  Execution changed(DType::f64, 1);
  Tensor x = changed.input({3});
  EXPECT_EQ(changed.damage(), "");
  x.mutable_data<double>()[1] = 5;
  EXPECT_NE(changed.damage(), "");
  Execution silent(DType::f64, 1);
  silent.output("y", {3});
  EXPECT_NE(silent.damage(), "");
}

TEST(Coverage, EveryRowHasACaseAndAnImplementationForEachInstructionSet) {
  std::set<std::string> in_table;
  for (const KernelRow* row : kernel_table()) {
    in_table.insert(std::string(row->name()));
    for (int isa = 0; isa < kIsas; ++isa)
      EXPECT_TRUE(row->has_cpu(Isa(isa))) << row->name() << " " << name_of(Isa(isa));
  }
  EXPECT_EQ(in_table, rows_with_cases());
}

}  // namespace
}  // namespace reverie::test
