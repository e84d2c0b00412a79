#include "trainers/evaluation/mask_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/row_context.h"

namespace reverie {
namespace {

// The token that follows each; the last has none.
Tensor next_tokens(const Tensor& tokens) {
  Tensor next = tokens.clone();
  int32_t* id = next.mutable_data<int32_t>();
  const int64_t batch = tokens.size(0), time = tokens.size(1);
  for (int64_t b = 0; b < batch; ++b) {
    std::copy(id + b * time + 1, id + (b + 1) * time, id + b * time);
    id[(b + 1) * time - 1] = -1;
  }
  return next;
}

// The keys and values of a plain text, and its final hidden states.
struct PlainText {
  KeyValues keys;
  Variable hidden;
};
PlainText plain_text(Transformer& base, const Tensor& tokens) {
  PlainText text;
  RecordedRows rows(tokens.size(1), text.keys);
  text.hidden = base.blocks().forward(base.placed(base.token_rows(tokens), rows.positions()), rows);
  return text;
}

std::map<std::string, Tensor> take_gradients(AugmentedModel& model) {
  std::map<std::string, Tensor> taken;
  for (auto& [name, parameter] : model.parameters()) {
    if (!parameter.requires_grad()) continue;
    taken[name] = parameter.grad().defined() ? parameter.grad().clone() : Tensor();
    Variable(parameter).clear_grad();
  }
  return taken;
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double v : values) most = std::isfinite(v) ? std::max(most, std::abs(v)) : INFINITY;
  return most;
}

}  // namespace

bool MaskCheck::ok(double tolerance) const {
  const auto near = [&](double difference, double size) {
    return difference <= tolerance * std::max(size, 1e-6);  // NaN is not
  };
  return without_gradient.empty() && !gradients.empty() &&
         near(std::abs(packed_loss - separate_loss), std::abs(separate_loss)) &&
         std::all_of(gradients.begin(), gradients.end(),
                     [&](const Gradient& g) { return near(g.difference, g.size); });
}

std::string MaskCheck::text() const {
  const auto worst = std::max_element(
      gradients.begin(), gradients.end(), [](const Gradient& a, const Gradient& b) {
        return a.difference / std::max(a.size, 1e-6) < b.difference / std::max(b.size, 1e-6);
      });
  std::string out = fmt::format(
      "{} groups, {} predictions: loss packed {:.12f}, by separate forwards {:.12f} (difference "
      "{:.3g})\n",
      groups, targets, packed_loss, separate_loss, std::abs(packed_loss - separate_loss));
  if (worst != gradients.end())
    out += fmt::format(
        "gradients of {} trainable tensors; furthest apart: {} by {:.3g}, its largest element "
        "{:.3g}\n",
        gradients.size(), worst->parameter, worst->difference, worst->size);
  for (const std::string& name : without_gradient)
    out += fmt::format("no gradient reaches {}, which is to be trained\n", name);
  out += ok() ? "packed groups equal separate forwards"
              : "packed groups DIFFER from separate forwards: a group sees what it must not, or "
                "misses what it should see";
  return out;
}

void draw_zero_parameters(Module& model, Generator& random) {
  for (const auto& [name, parameter] : model.parameters()) {
    if (!parameter.requires_grad() || largest(parameter.tensor().to_vector()) != 0) continue;
    Tensor target = parameter.tensor();
    target.copy_from(random.normal(target.shape(), 0, 0.05, target.dtype()));
  }
}

SeparateGroup separate_group(AugmentedModel& model, const Tensor& tokens,
                             const InsertionPoints& points, int64_t text, int64_t group) {
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
  const PlainText read = plain_text(base, prefix.slice(1, 0, known).contiguous());
  const Variable latents = model.source().latents(
      TextView(read.keys, read.hidden, Tensor::from<int32_t>({1, 1}, {int32_t(known)}),
               prefix.slice(1, 0, known).contiguous()));

  // As it is used: all up to the latents is read, and of that what tokens may see is kept. Latents
  // in the cache stand before the prefix's last token; as embeddings, behind it.
  const GroupSight sight = model.source().sight();
  KeyValues all;
  Variable front = latents;
  if (model.source().writes_cache()) {
    if (length > 1) all = plain_text(base, prefix.slice(1, 0, length - 1).contiguous()).keys;
    all = all.append(unpacked_cache(latents, base.shape().layers));
    front = base.token_rows(prefix.slice(1, length - 1, length).contiguous());
  } else if (sight.latents_see_text) {
    front = concat({base.token_rows(prefix), latents}, 1);
  }
  const auto states = [&](const Variable& rows, RowContext& context) {
    return base.blocks().forward(base.placed(rows, context.positions()), context);
  };
  AppendedRows first(all, front.size(1));
  Variable final = states(front, first);
  final = slice(final, 1, front.size(1) - 1, front.size(1));  // predicts the first token
  if (ahead.numel() > 0) {
    const int64_t end = all.length();
    const KeyValues kept = sight.tokens_see_text      ? all
                           : sight.tokens_see_latents ? all.slice(end - sight.latents, end)
                                                      : KeyValues();
    ContinuedRows behind(kept, ahead.size(1), end);
    final = concat({final, states(base.token_rows(ahead), behind)}, 1);
  }
  return {final, targets, prefix};
}

Variable separate_loss(AugmentedModel& model, const Tensor& tokens, const InsertionPoints& points,
                       int64_t text, int64_t group) {
  const SeparateGroup alone = separate_group(model, tokens, points, text, group);
  const Variable of_targets = model.base().loss_of(alone.hidden, alone.targets, 1.0);
  if (model.source().own_share() == 0) return of_targets;
  return add(of_targets,
             model.own_loss(alone.prefix, Tensor::full({1, 1}, double(alone.prefix.size(1)),
                                                       DType::i32))
                 .sum);
}

MaskCheck check_mask(AugmentedModel& model, const Tensor& tokens, const Tensor& limits) {
  const int64_t ahead = model.options().ahead, groups = limits.size(1);
  const InsertionPoints points = insertion_points(tokens, next_tokens(tokens), limits, ahead);
  const bool was_training = model.training();
  model.train(false);  // dropout would draw other masks for other shapes
  take_gradients(model);

  MaskCheck check;
  check.groups = limits.numel();
  for (const double target : points.targets.to_vector()) check.targets += target >= 0;
  Variable packed = model.base().loss_of(model.ahead_hidden(tokens, points), points.targets, 1.0);
  if (model.source().own_share() > 0) packed = add(packed, model.own_loss(tokens, limits).sum);
  check.packed_loss = packed.tensor().item();
  backward(packed);
  const auto packed_gradients = take_gradients(model);

  for (int64_t b = 0; b < limits.size(0); ++b)
    for (int64_t g = 0; g < groups; ++g) {
      const Variable loss = separate_loss(model, tokens, points, b, g);
      check.separate_loss += loss.tensor().item();
      backward(loss);
    }
  for (const auto& [name, separate] : take_gradients(model)) {
    const Tensor& from_packed = packed_gradients.at(name);
    if (!separate.defined() || !from_packed.defined() || largest(separate.to_vector()) == 0 ||
        largest(from_packed.to_vector()) == 0) {
      check.without_gradient.push_back(name);
      continue;
    }
    std::vector<double> apart = from_packed.to_vector();
    const std::vector<double> wanted = separate.to_vector();
    for (size_t i = 0; i < apart.size(); ++i) apart[i] -= wanted[i];
    check.gradients.push_back({name, largest(apart), largest(wanted)});
  }
  model.train(was_training);
  return check;
}

}  // namespace reverie
