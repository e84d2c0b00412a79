#pragma once
/// Contexts of equal length, read into a cache from which their continuations fork.

#include <optional>
#include <vector>

#include "layers/coprocessor/augmented_model.h"
#include "layers/language_model.h"
#include "trainers/benchmarks/batches.h"
#include "trainers/generation/text_without_latents.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {

struct ReaderOptions {
  /// An AugmentedModel's latents stand behind every context; false: it is read as its base.
  bool latents = false;
  int64_t batch_tokens = 4096;    ///< most in one forward
  ForwardAudit* audit = nullptr;  ///< of some forwards; may be null
  /// Each text gets the latents of another: what is left of their effect is not about the text.
  bool shuffled = false;
  /// They are made anew after every so many tokens that are written, and take the place of the old
  /// ones; 0: once.
  int64_t latents_every = 0;
};

/// A batch that was read.
struct ReadBatch {
  SequenceState state;  ///< goes on behind the contexts; without a cache where the model has none
  Variable last;        ///< final hidden states [B, 1, C] that predict the next token
  /// The contexts as the base alone read them, where latents are made anew.
  std::optional<TextWithoutLatents> without_latents = {};

  /// Leaves these texts alone, in this order; `last` stays as it is.
  void keep(const std::vector<int64_t>& of);
};

class TextReader {
 public:
  /// UserError where latents are asked of a model that makes none, or are to be made anew where none
  /// are asked for.
  TextReader(LanguageModel& model, const ReaderOptions& options);

  LanguageModel& model() const { return model_; }
  const ReaderOptions& options() const { return options_; }
  /// Most tokens of context and continuation, latents not counted.
  int64_t room() const;
  /// Whether a text can go on from a cache. If not, it is read as a whole each time.
  bool caches() const { return model_.incremental(); }
  /// Whether a common beginning can be read once: latents are made from a whole text's states.
  bool shares() const { return caches() && augmented_ == nullptr; }

  /// Reads the contexts of a batch behind their common beginning, which is kept for the next batch.
  ReadBatch read(const std::vector<Reading>& readings, const ReadingPlan& plan,
                 const ReadingBatch& batch, bool audited);
  /// Makes latents of the texts of `batch` and of the tokens `written` i32 [B, T] since those that
  /// they have, in whose place they go in: `batch.last` predicts the next token. Where there is one
  /// text alone, the latents of the reading behind number `alone` are another text's.
  void renew(ReadBatch& batch, const Tensor& written, const std::vector<Reading>& readings,
             size_t alone);
  /// Final hidden states [N, T, C] of tokens [N, T] behind the batch's common beginning.
  Variable read_behind(const ReadingPlan& plan, const ReadingBatch& batch, const Tensor& tokens,
                       bool audited);
  /// model().hidden(), audited where asked for.
  Variable hidden(const Tensor& tokens, SequenceState* state, bool audited);

 private:
  /// The state of `count` texts behind the batch's common beginning, which is read unless it is known.
  SequenceState behind_beginning(const ReadingPlan& plan, const ReadingBatch& batch, int64_t count,
                                 bool audited);
  Variable latents_of_others(const std::vector<Reading>& readings, size_t alone,
                             const Variable& own);

  LanguageModel& model_;
  AugmentedModel* augmented_ = nullptr;
  ReaderOptions options_;
  std::optional<size_t> known_;  ///< beginning that is in beginning_
  SequenceState beginning_;
};

}  // namespace reverie
