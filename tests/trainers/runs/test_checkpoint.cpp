#include "trainers/runs/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "core/files.h"
#include "support/temporary_directory.h"
#include "trainers/runs/checkpoint_samples.h"

namespace reverie {
namespace {
using ::testing::ElementsAre;
using testing::expect_same;
using ::testing::HasSubstr;
using testing::hidden_in;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::sample_contents;
using testing::TemporaryDirectory;
namespace fs = std::filesystem;

const char* const kFiles[] = {"model.safetensors", "optimizer.safetensors", "state.json",
                              "COMPLETE"};

void flip_byte(const std::string& file, size_t at, unsigned char bits) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(int64_t(at));
  const char flipped = char(stream.get() ^ bits);
  stream.seekp(int64_t(at));
  stream.put(flipped);
}

std::string step_directory(const TemporaryDirectory& run, int step) {
  return run / fmt::format("checkpoints/step_{:08}", step);
}

// The message of the DataError that reading ends with; empty (and a failure) otherwise.
std::string data_error_of(const std::string& directory) {
  try {
    read_checkpoint(directory);
  } catch (const DataError& error) {
    EXPECT_EQ(int(error.exit_code()), 3);
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << directory;
  return "";
}

TEST(Checkpoint, ComesBackBitForBit) {
  TemporaryDirectory run;
  CheckpointContents contents = sample_contents(7);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  contents.model.emplace_back(
      "odd f64", Tensor::from<double>({2, 3}, {nan, -0.0, 5e-324, 1e308, -1 / 0.0, 1.0 / 3}));
  contents.model.emplace_back("odd f32", Tensor::from<float>({3}, {std::nanf("7"), -0.0f, 1e-45f}));
  contents.optimizer.emplace_back("transposed",
                                  Tensor::from<double>({2, 3}, {1, 2, 3, 4, 5, 6}).transpose(0, 1));
  contents.model_metadata["format"] = "pt";
  contents.state["loss"] = 0.1 + 0.2;
  contents.state["offset"] = uint64_t(-1);
  contents.state["least"] = std::numeric_limits<int64_t>::min();
  const std::string directory = write_checkpoint(run.path(), 7, contents, 0);
  EXPECT_EQ(directory, step_directory(run, 7));
  expect_same(read_checkpoint(directory), contents);
  for (const char* file : kFiles) EXPECT_TRUE(fs::is_regular_file(directory + "/" + file)) << file;
  EXPECT_EQ(std::distance(fs::directory_iterator(directory), {}), 4);
  EXPECT_THAT(hidden_in(run / "checkpoints"), IsEmpty());
}

TEST(Checkpoint, CarriedMemoryHasAFileOfItsOwn) {
  TemporaryDirectory run;
  CheckpointContents contents = sample_contents(1);
  contents.memory = {{"slots", testing::numbered_tensor<float>(300, 1, 0)}};
  const std::string with = write_checkpoint(run.path(), 1, contents, 0),
                    without = write_checkpoint(run.path(), 2, sample_contents(2), 0);
  EXPECT_FALSE(fs::exists(without + "/memory.safetensors"));
  EXPECT_TRUE(read_checkpoint(without).memory.empty());
  testing::expect_same(read_checkpoint(with).memory, contents.memory);
  testing::expect_same(read_checkpoint(with).optimizer, contents.optimizer);
  flip_byte(with + "/memory.safetensors", 200, 1);
  EXPECT_THAT(data_error_of(with), HasSubstr("memory.safetensors"));
  fs::remove(with + "/memory.safetensors");
  EXPECT_THAT(data_error_of(with), HasSubstr("memory.safetensors"));
}

// Bytes that this process has read by read(2): tensors are mapped, so that they are those hashed.
int64_t bytes_read() {
  std::ifstream counters("/proc/self/io");
  for (std::string name; counters >> name;) {
    int64_t value = 0;
    counters >> value;
    if (name == "rchar:") return value;
  }
  return -1;
}

TEST(Checkpoint, BytesAreHashedOncePerRead) {
  if (bytes_read() < 0) GTEST_SKIP() << "no /proc/self/io here";
  TemporaryDirectory run;
  const std::string directory = write_checkpoint(run.path(), 1, sample_contents(1, 0, 3000), 0);
  int64_t size = 0;
  for (const auto& file : fs::directory_iterator(directory)) size += int64_t(file.file_size());
  const int64_t before = bytes_read();
  const auto newest = read_latest_checkpoint(run.path());
  const int64_t read = bytes_read() - before;
  ASSERT_TRUE(newest);
  EXPECT_EQ(newest->directory, directory);
  EXPECT_GE(read, size);
  EXPECT_LT(read, size + size / 4);
}

TEST(Checkpoint, NoTensorsAndAnEmptyStateAreAllowed) {
  TemporaryDirectory run;
  const CheckpointContents nothing{{}, {}, {}, {}, Json::object()};
  expect_same(read_checkpoint(write_checkpoint(run.path(), 0, nothing, 1)), nothing);
}

TEST(Checkpoint, AFlippedByteInAnyFileIsNamedWithBothHashes) {
  TemporaryDirectory run;
  const std::string directory = write_checkpoint(run.path(), 3, sample_contents(3), 0);
  for (const std::string name : kFiles) {
    const std::string file = directory + "/" + name, wanted = hash_file(file);
    const size_t size = fs::file_size(file);
    // Each byte of the small files; a sample of the large ones, with both ends.
    for (size_t at = 0; at < size;
         at = at + 1 == size ? size : std::min(size - 1, at + 1 + size / 500)) {
      const auto bits = static_cast<unsigned char>(1 << (at % 8));
      flip_byte(file, at, bits);
      const std::string message = data_error_of(directory);
      EXPECT_THAT(message, HasSubstr(file)) << at;
      EXPECT_THAT(message, HasSubstr(hash_file(file))) << at;
      if (name != "COMPLETE") {  // a damaged one says itself what would be wanted
        EXPECT_THAT(message, HasSubstr(wanted)) << at;
      }
      flip_byte(file, at, bits);
    }
  }
  expect_same(read_checkpoint(directory), sample_contents(3));
}

TEST(Checkpoint, TruncatedGrownAndMissingFilesAreRefused) {
  for (const std::string name : kFiles) {
    for (const double share : {0.0, 0.5, 0.99, 1.01}) {
      TemporaryDirectory run;
      const std::string directory = write_checkpoint(run.path(), 3, sample_contents(3), 0);
      const std::string file = directory + "/" + name;
      fs::resize_file(file, size_t(share * double(fs::file_size(file))) + (share > 1));
      EXPECT_THAT(data_error_of(directory), HasSubstr(file)) << share;
    }
    TemporaryDirectory run;
    const std::string directory = write_checkpoint(run.path(), 3, sample_contents(3), 0);
    fs::remove(directory + "/" + name);
    EXPECT_THAT(data_error_of(directory), HasSubstr(name));
  }
}

TEST(Checkpoint, FilesOfAnotherCheckpointAreRefused) {
  TemporaryDirectory run;
  const std::string one = write_checkpoint(run.path(), 1, sample_contents(1), 0);
  const std::string two = write_checkpoint(run.path(), 2, sample_contents(2), 0);
  fs::copy_file(one + "/optimizer.safetensors", two + "/optimizer.safetensors",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(data_error_of(two), HasSubstr("optimizer.safetensors"));
}

TEST(Checkpoint, ADirectoryThatIsNotThereIsTheUsersError) {
  TemporaryDirectory run;
  EXPECT_THROW(read_checkpoint(run / "absent"), UserError);
  EXPECT_THAT(checkpoints_of(run.path()), IsEmpty());
  EXPECT_THAT(checkpoints_of(run / "absent"), IsEmpty());
  EXPECT_EQ(latest_checkpoint(run.path()), std::nullopt);
}

TEST(Checkpoint, OnlyCompleteOnesAreListedOldestFirst) {
  TemporaryDirectory run;
  for (const int step : {20, 3, 100000000, 7, 9}) write_checkpoint(run.path(), step, {}, 0);
  fs::remove(step_directory(run, 7) + "/COMPLETE");
  for (const std::string name : {"step_7", "step_0000000x", "step_00000009.old", "step_-0000001",
                                 ".step_00000030.tmp-1", "step_00000009.replaced-", "other"}) {
    fs::create_directory(run / ("checkpoints/" + name));
    write_file_atomically(run / ("checkpoints/" + name + "/COMPLETE"), "{}");
  }
  EXPECT_THAT(checkpoints_of(run.path()),
              ElementsAre(step_directory(run, 3), step_directory(run, 9), step_directory(run, 20),
                          run / "checkpoints/step_100000000"));
}

TEST(Checkpoint, TheNewestAreKept) {
  TemporaryDirectory run;
  for (int step = 1; step <= 5; ++step)
    write_checkpoint(run.path(), step, sample_contents(step), 3);
  EXPECT_THAT(checkpoints_of(run.path()),
              ElementsAre(step_directory(run, 3), step_directory(run, 4), step_directory(run, 5)));
  write_checkpoint(run.path(), 6, sample_contents(6), 0);
  EXPECT_EQ(checkpoints_of(run.path()).size(), 4u);
  write_checkpoint(run.path(), 7, sample_contents(7), 1);
  EXPECT_THAT(checkpoints_of(run.path()), ElementsAre(step_directory(run, 7)));
  expect_same(read_checkpoint(step_directory(run, 7)), sample_contents(7));
  EXPECT_THROW(write_checkpoint(run.path(), 8, {}, -1), UserError);
  EXPECT_THROW(write_checkpoint(run.path(), -1, {}, 0), UserError);
}

TEST(Checkpoint, OneWrittenBelowLaterOnesIsKeptAndSoAreThose) {
  TemporaryDirectory run;
  for (const int step : {10, 20, 30, 40}) write_checkpoint(run.path(), step, {}, 0);
  write_checkpoint(run.path(), 25, sample_contents(25), 2);
  EXPECT_THAT(checkpoints_of(run.path()),
              ElementsAre(step_directory(run, 20), step_directory(run, 25), step_directory(run, 30),
                          step_directory(run, 40)));
}

TEST(Checkpoint, ADamagedNewestIsNamedAndTheOneBeforeIsTaken) {
  TemporaryDirectory run;
  for (int step = 1; step <= 4; ++step)
    write_checkpoint(run.path(), step, sample_contents(step), 0);
  flip_byte(step_directory(run, 4) + "/model.safetensors", 100000, 1);
  fs::remove(step_directory(run, 3) + "/state.json");
  ::testing::internal::CaptureStderr();
  const auto latest = latest_checkpoint(run.path());
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(latest, step_directory(run, 2));
  EXPECT_THAT(log, HasSubstr("warning"));
  EXPECT_THAT(log, HasSubstr(step_directory(run, 4) + "/model.safetensors"));
  EXPECT_THAT(log, HasSubstr(step_directory(run, 3) + "/state.json"));
  EXPECT_THAT(log, Not(HasSubstr(step_directory(run, 2))));

  fs::resize_file(step_directory(run, 2) + "/COMPLETE", 0);
  flip_byte(step_directory(run, 1) + "/optimizer.safetensors", 5, 1);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(latest_checkpoint(run.path()), std::nullopt);
  ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(checkpoints_of(run.path()).size(), 4u);
}

TEST(Checkpoint, TheSameStepIsReplacedAlsoWhenItWasDamaged) {
  TemporaryDirectory run;
  write_checkpoint(run.path(), 1, sample_contents(1), 2);
  write_checkpoint(run.path(), 2, sample_contents(2, 0), 2);
  write_checkpoint(run.path(), 2, sample_contents(2, 1), 2);
  expect_same(read_checkpoint(step_directory(run, 2)), sample_contents(2, 1));
  fs::remove(step_directory(run, 2) + "/COMPLETE");
  write_checkpoint(run.path(), 2, sample_contents(2, 2), 2);
  expect_same(read_checkpoint(step_directory(run, 2)), sample_contents(2, 2));
  EXPECT_THAT(checkpoints_of(run.path()),
              ElementsAre(step_directory(run, 1), step_directory(run, 2)));
  EXPECT_EQ(std::distance(fs::directory_iterator(run / "checkpoints"), {}), 2);
}

// What a writer leaves that was killed while it replaced step 2.
TEST(Checkpoint, OneThatWaitsToBeReplacedIsFoundAndLaterRemoved) {
  TemporaryDirectory run;
  write_checkpoint(run.path(), 1, sample_contents(1), 0);
  write_checkpoint(run.path(), 2, sample_contents(2, 0), 0);
  const std::string aside = step_directory(run, 2) + ".replaced-0";
  fs::rename(step_directory(run, 2), aside);
  EXPECT_EQ(latest_checkpoint(run.path()), aside);
  expect_same(read_checkpoint(aside), sample_contents(2, 0));
  // The only one of its step, it is kept as such.
  write_checkpoint(run.path(), 3, sample_contents(3), 2);
  EXPECT_THAT(checkpoints_of(run.path()), ElementsAre(aside, step_directory(run, 3)));
  write_checkpoint(run.path(), 2, sample_contents(2, 1), 0);
  EXPECT_THAT(checkpoints_of(run.path()),
              ElementsAre(step_directory(run, 2), step_directory(run, 3)));
  expect_same(read_checkpoint(step_directory(run, 2)), sample_contents(2, 1));
}

TEST(Checkpoint, LeftoversOfKilledWritersAreRemovedByTheNext) {
  TemporaryDirectory run;
  write_checkpoint(run.path(), 1, sample_contents(1), 0);
  for (const std::string name :
       {"checkpoints/.step_00000002.tmp-1", "checkpoints/.step_00000001.replaced-0.tmp-77"}) {
    fs::create_directory(run / name);
    write_file_atomically(run / name + "/model.safetensors", "half");
  }
  // A writer of an earlier boot may have had the same process id.
  fs::create_directory(run / fmt::format("checkpoints/.step_00000002.tmp-{}", ::getpid()));
  EXPECT_EQ(latest_checkpoint(run.path()), step_directory(run, 1));
  write_checkpoint(run.path(), 2, sample_contents(2), 0);
  EXPECT_THAT(hidden_in(run / "checkpoints"), IsEmpty());
  EXPECT_EQ(latest_checkpoint(run.path()), step_directory(run, 2));
}

TEST(Checkpoint, WhatCannotBeStoredLeavesNothingBehind) {
  TemporaryDirectory run;
  write_checkpoint(run.path(), 1, sample_contents(1), 1);
  CheckpointContents nan = sample_contents(2), text = sample_contents(2),
                     twice = sample_contents(2);
  nan.state["loss"] = std::numeric_limits<double>::quiet_NaN();
  text.state["sample"] = "half a character: \xE2\x82";
  twice.optimizer.push_back(twice.optimizer.front());
  EXPECT_THROW(write_checkpoint(run.path(), 2, nan, 1), InternalError);
  EXPECT_THROW(write_checkpoint(run.path(), 2, text, 1), InternalError);
  EXPECT_THROW(write_checkpoint(run.path(), 2, twice, 1), UserError);
  EXPECT_EQ(std::distance(fs::directory_iterator(run / "checkpoints"), {}), 1);
  EXPECT_EQ(latest_checkpoint(run.path()), step_directory(run, 1));
}

TEST(Checkpoint, WherePermissionIsMissingTheMachineIsToBlame) {
  TemporaryDirectory run;
  // Regular files in the way refuse everybody, root included.
  write_file_atomically(run / "file", "");
  EXPECT_THROW(write_checkpoint(run / "file", 1, sample_contents(1), 0), MachineError);
  fs::create_directory(run / "other");
  write_file_atomically(run / "other/checkpoints", "");
  EXPECT_THROW(write_checkpoint(run / "other", 1, sample_contents(1), 0), MachineError);
  try {
    write_checkpoint("/proc/reverie", 1, sample_contents(1), 0);
    ADD_FAILURE() << "wrote into /proc";
  } catch (const MachineError& error) {
    EXPECT_THAT(error.what(), HasSubstr("there is no earlier checkpoint"));
  }
}

TEST(Checkpoint, AReadOnlyDirectoryKeepsWhatItHas) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  TemporaryDirectory run;
  write_checkpoint(run.path(), 1, sample_contents(1), 1);
  fs::permissions(run / "checkpoints", fs::perms::owner_read | fs::perms::owner_exec);
  try {
    write_checkpoint(run.path(), 2, sample_contents(2), 1);
    ADD_FAILURE() << "wrote into a read-only directory";
  } catch (const MachineError& error) {
    EXPECT_THAT(error.what(), HasSubstr(step_directory(run, 1) + " is still good"));
  }
  fs::permissions(run / "checkpoints", fs::perms::owner_all);
  expect_same(read_checkpoint(step_directory(run, 1)), sample_contents(1));
}

}  // namespace
}  // namespace reverie
