#include "trainers/runs/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/random.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Movement movement(const char* probe, double change, double allowed, int64_t step) {
  return {probe, "row 0", change, allowed, step};
}

TEST(Verdict, NothingAskedIsNeitherCausalNorALeak) {
  const Verdict v;
  EXPECT_FALSE(v.causal());
  EXPECT_FALSE(v.leaks());
  EXPECT_EQ(v.json().at("state"), "unknown");
  EXPECT_THAT(v.line(), HasSubstr("unknown"));
}

TEST(Verdict, NothingTurnsALeakBackIntoCausal) {
  Verdict v;
  v.add(movement("cuts", 0, 1e-6, 0));
  EXPECT_TRUE(v.causal());
  EXPECT_EQ(v.label(), "");
  v.add(movement("cuts", 1e-3, 1e-6, 20));
  EXPECT_TRUE(v.leaks());
  for (int64_t step = 40; step < 100; step += 20) v.add(movement("cuts", 0, 1e-6, step));
  Verdict clean;
  clean.add(movement("other", 0, 1e-6, 0));
  v.merge(clean);
  clean.merge(v);
  for (const Verdict& each : {v, clean}) {
    EXPECT_TRUE(each.leaks());
    EXPECT_FALSE(each.causal());
    EXPECT_EQ(each.label(), "LEAKS");
    EXPECT_EQ(each.mark(), "  LEAKS");
    EXPECT_EQ(each.label_at(0), "LEAKS (unknown before step 20)");
    EXPECT_EQ(each.label_at(19), "LEAKS (unknown before step 20)");
    EXPECT_EQ(each.label_at(20), "LEAKS");
    EXPECT_THAT(each.line(), HasSubstr("LEAKS: cuts"));
    EXPECT_THAT(each.line(), HasSubstr("found at step 20, unknown before step 20"));
    EXPECT_THAT(each.steps(), ElementsAre(0, 20, 40, 60, 80));
  }
}

TEST(Verdict, NotANumberIsALeakAndSurvivesJson) {
  Verdict v;
  v.add(movement("cuts", std::nan(""), 1e-6, 3));
  EXPECT_TRUE(v.leaks());
  const Verdict back = Verdict::from_json(Json::parse(v.json().dump()));
  EXPECT_TRUE(back.leaks());
  EXPECT_TRUE(std::isinf(back.largest()->change));
}

// Any order and grouping of what is known gives the same verdict.
TEST(Verdict, MergingIsCommutativeAssociativeAndIdempotent) {
  Generator random(5);
  const auto drawn = [&] {
    Verdict v;
    for (uint64_t n = random.below(4); n > 0; --n)
      v.add(movement(random.below(2) ? "cuts" : "prefixes", double(random.below(4)) * 1e-6,
                     2e-6, int64_t(random.below(3)) * 10));
    if (random.below(2)) v.add_not_probed(random.below(2) ? "cuts" : "decoding");
    return v;
  };
  const auto merged = [](Verdict a, const Verdict& b) {
    a.merge(b);
    return a.json();
  };
  int leaks = 0;
  for (int i = 0; i < 500; ++i) {
    const Verdict a = drawn(), b = drawn(), c = drawn();
    EXPECT_EQ(merged(a, b), merged(b, a));
    EXPECT_EQ(merged(a, a), a.json());
    Verdict ab = a, bc = b;
    ab.merge(b);
    bc.merge(c);
    EXPECT_EQ(merged(ab, c), merged(a, bc));
    EXPECT_EQ(ab.leaks(), a.leaks() || b.leaks());
    EXPECT_EQ(Verdict::from_json(Json::parse(ab.json().dump())).json(), ab.json());
    leaks += ab.leaks();
  }
  EXPECT_GT(leaks, 50);
  EXPECT_LT(leaks, 450);
}

TEST(Verdict, AFileThatContradictsItselfIsNoVerdict) {
  Verdict v;
  v.add(movement("cuts", 1, 1e-6, 3));
  Json json = v.json();
  json["state"] = "causal";
  EXPECT_THROW(Verdict::from_json(json), DataError);
  json = v.json();
  json.erase("steps");
  EXPECT_THROW(Verdict::from_json(json), DataError);
  EXPECT_THROW(Verdict::from_json(Json::parse("[1]")), DataError);
}

TEST(Verdict, FilesOfEarlierVersionsKeepTheirLabel) {
  EXPECT_TRUE(Verdict::of_file({{"label", "LEAKS"}}).leaks());
  EXPECT_TRUE(Verdict::of_file({{"causal", false}}).leaks());
  const Verdict quiet = Verdict::of_file({{"step", 3}, {"causal", true}});
  EXPECT_FALSE(quiet.leaks());
  EXPECT_FALSE(quiet.causal());  // nothing is known
  EXPECT_EQ(quiet.not_probed().size(), 1u);
}

TEST(Verdict, WhatIsProbedLaterIsNoLongerNotProbed) {
  Verdict v;
  v.add_not_probed("decoding");
  EXPECT_THAT(v.not_probed(), ElementsAre("decoding"));
  v.add(movement("decoding", 0, 1e-6, 1));
  EXPECT_TRUE(v.not_probed().empty());
  v.add_not_probed("decoding");
  EXPECT_TRUE(v.not_probed().empty());
}

}  // namespace
}  // namespace reverie
