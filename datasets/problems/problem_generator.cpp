#include "datasets/problems/problem_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "datasets/seeded_order.h"

namespace reverie {
namespace {

// Draws in a row that give nothing new before there is taken to be nothing new.
constexpr int64_t kMostTries = 10000;

// Examples begin .. end - 1 of the order that the seed gives the problems.
std::vector<Example> in_seeded_order(const std::vector<Problem>& problems, uint64_t seed,
                                     int64_t begin, int64_t end) {
  std::vector<Example> out;
  for (int64_t place = begin; place < end; ++place)
    out.push_back(problems[seeded_place(seed, uint64_t(place), problems.size())].example);
  return out;
}

GeneratedProblems divided(const ProblemList& list, const ProblemOptions& o) {
  const auto seed = uint64_t(o.seed);
  const auto all = int64_t(list.problems.size()), apart = int64_t(list.held_out.size());
  const bool two_files = apart > 0;
  const int64_t most = two_files ? apart : all - 1;
  if (o.held_out > most)
    throw ConfigError(
        fmt::format("$.data.problems.held_out is {}, but {} has {} problems{}: wanted at most {}",
                    o.held_out, two_files ? list.held_out_file : list.file, two_files ? apart : all,
                    two_files ? " to hold out" : ", of which some are trained on", most));
  const int64_t first = two_files ? 0 : o.held_out;
  GeneratedProblems out;
  out.held_out = in_seeded_order(two_files ? list.held_out : list.problems, seed, 0, o.held_out);
  out.train = in_seeded_order(list.problems, seed, first, first + std::min(o.train, all - first));
  return out;
}

}  // namespace

template <>
ProblemRegistry& ProblemRegistry::instance() {
  static ProblemRegistry registry("generator of problems");
  return registry;
}

void ProblemOptions::fields(Fields& f) {
  f.integer("train", train, {1, int64_t(1) << 32},
            "problems to train on, drawn independently; of a file: at most so many, each once");
  f.integer("held_out", held_out, {1, int64_t(1) << 24},
            "problems that are held out; all are different, and none is trained on");
  f.integer("seed", seed, {0, int64_t(1) << 53},
            "seed of the problems; the two parts derive their own from it");
}

GeneratedProblems generate_problems(const ProblemGenerator& generator) {
  const ProblemOptions& o = generator.options();
  if (const ProblemList* list = generator.list()) return divided(*list, o);
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
