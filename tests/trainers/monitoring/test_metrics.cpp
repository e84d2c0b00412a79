#include "trainers/monitoring/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "core/files.h"
#include "support/temporary_directory.h"

namespace reverie {
namespace {
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

TrainMetrics train_at(int64_t step) {
  return {.step = step,
          .loss = 4.0 / double(step + 1),
          .learning_rate = 1e-3,
          .gradient_norm = 0.5,
          .tokens = 768 * step,
          .tokens_per_second = 31234.5,
          .seconds = 0.1 * double(step)};
}

void append_bytes(const std::string& file, const std::string& bytes) {
  std::ofstream(file, std::ios::app | std::ios::binary) << bytes;
}

TEST(Metrics, LinesHoldWhatWasLoggedInOrder) {
  TemporaryDirectory dir;
  MetricsLog log(dir.path());
  log.train(train_at(3));
  log.eval({.step = 4, .train_loss = 1.7, .val_loss = 1.8, .val_loss_prefix_only = 1.9});
  log.sample(4, "To be,\n\"or\" not \\ to be");
  EXPECT_EQ(
      read_file(dir / "metrics.jsonl"),
      "{\"event\":\"train\",\"step\":3,\"loss\":1.0,\"learning_rate\":0.001,\"gradient_norm\":0.5,"
      "\"tokens\":2304,\"tokens_per_second\":31234.5,\"seconds\":0.30000000000000004}\n"
      "{\"event\":\"eval\",\"step\":4,\"train_loss\":1.7,\"val_loss\":1.8,\"val_loss_prefix_only\":"
      "1.9}\n"
      "{\"event\":\"sample\",\"step\":4,\"text\":\"To be,\\n\\\"or\\\" not \\\\ to be\"}\n");
  const auto events = read_metrics(dir.path());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[2]["text"], "To be,\n\"or\" not \\ to be");
  EXPECT_EQ(metric_value(events[1], "val_loss"), 1.8);
}

TEST(Metrics, EveryLineCarriesTheLabelOnceItIsSet) {
  TemporaryDirectory dir;
  MetricsLog log(dir.path());
  log.train(train_at(0));
  log.set_label("LEAKS");
  log.train(train_at(1));
  log.eval({});
  log.sample(1, "x");
  const auto events = read_metrics(dir.path());
  ASSERT_EQ(events.size(), 4u);
  EXPECT_FALSE(events[0].contains("label"));
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(events[i].at("label"), "LEAKS") << i;
}

TEST(Metrics, NotFiniteIsNullAndBrokenUtf8IsReplaced) {
  TemporaryDirectory dir;
  MetricsLog log(dir.path());
  auto metrics = train_at(1);
  metrics.loss = std::nan("");
  metrics.gradient_norm = std::numeric_limits<double>::infinity();
  log.train(metrics);
  log.sample(1, "half a character: \xE2\x82");
  const auto events = read_metrics(dir.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_TRUE(events[0]["loss"].is_null());
  EXPECT_TRUE(std::isnan(metric_value(events[0], "loss")));
  EXPECT_TRUE(std::isnan(metric_value(events[0], "gradient_norm")));
  EXPECT_TRUE(std::isnan(metric_value(events[0], "no such key")));
  EXPECT_EQ(events[1]["text"], "half a character: \xEF\xBF\xBD");
}

TEST(Metrics, ResumeDropsLaterLinesAndATornOneAndGoesOn) {
  TemporaryDirectory dir;
  {
    MetricsLog log(dir.path());
    for (int step = 1; step <= 10; ++step) log.train(train_at(step));
  }
  const std::string whole = read_file(dir / "metrics.jsonl");
  append_bytes(dir / "metrics.jsonl", "{\"event\":\"train\",\"step\":5,\"lo");
  {
    MetricsLog log(dir.path(), 6);
    EXPECT_EQ(read_metrics(dir.path()).size(), 6u);
    for (int step = 7; step <= 10; ++step) log.train(train_at(step));
  }
  EXPECT_EQ(read_file(dir / "metrics.jsonl"), whole);
}

TEST(Metrics, AFreshRunStartsEmptyAndResumingNothingWorks) {
  TemporaryDirectory dir;
  EXPECT_TRUE(read_metrics(dir.path()).empty());
  { MetricsLog(dir.path(), 100).train(train_at(101)); }
  EXPECT_EQ(read_metrics(dir.path()).size(), 1u);
  { MetricsLog(dir.path()).train(train_at(1)); }
  ASSERT_EQ(read_metrics(dir.path()).size(), 1u);
  EXPECT_EQ(read_metrics(dir.path())[0]["step"], 1);
}

TEST(Metrics, ADamagedLineInTheMiddleIsNamed) {
  for (const std::string damaged :
       {"{\"event\":\"tr", "[]", "{}", "{\"event\":\"train\",\"step\":\"1\"}", ""}) {
    TemporaryDirectory dir;
    MetricsLog log(dir.path());
    log.train(train_at(1));
    append_bytes(dir / "metrics.jsonl", damaged + "\n");
    log.train(train_at(2));
    try {
      read_metrics(dir.path());
      ADD_FAILURE() << "accepted: " << damaged;
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("metrics.jsonl:2"));
    }
  }
}

TEST(Metrics, AnEventWithoutNameOrStepIsABug) {
  TemporaryDirectory dir;
  MetricsLog log(dir.path());
  EXPECT_THROW(log.append({{"step", 1}}), InternalError);
  EXPECT_THROW(log.append({{"event", "x"}}), InternalError);
}

// A file-size limit stands for a full disk; in a child process, since the limit holds for all of
// it.
TEST(Metrics, AFullDiskLeavesWholeLinesOnly) {
  TemporaryDirectory dir;
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    MetricsLog log(dir.path());
    const rlimit limit{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    try {
      for (int step = 1; step < 100; ++step) log.train(train_at(step));
    } catch (const MachineError&) {
      ::_exit(42);
    }
    ::_exit(1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  const std::string bytes = read_file(dir / "metrics.jsonl");
  ASSERT_GT(bytes.size(), 500u);
  EXPECT_EQ(bytes.back(), '\n');
}

TEST(Metrics, AMissingDirectoryIsTheMachinesError) {
  TemporaryDirectory dir;
  EXPECT_THROW(MetricsLog(dir / "absent"), MachineError);
}

}  // namespace
}  // namespace reverie
