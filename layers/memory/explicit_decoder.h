#pragma once
/// The explicit decoder of Orlicki's "Beyond Words" (arXiv 2502.21030, section 5): a small transformer
/// beside a frozen model that reads the model's memory by cross-attention, and puts it into words.

#include "core/config.h"
#include "layers/transformer.h"

namespace reverie {

struct DecoderOptions final : Fieldset {
  int64_t n_layer = 2, n_head = 2, n_embd = 64;
  double dropout = 0;
  bool rematerialize = false;
  void fields(Fields&) override;
};

/// A memory's rows, and the vocabulary and length of what is written of it.
struct DecoderShape {
  int64_t rows = 0, features = 0, vocabulary = 0, length = 0;
};

/// GPT-2's blocks with learned positions, and cross-attention to the memory before each of them:
///   m = W LN(memory) + places              each row's place is learned
///   x = x + O softmax(Q LN(x) (K m)^T / sqrt(D)) V m
/// It sees nothing of the model but these rows.
class ExplicitDecoder final : public Module {
 public:
  ExplicitDecoder(const DecoderOptions&, const DecoderShape&, const Build&);
  /// memory [B, rows, features], tokens i32 [B, T] written so far, the first of them a mark -> final
  /// hidden states [B, T, n_embd]. UserError where the memory is of another shape.
  Variable forward(const Variable& memory, const Tensor& tokens) const;
  /// The output projection [vocabulary, n_embd].
  const Variable& head() const { return text_->head(); }
  double forward_flops_per_token(int64_t length) const {
    return text_->forward_flops_per_token(length);
  }
  const DecoderShape& shape() const { return shape_; }

 private:
  DecoderShape shape_;
  Transformer* text_;
  MemoryModule* reader_;
};

}  // namespace reverie
