// Every row refuses arguments that its comment rules out.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/case.h"
#include "kernels/refusals.h"

namespace reverie::test {

void Refusals::expect_refusal(const KernelRow& row, const Check& check, const std::string& words) {
  rows_.insert(std::string(row.name()));
  try {
    check();
  } catch (const UserError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr(words)) << row.name();
    return;
  }
  ADD_FAILURE() << row.name() << " accepted its arguments; wanted: " << words;
}

void Refusals::expect_acceptance(const KernelRow& row, const Check& check) {
  EXPECT_NO_THROW(check()) << row.name();
}

namespace {

TEST(Refusals, EveryRowRefusesWhatItsCommentRulesOut) {
  Refusals refusals;
  for (const CaseFile* file : CaseFile::all()) file->refusals(refusals);
  std::set<std::string> in_table;
  for (const KernelRow* row : kernel_table()) in_table.insert(std::string(row->name()));
  EXPECT_EQ(refusals.rows(), in_table) << "rows without a refusal in their case file";
}

}  // namespace
}  // namespace reverie::test
