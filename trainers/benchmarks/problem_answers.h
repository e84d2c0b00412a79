#pragma once
/// A model's answers to problems that it was trained to answer: records of examples, item by item.

#include <cstdint>
#include <vector>

#include "datasets/examples.h"
#include "datasets/token_file.h"
#include "layers/language_model.h"
#include "trainers/runs/verdict.h"

namespace reverie {

struct ProblemAnswerOptions {
  int64_t items = 0;            ///< at most so many, evenly spaced; 0: all
  int64_t batch_tokens = 4096;  ///< most in one forward
  bool latents = false;         ///< an AugmentedModel's stand behind every question
  bool shuffled = false;        ///< those of another question: a control
  int64_t step = 0;             ///< of the model's training, for the verdict
};

struct ProblemAnswers {
  std::vector<double> right;     ///< of each item, 1: its answer is the example's, token by token
  std::vector<int64_t> written;  ///< tokens behind the question and its thoughts
  double milliseconds = 0;       ///< an item, questions read and answers written side by side
  Verdict verdict;               ///< of this evaluation's own forwards

  double accuracy() const;
  double mean_written() const;
};

/// Every record's question and thoughts are given, and the rest is written greedily until the end
/// mark. `tokens`: records of this layout.
ProblemAnswers answer_problems(LanguageModel& model, const TokenFile& tokens,
                               const ExampleLayout& layout, const ProblemAnswerOptions& options);

}  // namespace reverie
