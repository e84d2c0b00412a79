#pragma once
/// A frozen language model and a source of latents beside it, trained by the model's own loss on
/// what follows the latents (Liu et al. 2024, arXiv 2412.17747).

#include <memory>

#include "layers/coprocessor/latent_source.h"
#include "layers/frozen_base.h"

namespace reverie {

/// One batch of insertion points. Group g of text b sees its first limits[b, g] tokens, gets latents
/// there, and predicts the next A tokens.
struct InsertionPoints {
  Tensor limits;   ///< i32 [B, G], each 1 .. T + 1 - A
  Tensor ahead;    ///< i32 [B, G * (A - 1)]: the tokens that are read after the latents
  Tensor targets;  ///< i32 [B, G * A]: what is predicted; -1 where the batch has
                   ///< no target
};
/// tokens and targets i32 [B, T], as in LanguageModel::loss.
InsertionPoints insertion_points(const Tensor& tokens, const Tensor& targets, const Tensor& limits,
                                 int64_t ahead);

/// One insertion in each text, in front of its first target, for texts that have their targets in one
/// place, such as the answer to a question. A is what the longest of them takes. UserError for a text
/// without a target, and for one whose targets reach over more than `most_ahead` tokens.
InsertionPoints points_at_targets(const Tensor& tokens, const Tensor& targets, int64_t most_ahead);

struct AugmentedOptions final : Fieldset {
  std::string base;
  Component latents;
  int64_t block_size = 256, groups = 16, ahead = 16, delay = 0;
  std::string insert = "drawn";
  bool train_base = false, rematerialize = false;
  void fields(Fields&) override;
};

/// As a language model it is its base, to the bit: hidden() and logits() know nothing of latents.
/// loss() is the augmented one.
class AugmentedModel final : public LanguageModel, public BesideFrozenBase {
 public:
  AugmentedModel(const AugmentedOptions&, const Build&);

  int64_t vocabulary_size() const override { return base_->vocabulary_size(); }
  int64_t block_size() const override { return options_.block_size; }
  Variable hidden(const Tensor& tokens, SequenceState* state) override {
    return base_->hidden(tokens, state);
  }
  const Variable& head() const override { return base_->head(); }
  double logit_softcap() const override { return base_->logit_softcap(); }
  bool incremental() const override { return base_->incremental(); }
  bool carries_memory() const override { return base_->carries_memory(); }
  std::vector<int32_t> ends_of_text() const override { return ends_; }
  double forward_flops_per_token(int64_t length) const override;
  /// Operations of one insertion after a text of this length that was read already: the latents, and
  /// the base's reading of them.
  double insertion_flops(int64_t length) const;

  /// The mean loss over the ahead tokens of all groups, times the number of `targets` (>= 0) and
  /// `weight_per_target`. In training, G insertion points are drawn for each text; in evaluation
  /// they stand evenly spaced. With "insert": "targets" there is one, in front of the first target.
  Variable loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                SequenceState* state) override;

  /// Final hidden states [B, G * A, C] of the rows that predict. `latents` (may be undefined: asked
  /// of the source) [B, G * N_L, ..] stand in for the source's, so that those of other texts can be
  /// tried. Latents that are embeddings stand behind the text, and the last one predicts the first
  /// token. Those that are keys and values stand before the text's last token, which is read once
  /// more behind them and predicts it.
  Variable ahead_hidden(const Tensor& tokens, const InsertionPoints& points,
                        const Variable& latents = {});
  /// The source's latents for these texts, [B, G * N_L, ..].
  Variable latents_for(const Tensor& tokens, const Tensor& limits);

  /// The source's own loss at all of these insertion points; only where it has one.
  OwnLoss own_loss(const Tensor& tokens, const Tensor& limits);

  // ---- in a text that is being written; under NoGrad ----
  /// A text that the base has read.
  struct Text {
    Tensor tokens;  ///< i32 [B, T]
    KeyValues keys;
    Variable hidden;  ///< final states [B, T, C]
  };
  /// The text that `written` holds in its cache, arguments as below, copied: it stays as it is while
  /// tokens are written behind it, so that another thread may read it.
  Text snapshot(const SequenceState& written, const Variable& hidden, const Tensor& tokens) const;
  /// Latents for the whole of a text, [B, N_L, ..].
  Variable latents_for(const Text& text);
  /// Latents for the text that `written` holds in its cache, [B, N_L, ..]; `hidden` [B, T, C] are
  /// its final hidden states, `tokens` i32 [B, T] the text itself.
  Variable latents_for(const SequenceState& written, const Variable& hidden, const Tensor& tokens);
  /// Puts latents into the base's cache of a text whose last tokens are `last` i32 [B, 1] -> final
  /// hidden states [B, 1, C], which predict the next token.
  Variable insert(SequenceState& written, const Tensor& last, const Variable& latents);

  FrozenBase* frozen_base() override { return options_.train_base ? nullptr : &frozen_; }
  Transformer& base() { return *base_; }
  const Transformer& base() const { return *base_; }
  LatentSource& source() { return *source_; }
  const AugmentedOptions& options() const { return options_; }

 private:
  Text read(const Tensor& tokens);
  Variable latents_for(const Text& text, const Tensor& limits);
  OwnLoss own_loss(const Text& text, const Tensor& limits, const Variable& latents);
  Variable ahead_hidden(const Text& text, const InsertionPoints& points, const Variable& latents);
  Tensor draw_limits(const Tensor& tokens) const;
  /// Rows of a group that the base reads, latents in its cache not counted.
  int64_t rows_read(int64_t ahead) const {
    return source_->writes_cache() ? ahead : source_->count() + ahead - 1;
  }

  AugmentedOptions options_;
  std::vector<int32_t> ends_;
  FrozenBase frozen_;  ///< without a hash where the base is trained: it changes
  Transformer* base_;
  LatentSource* source_;
};

}  // namespace reverie
