// What people see on stderr.

#include "core/log.h"

#include <gtest/gtest.h>

#include <cstdio>

namespace reverie {
namespace {

template <class F>
std::string stderr_of(F&& body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

TEST(Log, InfoIsPlainAndTheRestIsPrefixed) {
  EXPECT_EQ(stderr_of([] { log_info("step {}", 3); }), "step 3\n");
  EXPECT_EQ(stderr_of([] { log_warning("careful"); }),
            "warning: careful\n");  // no colour: no terminal
  EXPECT_EQ(stderr_of([] { log_error("{}", "bad {} %v"); }), "error: bad {} %v\n");
  EXPECT_EQ(stderr_of([] { log_message(LogLevel::debug, "detail"); }), "");
}

TEST(Log, TheLevelDecides) {
  set_log_level(LogLevel::error);
  EXPECT_EQ(stderr_of([] {
              log_warning("careful");
              log_error("bad");
            }),
            "error: bad\n");
  set_log_level(LogLevel::debug);
  EXPECT_EQ(stderr_of([] { log_message(LogLevel::debug, "detail"); }), "debug: detail\n");
  set_log_level(LogLevel::info);
}

TEST(Log, ThePreludeRunsBeforeEachLineThatIsPrinted) {
  set_log_prelude([] { std::fputs("<clear>", stderr); });
  EXPECT_EQ(stderr_of([] {
              log_info("a");
              log_message(LogLevel::debug, "hidden");
              log_info("b");
            }),
            "<clear>a\n<clear>b\n");
  set_log_prelude(nullptr);
  EXPECT_EQ(stderr_of([] { log_info("c"); }), "c\n");
}

TEST(Log, TheLayoutKnowsWhatStandsInFront) {
  set_log_layout([](const std::string& message, int before) {
    return message + " behind " + std::to_string(before);
  });
  EXPECT_EQ(stderr_of([] {
              log_info("a");
              log_warning("b");
              log_error("c");
            }),
            "a behind 0\nwarning: b behind 9\nerror: c behind 7\n");
  set_log_layout(nullptr);
  EXPECT_EQ(stderr_of([] { log_info("d"); }), "d\n");
}

}  // namespace
}  // namespace reverie
