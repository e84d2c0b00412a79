#pragma once
/// How many examples a model answers rightly when it writes by itself.

#include <functional>

#include "datasets/examples.h"
#include "datasets/token_file.h"
#include "layers/language_model.h"

namespace reverie {

struct AnswerAccuracy {
  int64_t examples = 0, right = 0;
  double written = 0;  ///< tokens behind the thoughts, mean: steps, answer and marks

  double share() const { return examples == 0 ? 0 : double(right) / double(examples); }
};

/// Every example's question and thoughts are given, the rest is written greedily until the end mark,
/// and the answer is right if it is the example's, token by token. `tokens`: records of this layout;
/// at most `count` of them, evenly spaced (0: all). `progress` (may be empty): how many are done.
AnswerAccuracy answer_accuracy(LanguageModel& model, const TokenFile& tokens,
                               const ExampleLayout& layout, int64_t count,
                               const std::function<void(int64_t)>& progress = {});

}  // namespace reverie
