#include "trainers/generation/text_without_latents.h"

#include "autograd/ops/shape.h"
#include "layers/forked_state.h"

namespace reverie {
namespace {

// i32 [B, T] and [B, U] -> [B, T + U], on the host.
Tensor joined_tokens(const Tensor& first, const Tensor& second) {
  Tensor all = Tensor::empty({first.size(0), first.size(1) + second.size(1)}, DType::i32);
  Tensor front = all.slice(1, 0, first.size(1)), back = all.slice(1, first.size(1), all.size(1));
  front.copy_from(first);
  back.copy_from(second);
  return all;
}

}  // namespace

void TextWithoutLatents::read(AugmentedModel& model, const Tensor& tokens) {
  const Variable hidden = model.hidden(tokens, &state_);
  hidden_ = hidden_ ? concat({hidden_, hidden}, 1) : hidden;
  tokens_ = tokens_.defined() ? joined_tokens(tokens_, tokens) : tokens;
}

Variable TextWithoutLatents::continued(AugmentedModel& model, const Tensor& late,
                                       const Variable& latents, SequenceState& state) const {
  state = state_;
  if (late.defined()) model.hidden(late, &state);
  const Tensor& behind = late.defined() ? late : tokens_;
  const int64_t time = behind.size(1);
  return model.insert(state, behind.slice(1, time - 1, time).contiguous(), latents);
}

TextWithoutLatents TextWithoutLatents::chosen(const std::vector<int64_t>& of) const {
  std::vector<Variable> hidden;
  Tensor tokens = Tensor::empty({int64_t(of.size()), length()}, DType::i32);
  for (size_t i = 0; i < of.size(); ++i) {
    hidden.push_back(slice(hidden_, 0, of[i], of[i] + 1));
    Tensor row = tokens.slice(0, int64_t(i), int64_t(i) + 1);
    row.copy_from(tokens_.slice(0, of[i], of[i] + 1));
  }
  return {forked_state(state_, of), concat(hidden, 0), tokens};
}

}  // namespace reverie
