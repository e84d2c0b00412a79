#include "trainers/probes/separate_group.h"

#include <algorithm>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "layers/row_context.h"

namespace reverie {
namespace {

// The keys and values of a plain text, and its final hidden states.
struct PlainText {
  KeyValues keys;
  Variable hidden;
};
PlainText plain_text(Transformer& base, const Tensor& tokens) {
  PlainText text;
  CausalContext causal(tokens.size(1));
  RecordingContext rows(causal, text.keys);
  text.hidden = base.blocks().forward(base.placed(base.token_rows(tokens), rows.positions()), rows);
  return text;
}

}  // namespace

SeparateGroup separate_group(AugmentedModel& model, const Tensor& tokens,
                             const InsertionPoints& points, int64_t text, int64_t group,
                             const Tensor& others) {
  Transformer& base = model.base();
  const int64_t groups = points.limits.size(1), predicted = points.targets.size(1) / groups,
                limit = int64_t(points.limits.select(0, text).select(0, group).item());
  const auto of_group = [&](const Tensor& rows, int64_t each) {
    return rows.slice(0, text, text + 1).slice(1, group * each, (group + 1) * each).contiguous();
  };
  const Tensor prefix = tokens.slice(0, text, text + 1).slice(1, 0, limit).contiguous(),
               ahead = of_group(points.ahead, predicted - 1),
               targets = of_group(points.targets, predicted);
  const int64_t length = prefix.size(1),
                known = std::max<int64_t>(1, length - model.options().delay);
  const Tensor seen =
      (others ? others : tokens).slice(0, text, text + 1).slice(1, 0, known).contiguous();
  const PlainText read = plain_text(base, seen);
  const Variable latents = model.source().latents(
      TextView(read.keys, read.hidden, Tensor::from<int32_t>({1, 1}, {int32_t(known)}), seen));

  // As it is used: all up to the latents is read, and of that what tokens may see is kept. Latents
  // in the cache stand before the prefix's last token; as embeddings, behind it.
  const GroupMask mask = model.source().mask();
  KeyValues all;
  Variable front = latents;
  if (model.source().writes_cache()) {
    if (length > 1) all = plain_text(base, prefix.slice(1, 0, length - 1).contiguous()).keys;
    all = all.append(unpacked_cache(latents, base.shape().layers));
    front = base.token_rows(prefix.slice(1, length - 1, length).contiguous());
  } else if (mask.latents_see_text) {
    front = concat({base.token_rows(prefix), latents}, 1);
  }
  const auto states = [&](const Variable& rows, RowContext& context) {
    return base.blocks().forward(base.placed(rows, context.positions()), context);
  };
  GrowingPrefixContext first(all, front.size(1));
  Variable final = states(front, first);
  final = slice(final, 1, front.size(1) - 1, front.size(1));  // predicts the first token
  if (ahead.numel() > 0) {
    const int64_t end = all.length();
    const KeyValues kept = mask.tokens_see_text      ? all
                           : mask.tokens_see_latents ? all.slice(end - mask.latents, end)
                                                     : KeyValues();
    PrefixContext behind(kept, ahead.size(1), end);
    final = concat({final, states(base.token_rows(ahead), behind)}, 1);
  }
  return {final, targets, prefix};
}

Variable separate_loss(AugmentedModel& model, const Tensor& tokens, const InsertionPoints& points,
                       int64_t text, int64_t group) {
  const SeparateGroup alone = separate_group(model, tokens, points, text, group);
  const Variable of_targets = model.base().loss_of(alone.hidden, alone.targets, 1.0);
  if (model.source().own_share() == 0) return of_targets;
  return add(
      of_targets,
      model.own_loss(alone.prefix, Tensor::full({1, 1}, double(alone.prefix.size(1)), DType::i32))
          .sum);
}

}  // namespace reverie
