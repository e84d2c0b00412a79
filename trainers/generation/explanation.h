#pragma once
/// A decoder's words about the memory that a prompt left in a run's model: `reverie sample --explain`
/// (docs/explaining.md).

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/layouts/told_lengths.h"
#include "trainers/evaluation/model_source.h"

namespace reverie {

struct Explanation {
  std::string decoder;          ///< the run that wrote it
  std::string reads;            ///< "memory, 8 rows of 16 features"
  int64_t length = 0;           ///< tokens that the memory was made of
  ReadLengths trained;          ///< of the texts that the decoder was trained on
  std::vector<int32_t> tokens;  ///< all that it wrote, marks included
  std::string steps, answer;
  Verdict verdict;

  /// "" where the decoder was trained on texts of this length; else what it was trained on.
  std::string unlike_training() const;
  std::string text() const;
  Json json() const;
};

/// Opens the decoder of the run `decoder` and lets it write of the memory that `prompt` leaves in
/// `model`. UserError where it holds no decoder, or one of other weights than the model's.
Explanation explain(const UsableModel& model, const std::vector<int32_t>& prompt,
                    const std::string& decoder, const std::string& tokenizer);

}  // namespace reverie
