#pragma once
/// A benchmark's measures: accuracies and perplexities, for each item and as a whole.

#include <string>
#include <vector>

#include "datasets/benchmarks/items.h"
#include "trainers/benchmarks/statistics.h"

namespace reverie {

/// One figure of a task. A model's result for an item is a JSON object:
///   choice, loglikelihood   {"log_likelihoods": [nats ..], "greedy": [..], "cut": ..}
///   generate                {"text": .., "tokens": .., "cut": ..}, and "second_text",
///                           "second_tokens" where the task has a second prompt
struct Measure {
  std::string name;
  std::vector<double> values;  ///< of each item: 0 or 1, or nats
  bool perplexity = false;  ///< the figure is exp(-mean); its error that of the mean, carried over

  MeanEstimate estimate() const;
};

/// choice: acc (the likeliest choice is right), acc_norm (the likeliest by character, as lm-eval
/// counts them) and acc_bytes (by byte); the first of several equally likely ones counts.
/// loglikelihood: perplexity of the continuation, and acc, whether it is the greedy one.
/// generate: exact_match for each way to take the answer. The first is the task's.
std::vector<Measure> measures_of(const DefinitionFile& task, const BenchmarkItems& items,
                                 const std::vector<Json>& results);

/// The answers in a generated text, by the task's names for them.
Json answers_in(const DefinitionFile& task, const Json& result);

}  // namespace reverie
