#pragma once
/// Examples at the stages of Coconut (Hao et al. 2024): which steps are gone, which thoughts stand
/// in their place, and training rows whose stage is drawn.

#include <cstdint>
#include <span>
#include <vector>

#include "datasets/examples.h"

namespace reverie {

/// `thoughts` for each removed step. thought_steps not 0: the steps that thoughts stand for are
/// min(stage, thought_steps) in every example, whatever steps it has, and a stage beyond
/// thought_steps leaves no written step.
struct ThoughtRule {
  int64_t thoughts = 1, thought_steps = 0;
};
ThoughtRule thought_rule(const ExampleOptions& options);
bool mixes_stages(const ExampleOptions& options);

/// An example at no stage yet: question (think step)* answer ANSWER end.
std::vector<int32_t> stageless_record(const Example& example, const Tokenizer& tokenizer,
                                      const ExampleLayout& layout);
/// How many steps a stageless record has.
int64_t steps_of_record(const ExampleLayout& layout, std::span<const int32_t> stageless);
/// The record of ExampleLayout at `stage`, not filled up.
std::vector<int32_t> record_at_stage(const ExampleLayout& layout,
                                     std::span<const int32_t> stageless, int64_t stage,
                                     const ThoughtRule& rule);
/// Tokens of the longest of an example's records, over the stages 0 to its number of steps.
int64_t longest_of_stages(const ExampleLayout& layout, std::span<const int32_t> stageless,
                          const ThoughtRule& rule);
/// Fills all records up with `end` to the longest of them, or to `length` where that is more. The
/// length.
int64_t fill_records(std::vector<std::vector<int32_t>>& records, const ExampleLayout& layout,
                     int64_t length = 0);

/// Stageless records of the training examples, in the order of train.tok.
inline constexpr const char* kTrainStepsFile = "train_steps.tok";

/// Training rows at other stages (Coconut's uniform_prob).
struct StageMix {
  double share = 0;  ///< of the rows, whose stage is drawn from 0 to the example's number of steps
  ThoughtRule rule;
  int64_t length = 0;  ///< tokens of each record of kTrainStepsFile
};

}  // namespace reverie
