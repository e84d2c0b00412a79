#pragma once
/// A text as its base alone has read it, kept while the text goes on behind latents: new latents
/// are made from it, and stand behind it in place of the old ones.

#include <vector>

#include "layers/coprocessor/augmented_model.h"

namespace reverie {

/// A value: a copy goes on by itself. Several texts of equal length side by side. Under NoGrad.
class TextWithoutLatents {
 public:
  /// No token was read yet.
  TextWithoutLatents() { state_.use_cache = true; }
  /// Arguments as those of AugmentedModel::latents_for().
  TextWithoutLatents(SequenceState read, Variable hidden, Tensor tokens)
      : state_(std::move(read)), hidden_(std::move(hidden)), tokens_(std::move(tokens)) {}

  int64_t length() const { return tokens_.defined() ? tokens_.size(1) : 0; }
  /// Reads tokens i32 [B, T] more.
  void read(AugmentedModel& model, const Tensor& tokens);
  /// Latents for the whole of it, [B, N_L, ..].
  Variable latents(AugmentedModel& model) const {
    return model.latents_for(state_, hidden_, tokens_);
  }
  /// `state` becomes that of this text, of the tokens `late` i32 [B, T] behind it (undefined:
  /// none), and of the latents -> final hidden states [B, 1, C], which predict the next token.
  Variable continued(AugmentedModel& model, const Tensor& late, const Variable& latents,
                     SequenceState& state) const;
  /// These texts alone, in this order.
  TextWithoutLatents chosen(const std::vector<int64_t>& of) const;

 private:
  SequenceState state_;
  Variable hidden_;  ///< final states [B, length, C]
  Tensor tokens_;    ///< i32 [B, length]
};

}  // namespace reverie
