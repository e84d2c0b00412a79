#pragma once
/// The canary: the live model itself, with its own weights, state, dtype, batch and length, on the
/// run's own text, is asked whether anything moves that may not. A copy, other sizes or random
/// tokens could each be what a leak waits for.

#include "autograd/precision.h"
#include "datasets/sampler.h"
#include "layers/language_model.h"
#include "trainers/distributed/communicator.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/runs/verdict.h"

namespace reverie {

struct Asking {
  int64_t step = 0;           ///< finished training steps, for the verdict
  int64_t most_forwards = 0;  ///< of one sweep over cuts; 0: as many as all cuts need
  int64_t turn = 0;           ///< which cuts come, where not all do
  bool train = false;         ///< in train mode, with a graph as in a training step
  MatmulPrecision precision = MatmulPrecision::full;  ///< of products
  bool again = true;                                  ///< ask the first input a second time
};

/// Sweeps cuts over tokens i32 [B, T] (cut_sweep.h), in eval or train mode (the same dropout masks on
/// both sides), then asks the first input again. `carried` (may be null) is the state that a
/// training step would begin from; with it, the past of the other rows is changed, too. Rows of
/// `donors` i32 [D, T] are other text. Mode and default_generator() are restored. DivergedError
/// where the model's states are not finite.
Verdict ask_cuts(LanguageModel& model, const Tensor& tokens, const Tensor& donors,
                 const SequenceState* carried, const Asking& asking);

/// The short form of ask_cuts(), for a batch whose forwards are dear: the same with few of its rows
/// (the first, the last and, by Asking::turn, two between them), few cuts and nothing asked again but
/// the row that stays whole.
Verdict ask_few_rows(LanguageModel& model, const Tensor& tokens, const Tensor& donors,
                     const SequenceState* carried, const Asking& asking);

/// The whole batch in one forward against few of its rows, each alone: what a model does only in large
/// batches sets them apart at every position. With `carried`, the window behind it as well (of
/// `donors` [B, T]). A row draws its dropout as in the batch. Where the two cannot be compared
/// (products in bf16 round sums of another order to other operands; random numbers that are not
/// drawn row after row are others), a second forward of the whole batch, with other text behind one
/// cut of every row but one. Nothing is asked of a batch that ask_few_rows() asks whole.
Verdict ask_whole_batch(LanguageModel& model, const Tensor& tokens, const Tensor& donors,
                        const SequenceState* carried, const Asking& asking);

/// The prefix-only loss of windows (evaluate_prefix_only(), the same to the bit), the teacher-forced
/// loss of the same windows, and whether the two differ by more than rounding at any target or in
/// the mean of any window. Also whether the model's loss() is the loss of its logits, unless it is
/// another by definition (`own_loss`).
struct PrefixScores {
  EvaluationResult prefix_only, same_windows;
  Verdict verdict;  ///< of this rank's windows
};
PrefixScores score_prefixes(LanguageModel& model, const EvaluationWindows& windows,
                            Communicator& communicator, int64_t step, bool own_loss = false);

}  // namespace reverie
