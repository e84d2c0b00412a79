#pragma once
/// Log-likelihoods of continuations.

#include <functional>
#include <vector>

#include "trainers/benchmarks/text_reader.h"

namespace reverie {

struct ContinuationScore {
  double log_likelihood = 0;  ///< nats, of all its tokens
  bool greedy = true;         ///< each of its tokens is the likeliest at its place
};

/// Scores the continuations of one batch of readings, in the order of readings and their
/// continuations. A model with a cache reads each context once; its continuations fork from there, and
/// a single one is read with it.
/// Another reads context and continuation as one text, beside none but texts of the same length.
/// DivergedError, naming the item, where a log-likelihood is not finite.
std::vector<std::vector<ContinuationScore>> score_continuations(
    TextReader& reader, const std::vector<Reading>& readings, const ReadingPlan& plan,
    const ReadingBatch& batch, bool audited);

}  // namespace reverie
