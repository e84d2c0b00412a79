#pragma once
/// What a trained model does on its task with its memory carried, wiped and swapped, and what the
/// memory costs.

#include <cstdint>
#include <optional>
#include <vector>

#include "datasets/dataset.h"
#include "layers/language_model.h"
#include "trainers/evaluation/task_accuracy.h"
#include "trainers/runs/verdict.h"

namespace reverie {

struct MemoryMeasureOptions final : Fieldset {
  int64_t documents = 0, windows = 0, batch_size = 32;
  void fields(Fields&) override;
};

struct MemoryMeasurement {
  /// Answers of one distance. Without wiped and swapped: the model carries no memory.
  struct Answers {
    DistanceAccuracy carried;
    std::optional<DistanceAccuracy> wiped, swapped;
  };
  /// A text, in bits for each token.
  struct Text {
    double carried = 0;
    std::optional<double> wiped, swapped;
    int64_t predictions = 0;
  };
  std::vector<Answers> answers;       ///< of a generated task's test split, by rising distance
  std::optional<Text> text;           ///< of the validation text, where there is no task
  double flops_per_token = 0;         ///< of one forward over a window
  double milliseconds_per_token = 0;  ///< the same, measured: the fastest of some
  int64_t state_bytes = 0;            ///< carried from one window of a text to the next
  Verdict verdict;                    ///< of the forwards behind the figures of a text

  Json json() const;
  /// DataError where it is none.
  static MemoryMeasurement from_json(const Json& json);
};

/// UserError where the data fits neither the model nor its block_size.
MemoryMeasurement measure_memory(LanguageModel& model, const Dataset& data,
                                 const MemoryMeasureOptions& options, int64_t step);

}  // namespace reverie
