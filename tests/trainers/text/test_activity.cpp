#include "trainers/text/activity.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/json.h"
#include "core/log.h"
#include "trainers/monitoring/progress.h"
#include "trainers/monitoring/run_overview.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

// A stderr of our own, with a clock that stands still until told.
struct Fake {
  double now = 100;
  int width = 60;
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
constexpr ActivityOptions kByHand{.clock_thread = false};

TEST(Activity, SaysWhatTakesLongAndLeavesNothingBehind) {
  Fake fake;
  {
    Activity activity("probing causality", kByHand, fake.output(true));
    activity.tick();
    EXPECT_TRUE(fake.written.empty());  // too soon
    fake.now += 1;
    activity.tick();
    activity.tick();  // not twice in half a second
    ASSERT_EQ(fake.written.size(), 1u);
    EXPECT_EQ(fake.written[0], "\rprobing causality  00:01\x1b[K");
    fake.now += 1;
    activity.now("validation");
    activity.reach(25, 100);
    fake.now += 1;
    activity.tick();
    EXPECT_EQ(fake.written.back(), "\rvalidation  25/100  25 %  00:03  ETA 00:03\x1b[K");
  }
  EXPECT_EQ(fake.written.back(), "\r\x1b[K");
}

TEST(Activity, NoLineIsWiderThanTheTerminal) {
  Fake fake;
  fake.width = 20;
  Activity activity("reading a checkpoint of a long name", kByHand, fake.output(true));
  fake.now += 2;
  activity.tick();
  EXPECT_EQ(fake.written.back(), "\rreading a checkpoin\x1b[K");
}

TEST(Activity, ElsewhereItIsAPlainLineNowAndThen) {
  Fake fake;
  Activity activity("final evaluation", kByHand, fake.output(false));
  for (int second = 0; second < 65; ++second) {
    fake.now += 1;
    activity.tick();
  }
  ASSERT_EQ(fake.written.size(), 3u);  // after 2, 32 and 62 seconds
  EXPECT_EQ(fake.written[0], "final evaluation  00:02\n");
  EXPECT_EQ(fake.written[1], "final evaluation  00:32\n");
}

TEST(Activity, OfNestedOnesTheInnermostShows) {
  Fake outer_fake, inner_fake;
  Activity outer("outer", kByHand, outer_fake.output(true));
  {
    Activity inner("inner", kByHand, inner_fake.output(true));
    outer_fake.now += 5;
    inner_fake.now += 5;
    outer.tick();
    inner.tick();
    EXPECT_TRUE(outer_fake.written.empty());
    EXPECT_EQ(inner_fake.written.size(), 1u);
  }
  outer.tick();
  EXPECT_EQ(outer_fake.written.size(), 1u);
}

TEST(Activity, ProgressAndActivityTakeTurnsOnOneLine) {
  Fake progress_fake, fake;
  Progress progress(10, {}, progress_fake.output(true));
  progress.step(1, 2.0, 1000);
  {
    Activity activity("evaluation", kByHand, fake.output(true));
    fake.now += 1;
    activity.tick();
    EXPECT_EQ(progress_fake.written.back(), "\r\x1b[K");
    log_info("a message");
    EXPECT_EQ(fake.written.back(), "\r\x1b[K");
    activity.tick();  // comes back at once
    EXPECT_NE(fake.written.back().find("evaluation"), std::string::npos);
  }
}

TEST(Activity, IsSilentUntilTheCommandLineAsks) {
  Fake fake;
  {
    Activity activity("work", {}, fake.output(true));
    fake.now += 10;
    activity.tick();
  }
  EXPECT_TRUE(fake.written.empty());
}

TEST(RunOverview, ModelsInWords) {
  EXPECT_EQ(model_in_words(parse_json(R"({"type": "gpt2", "n_layer": 4, "n_head": 1,
    "n_embd": 1280, "block_size": 64, "memory": {"type": "imm", "mode": "causal_mean"}})")),
            "gpt2, 4 layers, 1 head, width 1,280, block 64, memory imm (causal_mean)");
  EXPECT_EQ(model_in_words(parse_json(R"({"type": "augmented", "base": "stories.bin",
    "latents": {"type": "coprocessor", "count": 16}, "memory": null})")),
            "augmented, base stories.bin, latents coprocessor x 16");
}

}  // namespace
}  // namespace reverie
