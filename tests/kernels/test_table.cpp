// The kernel table: choice of the instruction set, and what a missing kernel says.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "core/cuda.h"
#include "kernels/elementwise.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"
#include "support/message_of.h"

namespace reverie {

// A row that no kernel fills, as one is before its device has been written for.
struct Nothing {
  int calls = 0;
};
void check(const Nothing&) {}
profile::Work work(const Nothing&) {
  return {};
}

namespace {

using ::testing::HasSubstr;
using testing::message_of;

// Runs DISABLED_Print below in a new process with the environment variable set, and returns what it
// prints.
std::string run_with(const std::string& variable, const std::string& value) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  // A shard's number would be the child's too, whose one test stands in the first shard alone.
  const std::string command =
      "env -u GTEST_TOTAL_SHARDS -u GTEST_SHARD_INDEX " + variable + "='" + value + "' '" + self +
      "' --gtest_also_run_disabled_tests --gtest_filter=Table.DISABLED_Print 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  std::string output;
  std::array<char, 256> buffer;
  while (std::fgets(buffer.data(), int(buffer.size()), pipe) != nullptr) output += buffer.data();
  pclose(pipe);
  return output;
}

TEST(Table, DISABLED_Print) {
  const std::string isa = message_of<UserError>(
      [] { std::printf("isa is %s\n", std::string(name_of(active_isa())).c_str()); });
  const std::string library =
      message_of<UserError>([] { std::printf("f32 goes to %s\n", matmul_library()); });
  std::printf("%s\n%s\n", isa.c_str(), library.c_str());
}

TEST(Table, EnvironmentNamesTheInstructionSet) {
  EXPECT_THAT(run_with("REVERIE_ISA", "portable"), HasSubstr("isa is portable"));
  const std::string best =
      std::string("isa is ") + std::string(name_of(isa_supported(Isa::avx512) ? Isa::avx512
                                                   : isa_supported(Isa::avx2) ? Isa::avx2
                                                                              : Isa::portable));
  EXPECT_THAT(run_with("REVERIE_ISA", ""), HasSubstr(best));
  EXPECT_THAT(run_with("REVERIE_ISA", "sse9"),
              HasSubstr("REVERIE_ISA is 'sse9'; wanted portable, avx2 or avx512"));
  for (Isa isa : {Isa::avx2, Isa::avx512}) {
    const std::string name(name_of(isa));
    EXPECT_THAT(run_with("REVERIE_ISA", name),
                HasSubstr(isa_supported(isa) ? "isa is " + name
                                             : "instruction set " + name +
                                                   " is asked for, but this machine lacks it"));
  }
}

TEST(Table, EnvironmentNamesTheMatrixLibrary) {
  EXPECT_THAT(run_with("REVERIE_GEMM", "own"), HasSubstr("f32 goes to own tiles"));
  EXPECT_THAT(run_with("REVERIE_GEMM", "mine"),
              HasSubstr("REVERIE_GEMM is 'mine'; wanted library or own"));
}

TEST(Table, UnsupportedInstructionSetIsRefused) {
  for (int i = 0; i < kIsas; ++i) {
    if (isa_supported(Isa(i))) continue;
    EXPECT_THROW(set_active_isa(Isa(i)), ConfigError);
    return;
  }
  GTEST_SKIP() << "this machine has every instruction set";
}

TEST(Table, MissingKernelSaysWhichAndWhere) {
  static constinit Kernel<Nothing> row{"frobnicate"};
  Nothing args;
  EXPECT_THAT(message_of<UserError>([&] { row({}, args); }),
              HasSubstr("frobnicate: no cpu kernel in this build"));
  EXPECT_THAT(message_of<UserError>([&] {
                row({DeviceKind::cuda, 0}, args);
              }),
              HasSubstr("frobnicate: no cuda kernel in this build"));
}

TEST(Table, FallsBackToALowerInstructionSet) {
  if (!isa_supported(Isa::avx2)) GTEST_SKIP() << "this machine has one instruction set";
  struct Local {
    static void count(const Nothing& n) { const_cast<Nothing&>(n).calls += 1; }
    static void count_ten(const Nothing& n) { const_cast<Nothing&>(n).calls += 10; }
  };
  // A row stays in the table for good, hence static; it bears the name of one with cases for the
  // coverage test's sake, which goes by names, and gets every instruction set below.
  static constinit Kernel<Nothing> row{"accumulate"};
  row.add_cpu(Isa::avx512, &Local::count_ten);
  Nothing args;
  const Isa before = active_isa();
  set_active_isa(Isa::avx2);
  row.add_cpu(Isa::portable, &Local::count);
  row({}, args);
  EXPECT_EQ(args.calls, 1) << "only the portable one is there";
  row.add_cpu(Isa::avx2, &Local::count_ten);
  row({}, args);
  EXPECT_EQ(args.calls, 11);
  set_active_isa(Isa::portable);
  row({}, args);
  EXPECT_EQ(args.calls, 12);
  set_active_isa(before);
}

TEST(Table, TheProgramAndTheLibrarySeeOneRow) {
  EXPECT_TRUE(kernel::unary_forward.has_cpu(Isa::portable));
  EXPECT_EQ(kernel::unary_forward.has_cuda(), cuda::status().flavour != cuda::Flavour::off);
}

}  // namespace
}  // namespace reverie
