#pragma once
/// Problems: questions with steps of reasoning and answers, made from a seed or read from a file.
/// No problem of the held-out part is in the training part. Users register their own
/// (docs/data.md).

#include <string>
#include <vector>

#include "core/plugin.h"
#include "core/random.h"
#include "core/registry.h"
#include "datasets/examples.h"

namespace reverie {

/// The options that every generator has. A generator's own derive from these and call fields() first.
struct ProblemOptions : Fieldset {
  int64_t train = 20000, held_out = 1000;  ///< problems of each part
  int64_t seed = 1;
  void fields(Fields&) override;
};

struct Problem {
  Example example;
  /// Two problems are one where these are equal, however they are worded: "38 times 47" is "47 times
  /// 38".
  std::string identity;
};

/// The problems of a file, all different.
struct ProblemList {
  std::vector<Problem> problems;
  std::vector<Problem> held_out;    ///< of another file; empty: `problems` are divided by the seed
  std::string file, held_out_file;  ///< where they come from
  std::string note;                 ///< what is to be said of them
};

class ProblemGenerator {
 public:
  explicit ProblemGenerator(const ProblemOptions& options) : options_(options) {}
  virtual ~ProblemGenerator() = default;
  const ProblemOptions& options() const { return options_; }

  /// One problem: a function of the options and of what `random` gives. Its words are separated by
  /// single spaces.
  virtual Problem problem(Generator& random) const = 0;
  /// The share of answers that the best guesser has right who does not read the question's facts.
  virtual double chance() const = 0;
  /// A text of all words that problems may have: the vocabulary of both parts and of all stages.
  virtual std::string vocabulary() const = 0;
  /// The file's problems, where problem() draws from a file: each is in one part at most, once.
  virtual const ProblemList* list() const { return nullptr; }

 private:
  ProblemOptions options_;
};

using ProblemRegistry = Registry<ProblemGenerator>;
template <>
ProblemRegistry& ProblemRegistry::instance();

struct GeneratedProblems {
  std::vector<Example> train, held_out;
};
/// All problems. The held-out ones are all different, and none of them is among those of training,
/// which may repeat. Of a list, all that are not held out are trained on once, in an order of the
/// seed, or the first `train` of them. ConfigError where there are fewer different problems than
/// that takes.
GeneratedProblems generate_problems(const ProblemGenerator& generator);

}  // namespace reverie

/// Registers TYPE, constructed as TYPE(const OPTIONS&), under NAME. OPTIONS derives from
/// ProblemOptions.
#define REVERIE_REGISTER_PROBLEMS(NAME, TYPE, OPTIONS, DOC)    \
  [[maybe_unused]] static const bool reverie_problems_##TYPE = \
      ::reverie::ProblemRegistry::instance().add<TYPE, OPTIONS>(NAME, DOC)
