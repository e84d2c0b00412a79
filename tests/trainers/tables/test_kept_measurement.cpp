// Measurements in files: used again for the checkpoint that they were made from, and for no other.

#include "trainers/tables/kept_measurement.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/json.h"
#include "support/temporary_directory.h"
#include "trainers/runs/checkpoint_samples.h"
#include "trainers/runs/run_directory.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

class KeptMeasurementTest : public ::testing::Test {
 protected:
  KeptMeasurementTest() {
    fs::create_directories(run_);
    write_file_atomically(file_in(run_, kConfigFile), "{}");
  }
  // `round`: other weights of the same step.
  std::string save(int64_t step, int64_t round = 0) const {
    return write_checkpoint(run_, step, testing::sample_contents(step, round, 1), 0);
  }
  void measure(Json json) const {
    json["of"] = wanted_;
    json["figure"] = 0.5;
    write_file_atomically(file_, json_text(json));
  }
  void measure_from(const std::string& checkpoint) const {
    Json json;
    name_checkpoint(json, checkpoint);
    measure(json);
  }
  bool kept() const { return !kept_measurement(file_, wanted_, run_).is_null(); }

  testing::TemporaryDirectory folder_;
  const std::string run_ = folder_ / "run", file_ = run_ + "/figures.json";
  const Json wanted_ = {{"windows", 3}};
};

TEST_F(KeptMeasurementTest, IsOfTheNewestCheckpointAndTheWantedSettings) {
  EXPECT_FALSE(kept()) << "there is none";
  measure_from(save(4));
  EXPECT_TRUE(kept());
  EXPECT_EQ(kept_measurement(file_, wanted_, run_).at("figure"), 0.5);
  EXPECT_TRUE(kept_measurement(file_, {{"windows", 4}}, run_).is_null());
  save(8);
  EXPECT_FALSE(kept()) << "the run got longer";
  measure_from(save(8));
  EXPECT_TRUE(kept());
  save(8, 1);
  EXPECT_FALSE(kept()) << "other weights of the same step";
}

TEST_F(KeptMeasurementTest, ADamagedNewestCheckpointIsPassedOver) {
  measure_from(save(4));
  const std::string weights = save(8) + "/model.safetensors";
  std::ofstream(weights, std::ios::app) << "x";
  EXPECT_TRUE(kept());
}

TEST_F(KeptMeasurementTest, StaysWhereNoCheckpointIsLeftAndForWhatIsNoRun) {
  measure_from(save(4));
  fs::remove_all(run_ + "/checkpoints");
  EXPECT_TRUE(kept());
  save(4, 1);
  EXPECT_FALSE(kept());
  fs::remove(file_in(run_, kConfigFile));
  EXPECT_TRUE(kept());
}

TEST_F(KeptMeasurementTest, FilesOfEarlierVersionsNameTheStepOrNothing) {
  const std::string first = save(4);
  measure({{"checkpoint", "/before/it/moved/checkpoints/step_00000004"}});
  EXPECT_TRUE(kept());
  measure(Json::object());
  const auto time = fs::last_write_time(first + "/COMPLETE");
  fs::last_write_time(file_, time + std::chrono::seconds(1));
  EXPECT_TRUE(kept());
  fs::last_write_time(file_, time - std::chrono::seconds(1));
  EXPECT_FALSE(kept()) << "older than the checkpoint";
  save(8);
  measure({{"checkpoint", "/before/it/moved/checkpoints/step_00000004"}});
  EXPECT_FALSE(kept());
}

}  // namespace
}  // namespace reverie
