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

TEST_F(KeptMeasurementTest, OfANamedCheckpointItIsOfThatOne) {
  const std::string first = save(4);
  save(8);
  measure_from(first);
  EXPECT_FALSE(kept());
  EXPECT_FALSE(kept_measurement(file_, wanted_, run_ + "@4").is_null());
  EXPECT_TRUE(kept_measurement(file_, wanted_, run_ + "@8").is_null());
  save(4, 1);
  EXPECT_TRUE(kept_measurement(file_, wanted_, run_ + "@4").is_null()) << "other weights";
}

class PublishedMeasurementTest : public ::testing::Test {
 protected:
  PublishedMeasurementTest() {
    fs::create_directories(model_);
    write_file_atomically(model_ + "/config.json", "{}");
    write_file_atomically(weights_, "weights");
    age(weights_, 60);
    age(model_ + "/config.json", 60);
  }
  static void age(const std::string& file, int seconds) {
    fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::seconds(seconds));
  }
  void measure(bool names_files) const {
    Json json = {{"of", wanted_}};
    if (names_files) name_published(json, model_);
    write_file_atomically(file_, json_text(json));
  }
  bool kept() const { return !kept_measurement(file_, wanted_, model_).is_null(); }

  testing::TemporaryDirectory folder_;
  const std::string model_ = folder_ / "model", weights_ = model_ + "/model.safetensors",
                    file_ = folder_ / "asked.json";
  const Json wanted_ = {{"model", "model"}};
};

TEST_F(PublishedMeasurementTest, IsOfTheFilesThatLieThereNow) {
  measure(true);
  EXPECT_TRUE(kept());
  age(weights_, 30);
  EXPECT_TRUE(kept()) << "the same bytes, copied anew";
  write_file_atomically(weights_, "WEIGHTS");
  EXPECT_FALSE(kept()) << "as many others";
  measure(true);
  EXPECT_TRUE(kept());
  write_file_atomically(weights_, "more weights");
  EXPECT_FALSE(kept());
  measure(true);
  write_file_atomically(model_ + "/tokenizer.json", "{}");
  EXPECT_FALSE(kept()) << "another tokenizer reads other tokens";
  fs::remove_all(model_);
  EXPECT_TRUE(kept()) << "there is nothing to compare with";
}

TEST_F(PublishedMeasurementTest, OneOfAnEarlierVersionIsNotOlderThanTheModel) {
  measure(false);
  EXPECT_TRUE(kept());
  age(file_, 90);
  EXPECT_FALSE(kept());
}

}  // namespace
}  // namespace reverie
