#include "trainers/monitoring/progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <thread>
#include <vector>

#include "core/log.h"
#include "trainers/text/quantities.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

ProgressState middle() {
  ProgressState state;
  state.step = 1200;
  state.steps = 2000;
  state.loss = 1.81234;
  state.val_loss = 1.92;
  state.tokens_per_second = 31240;
  state.seconds_left = 42;
  return state;
}

int columns(const std::string& text) {
  int count = 0;
  for (const char c : text) count += (c & 0xC0) != 0x80;
  return count;
}

TEST(FormatProgress, TheWholeLine) {
  EXPECT_EQ(format_progress(middle(), 0),
            "step 1200/2000  60 %  loss 1.8123  val 1.92  31.2k tok/s  ETA 00:42");
}

TEST(FormatProgress, ContextAndBarStandBeforeTheStep) {
  ProgressState state = middle();
  state.context = "run 3/15 imm_causal_mean/64 seed 2";
  EXPECT_EQ(format_progress(state, 0),
            "run 3/15 imm_causal_mean/64 seed 2  step 1200/2000  60 %  loss 1.8123  val 1.92  "
            "31.2k tok/s  ETA 00:42");
  EXPECT_EQ(format_progress(middle(), 79),
            "[####----]  step 1200/2000  60 %  loss 1.8123  val 1.92  31.2k tok/s  ETA 00:42");
  EXPECT_EQ(columns(format_progress(middle(), 200)), 67 + 2 + 30);
}

TEST(FormatProgress, WorkOnAFileCountsBytes) {
  ProgressState state;
  state.context = "encoding";
  state.bytes = true;
  state.step = 1200000;
  state.steps = 5000000;
  state.tokens_per_second = 31.2e6;
  state.seconds_left = 42;
  EXPECT_EQ(format_progress(state, 0), "encoding  1.2MB/5MB  24 %  31.2MB/s  ETA 00:42");
  EXPECT_EQ(format_progress(state, 64),
            "encoding  [###-----------]  1.2MB/5MB  24 %  31.2MB/s  ETA 00:42");
}

TEST(FormatProgress, EveryLossOfALeakingModelIsLabelled) {
  ProgressState state = middle();
  state.label = "LEAKS";
  EXPECT_EQ(format_progress(state, 0),
            "step 1200/2000  60 %  LEAKS loss 1.8123  LEAKS val 1.92  31.2k tok/s  ETA 00:42");
  // The label is never what a narrow terminal drops while a loss is shown.
  for (int width = 12; width < 120; ++width) {
    const std::string line = format_progress(state, width);
    for (size_t at = line.find("loss 1"); at != line.npos; at = line.find("loss 1", at + 1))
      EXPECT_EQ(line.substr(at - 6, 6), "LEAKS ") << line;
  }
}

TEST(FormatProgress, WhatIsNotKnownYetIsLeftOut) {
  ProgressState state;
  state.steps = 10;
  EXPECT_EQ(format_progress(state, 0), "step 0/10  0 %");
  state.steps = 0;
  EXPECT_EQ(format_progress(state, 0), "step 0/0  0 %");
}

TEST(FormatProgress, NeverWiderThanTheTerminalAndTheStepComesFirst) {
  ProgressState state = middle();
  state.context = "run 3/15 caf\xC3\xA9/64";
  for (const bool unicode : {false, true})
    for (int width = 1; width < 200; ++width) {
      const std::string line = format_progress(state, width, unicode);
      EXPECT_LE(columns(line), width);
      EXPECT_TRUE(width < 14 || line.find("step 1200/2000") != line.npos) << width;
    }
  EXPECT_EQ(format_progress(state, 30), "step 1200/2000  loss 1.8123");
  EXPECT_EQ(format_progress(state, 9), "step 1200");
}

TEST(FormatProgress, BarGrowsFromEmptyToFull) {
  ProgressState state;
  state.steps = 4;
  const char* bars[] = {"[--------]", "[##------]", "[####----]", "[######--]", "[########]"};
  for (state.step = 0; state.step <= 4; ++state.step) {
    const std::string plain = format_progress(state, 0);
    const std::string line = format_progress(state, columns(plain) + 2 + 10);
    EXPECT_EQ(line, std::string(bars[state.step]) + "  " + plain);
  }
  EXPECT_NE(format_progress(state, 60, true).find("\u2501"), std::string::npos);
}

TEST(FormatProgress, ControlCharactersDoNotReachTheTerminal) {
  ProgressState state = middle();
  state.context = "a\x1b[2Jb\nc";
  EXPECT_EQ(format_progress(state, 0).find_first_of("\x1b\n"), std::string::npos);
}

TEST(FormatProgress, DurationsAndCounts) {
  EXPECT_EQ(format_duration(0), "00:00");
  EXPECT_EQ(format_duration(41.6), "00:42");
  EXPECT_EQ(format_duration(59.6), "01:00");
  EXPECT_EQ(format_duration(3723), "1:02:03");
  EXPECT_EQ(format_duration(2 * 86400 + 3 * 3600 + 240), "2 d 03:04");
  EXPECT_EQ(format_duration(-3), "00:00");
  EXPECT_EQ(format_duration(std::nan("")), "--:--");
  EXPECT_EQ(format_count(512), "512");
  EXPECT_EQ(format_count(999.7), "1k");
  EXPECT_EQ(format_count(31240), "31.2k");
  EXPECT_EQ(format_count(1.25e6), "1.25M");
  EXPECT_EQ(format_count(3e9), "3G");
}

// A stderr of our own, with a clock that stands still until told.
struct Fake {
  double now = 100;
  int width = 81;
  std::vector<std::string> written;
  TerminalOutput output(bool terminal) {
    TerminalOutput out;
    out.write = [this](std::string_view text) { written.emplace_back(text); };
    out.width = [this] { return width; };
    out.clock = [this] { return now; };
    out.terminal = terminal;
    return out;
  }
};

TEST(Progress, ATerminalIsRedrawnInPlaceAtMostTenTimesASecond) {
  Fake fake;
  {
    Progress progress(1000, {}, fake.output(true));
    for (int64_t step = 1; step <= 1000; ++step) {
      fake.now += 0.001;
      progress.step(step, 2.0, 1000);
    }
    EXPECT_GE(fake.written.size(), 9u);
    EXPECT_LE(fake.written.size(), 11u);
    for (const auto& text : fake.written) {
      EXPECT_EQ(text.substr(0, 1), "\r");
      EXPECT_EQ(text.substr(text.size() - 3), "\x1b[K");
      EXPECT_EQ(text.find('\n'), text.npos);
    }
  }
  // The end is shown whatever the clock says, and stays on its line.
  ASSERT_GE(fake.written.size(), 2u);
  EXPECT_NE(fake.written[fake.written.size() - 2].find("step 1000/1000  100 %"), std::string::npos);
  EXPECT_EQ(fake.written.back(), "\n");
}

TEST(Progress, ElsewhereThereIsALineAtEveryTenPerCent) {
  Fake fake;
  {
    Progress progress(200, {}, fake.output(false));
    for (int64_t step = 1; step <= 200; ++step) progress.step(step, 2.0, 1000);
  }
  ASSERT_EQ(fake.written.size(), 10u);
  EXPECT_EQ(fake.written[0], "step 20/200  10 %  loss 2.0000  1k tok/s  ETA 00:00\n");
  EXPECT_EQ(fake.written[9], "step 200/200  100 %  loss 2.0000  1k tok/s  ETA 00:00\n");
}

TEST(Progress, WorkOnAFileShowsItsOwnRate) {
  Fake fake;
  {
    Progress progress(4000000, {.context = "encoding", .bytes = true}, fake.output(false));
    for (int64_t part = 1; part <= 4; ++part) {
      fake.now += 0.5;
      progress.reach(part * 1000000);
    }
  }
  ASSERT_EQ(fake.written.size(), 4u);
  EXPECT_EQ(fake.written[0], "encoding  1MB/4MB  25 %  2MB/s  ETA 00:02\n");
  EXPECT_EQ(fake.written[3], "encoding  4MB/4MB  100 %  2MB/s  ETA 00:00\n");
}

TEST(Progress, ElsewhereASlowRunShowsALineNowAndThen) {
  Fake fake;
  Progress progress(100000, {.plain_line_seconds = 30}, fake.output(false));
  for (int64_t step = 1; step <= 100; ++step) {
    fake.now += 1;
    progress.step(step, 2.0, 1000);
  }
  EXPECT_EQ(fake.written.size(), 3u);
}

TEST(Progress, TimeLeftFollowsTheStepsOfThisProcessAlone) {
  Fake fake;
  Progress progress(1000, {.first_step = 900}, fake.output(true));
  fake.now += 50;
  progress.step(950, 2.0, 1000);  // 50 steps in 50 s; the 900 before took none of our time
  ASSERT_EQ(fake.written.size(), 1u);
  EXPECT_NE(fake.written[0].find("ETA 00:50"), std::string::npos) << fake.written[0];
}

TEST(Progress, TimeLeftOfATableIsThatOfAllItsRuns) {
  Fake fake;
  double asked = 0;
  Progress progress(1000,
                    {.seconds_after =
                         [&](double seconds) {
                           asked = seconds;
                           return 3600.0;
                         }},
                    fake.output(true));
  fake.now += 10;
  progress.step(500, 2.0, 1000);
  EXPECT_DOUBLE_EQ(asked, 20);  // this run in all
  EXPECT_NE(fake.written[0].find("table ETA 1:00:10"), std::string::npos) << fake.written[0];
}

TEST(Progress, ValidationLossAndLabelAppear) {
  Fake fake;
  fake.width = 200;
  Progress progress(10, {.context = "run 2/3"}, fake.output(true));
  progress.val_loss(0.802);
  progress.set_label("LEAKS");
  progress.step(1, 0.75, 1000);
  ASSERT_EQ(fake.written.size(), 1u);
  EXPECT_NE(fake.written[0].find("run 2/3  "), std::string::npos);
  EXPECT_NE(fake.written[0].find("LEAKS loss 0.7500  LEAKS val 0.80"), std::string::npos);
}

TEST(Progress, ALogMessageClearsTheLineFirst) {
  Fake fake;
  Progress progress(10, {}, fake.output(true));
  log_info("before anything is drawn");
  EXPECT_TRUE(fake.written.empty());
  progress.step(1, 2, 1000);
  log_info("in the middle");
  ASSERT_EQ(fake.written.size(), 2u);
  EXPECT_EQ(fake.written[1], "\r\x1b[K");
  log_info("nothing left to clear");
  EXPECT_EQ(fake.written.size(), 2u);
  fake.now += 1;
  progress.step(2, 2, 1000);
  EXPECT_EQ(fake.written.size(), 3u);
  progress.finish();
  const size_t after = fake.written.size();
  log_info("after the end");
  progress.step(3, 2, 1000);
  EXPECT_EQ(fake.written.size(), after);
}

TEST(Progress, AnotherThreadMayLogWhileRunsComeAndGo) {
  Fake fake;
  std::jthread logger([] {
    for (int i = 0; i < 50; ++i) log_info("a message from another thread");
  });
  for (int run = 0; run < 200; ++run) {
    Progress progress(10, {}, fake.output(true));
    for (int64_t step = 1; step <= 10; ++step) {
      fake.now += 1;
      progress.step(step, 2, 1000);
    }
  }
  logger.join();
  EXPECT_EQ(fake.written.back(), "\n");
}

}  // namespace
}  // namespace reverie
