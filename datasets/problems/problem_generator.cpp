#include "datasets/problems/problem_generator.h"

#include <fmt/format.h>

#include <set>

#include "core/error.h"

namespace reverie {
namespace {

// Draws in a row that give nothing new before there is taken to be nothing new.
constexpr int64_t kMostTries = 10000;

}  // namespace

template <>
ProblemRegistry& ProblemRegistry::instance() {
  static ProblemRegistry registry("generator of problems");
  return registry;
}

void ProblemOptions::fields(Fields& f) {
  f.integer("train", train, {1, int64_t(1) << 32}, "problems to train on, drawn independently");
  f.integer("held_out", held_out, {1, int64_t(1) << 24},
            "problems that are held out; all are different, and none is trained on");
  f.integer("seed", seed, {0, int64_t(1) << 53},
            "seed of the problems; the two parts derive their own from it");
}

GeneratedProblems generate_problems(const ProblemGenerator& generator) {
  const ProblemOptions& o = generator.options();
  const auto refuse = [](const char* part, int64_t found, int64_t wanted) {
    throw ConfigError(fmt::format(
        "$.data.problems: {} problems of the {} part were found, wanted {}: the options leave no "
        "more that are different. Ask for fewer (\"held_out\"), or for larger problems",
        found, part, wanted));
  };
  GeneratedProblems all;
  std::set<std::string> held_out;
  const auto draw = [&](std::vector<Example>& part, const char* name, int64_t wanted, uint64_t seed,
                        bool different) {
    Generator random(seed);
    for (int64_t tries = 0; int64_t(part.size()) < wanted; ++tries) {
      if (tries == kMostTries) refuse(name, int64_t(part.size()), wanted);
      Problem problem = generator.problem(random);
      if (held_out.contains(problem.identity)) continue;
      if (different) held_out.insert(problem.identity);
      part.push_back(std::move(problem.example));
      tries = -1;
    }
  };
  const auto seed = uint64_t(o.seed) * 2;
  draw(all.held_out, "held-out", o.held_out, seed + 1, true);
  draw(all.train, "training", o.train, seed, false);
  return all;
}

}  // namespace reverie
