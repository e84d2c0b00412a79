#pragma once
/// Definitions of benchmark tasks: strict JSON files, those of configs/tasks by their name.

#include <string>
#include <vector>

#include "core/named.h"
#include "datasets/benchmarks/answers.h"

namespace reverie {

/// Solved examples in front of every question.
struct FewShotOptions final : Fieldset {
  int64_t count = 0, seed = 1234;
  std::string pool, pick = "first", match, separator = "\n\n";
  std::string prompt, target;  ///< of the examples; "": the task's own
  std::string fetch;           ///< of the pool; "": the task's own
  void fields(Fields&) override;
};

struct BenchmarkDefinition final : Fieldset {
  std::string name, about, mirrors = "own", type = "choice";
  // ---- the items ----
  std::string data, split, source, fetch;
  // ---- what is asked: templates ----
  std::string description, prompt, delimiter = " ", gold, target, group;
  std::vector<std::string> choices;
  double chance = 0;
  FewShotOptions few_shot;
  // ---- of type generate ----
  std::string second_prompt;
  std::vector<std::string> stop;
  int64_t max_tokens = 256, second_max_tokens = 32;
  Named<AnswerOptions> answers;
  ComparisonOptions comparison;

  void fields(Fields&) override;
};

/// `name`: a task of configs/tasks, looked for under the working directory, beside the program and
/// where it was installed; or a file. ConfigError where there is none of that name, with the known
/// ones, and where the definition is not understood.
struct DefinitionFile {
  BenchmarkDefinition definition;
  std::string file;
};
DefinitionFile read_benchmark(const std::string& name);
/// Names of the definitions in configs/tasks, sorted; empty where there is no such folder.
std::vector<std::string> benchmark_names();

}  // namespace reverie
