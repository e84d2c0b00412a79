// Every case of every row, in both dtypes, on every instruction set of this machine, with one and
// two threads, with our own products and the library's, and on cuda, with tensors aligned and not:
// against the naive references, to the bit between the two, and within the bytes that belong to
// each tensor.

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <regex>
#include <set>

#include "core/cuda.h"
#include "core/files.h"
#include "core/profile.h"
#include "kernels/case.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"
#include "support/tests_directory.h"
#if defined(REVERIE_CUDA_EMULATED)
#include "kernels/cuda/emulation/emulation.h"
#endif

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

// On cuda. Emulated, warps and blocks run in another order where tensors are aligned.
Execution execute_on_cuda(const Case& c, DType dtype, bool aligned) {
#if defined(REVERIE_CUDA_EMULATED)
  cuda::emulation::set_schedule(aligned ? 1 : 0);
#endif
  Execution r(dtype, seed_of(c), {{DeviceKind::cuda, 0}, aligned});
  c.body(r);
  cuda::synchronize();
#if defined(REVERIE_CUDA_EMULATED)
  cuda::emulation::set_schedule(0);
#endif
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

class Parity : public ::testing::TestWithParam<Place> {
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

// Runs each case of a row twice, by `run`(case, dtype, 0 or 1).
void expect_parity(const std::string& row, const char* between,
                   const std::function<Execution(const Case&, DType, int)>& run) {
  int count = 0;
  for (const Case& c : all_cases()) {
    if (c.row != row) continue;
    for (DType dtype : {DType::f32, DType::f64}) {
      SCOPED_TRACE(fmt::format("{} {} {}", c.row, c.name, name_of(dtype)));
      const Execution one = run(c, dtype, 0), two = run(c, dtype, 1);
      EXPECT_EQ(one.damage(), "");
      EXPECT_EQ(two.damage(), "");
      ASSERT_FALSE(one.results().empty());
      for (size_t i = 0; i < one.results().size(); ++i) {
        const Execution::Result& r = one.results()[i];
        EXPECT_EQ(disagreement(r.expected, r.tensor.to_vector(), dtype, r.factor, r.least_size), "")
            << r.name;
        EXPECT_TRUE(bit_identical(r.tensor, two.results()[i].tensor))
            << r.name << " differs between " << between;
        ++count;
      }
    }
  }
  EXPECT_GT(count, 0);
}

// What multiplies f32 until the end of the scope.
class GemmScope {
 public:
  explicit GemmScope(GemmChoice choice) : before_(gemm()) { set_gemm(choice); }
  ~GemmScope() { set_gemm(before_); }

 private:
  GemmChoice before_;
};

TEST_P(Parity, MatchesTheNaiveReference) {
  const GemmScope own(GemmChoice::own);
  expect_parity(GetParam().row, "one and two threads", [](const Case& c, DType dtype, int second) {
    return execute(c, dtype, 1 + second);
  });
}

INSTANTIATE_TEST_SUITE_P(Rows, Parity, ::testing::ValuesIn(places()), [](const auto& info) {
  return fmt::format("{}_{}", info.param.row, name_of(info.param.isa));
});

// The library chooses by the machine, whatever our own instruction set is. It may add in another
// order where it has more threads (oneDNN does without AVX-512, for some shapes), but not from one
// run to the next: runs that are resumed hold their threads' number.
std::set<std::string> rows_that_multiply() {
  std::set<std::string> rows;
  for (const std::string& row : rows_with_cases())
    if (row.find("matmul") != std::string::npos || row.find("linear") != std::string::npos)
      rows.insert(row);
  return rows;
}
class LibraryParity : public ::testing::TestWithParam<std::string> {};

TEST_P(LibraryParity, MatchesTheNaiveReference) {
  if (gemm() != GemmChoice::library) GTEST_SKIP() << "f32 is multiplied by " << matmul_library();
  for (const int threads : {1, 2})
    expect_parity(
        GetParam(), "two runs with as many threads",
        [threads](const Case& c, DType dtype, int) { return execute(c, dtype, threads); });
}

INSTANTIATE_TEST_SUITE_P(Rows, LibraryParity, ::testing::ValuesIn(rows_that_multiply()),
                         [](const auto& info) { return info.param; });

class CudaParity : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
    for (const KernelRow* row : kernel_table())
      if (row->name() == GetParam() && !row->has_cuda()) GTEST_SKIP() << "has no cuda kernel yet";
  }
};

TEST_P(CudaParity, MatchesTheNaiveReference) {
  expect_parity(GetParam(), "tensors aligned and not", [](const Case& c, DType dtype, int aligned) {
    return execute_on_cuda(c, dtype, aligned == 1);
  });
}

INSTANTIATE_TEST_SUITE_P(Rows, CudaParity, ::testing::ValuesIn(rows_with_cases()),
                         [](const auto& info) { return info.param; });

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
  EXPECT_EQ(in_table, rows_with_cases()) << "the kernel table against the rows of cases_*.cpp";
}

// The profiler's bytes of a call hold at least its largest result, were it bf16.
TEST(Coverage, EveryRowSaysItsWork) {
  std::set<std::string> rows;
  for (const Case& c : all_cases()) {
    if (rows.count(c.row) > 0) continue;
    profile::start();
    const Execution run = execute(c, DType::f64, 1);
    const std::vector<profile::Event> events = profile::stop();
    double most = 0, largest = 0;
    for (const profile::Event& e : events)
      if (e.name == c.row) most = std::max(most, e.work.bytes);
    for (const Execution::Result& r : run.results())
      largest = std::max(largest, 2.0 * double(r.tensor.numel()));
    EXPECT_GE(most, largest) << c.row << " " << c.name;
    rows.insert(c.row);
  }
  EXPECT_EQ(rows, rows_with_cases());
}

// kernel_table() knows only rows that something fills. What the headers declare must be there.
TEST(Coverage, EveryDeclaredRowIsFilled) {
  std::set<std::string> in_table, declared;
  for (const KernelRow* row : kernel_table()) in_table.insert(std::string(row->name()));
  const std::regex declaration(R"re(Kernel<\w+>\s+\w+\s*\{\s*"(\w+)")re");
  for (const auto& entry :
       std::filesystem::directory_iterator(reverie::testing::test_directory() + "/../kernels")) {
    if (entry.path().extension() != ".h") continue;
    const std::string text = read_file(entry.path().string());
    for (std::sregex_iterator i(text.begin(), text.end(), declaration), end; i != end; ++i)
      declared.insert((*i)[1]);
  }
  EXPECT_GT(declared.size(), 20u) << "the headers are read";
  EXPECT_EQ(in_table, declared);
}

TEST(Coverage, EveryRowHasACudaKernel) {
  if (cuda::status().flavour == cuda::Flavour::off) GTEST_SKIP() << cuda::status().in_words;
  std::string missing;
  int rows = 0, count = 0;
  for (const KernelRow* row : kernel_table()) {
    ++rows;
    if (row->has_cuda()) continue;
    ++count;
    missing += (missing.empty() ? "" : ", ") + std::string(row->name());
  }
  EXPECT_EQ(count, 0) << count << " of " << rows << " rows have no cuda kernel: " << missing;
}

}  // namespace
}  // namespace reverie::test
