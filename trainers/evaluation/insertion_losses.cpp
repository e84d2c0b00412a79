#include "trainers/evaluation/insertion_losses.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/signals.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/probes/movement.h"

namespace reverie {
namespace {

// Rows that the base reads in one forward; groups beyond them wait for the next.
constexpr int64_t kRowsAtOnce = int64_t(1) << 15;

// i32 [B, T] with text b in the place of text b - 1.
Tensor next_texts(const Tensor& tokens) {
  const int64_t size = tokens.size(0);
  require(size > 1, "latents can be shuffled only between texts of one batch, got one text");
  Tensor turned = tokens.clone();
  for (int64_t b = 0; b < size; ++b)
    turned.slice(0, b, b + 1).copy_from(tokens.slice(0, (b + 1) % size, (b + 1) % size + 1));
  return turned;
}

}  // namespace

InsertionLosses insertion_losses(LanguageModel& model, LanguageModel& base, const Tensor& tokens,
                                 const Tensor& targets, const InsertionRule& rule, bool shuffled,
                                 ForwardAudit* audit) {
  auto* augmented = dynamic_cast<AugmentedModel*>(&model);
  require(augmented || !shuffled, "a model without latents has none to shuffle");
  InsertionLosses out;
  InsertionPoints at_targets;
  if (rule.at_targets) at_targets = points_at_targets(tokens, targets, rule.positions);
  out.limits = rule.at_targets ? at_targets.limits : insertion_limits(tokens, rule);
  const int64_t batch = tokens.size(0), time = tokens.size(1), groups = out.limits.size(1),
                positions = rule.at_targets ? at_targets.targets.size(1) : rule.positions;
  const int32_t* limit = out.limits.data<int32_t>();
  const Tensor host = targets.to(Device{}).contiguous();
  const int32_t* target = host.data<int32_t>();
  const auto row_of = [&](int64_t i, int64_t p) {
    return size_t(i / groups * time + limit[i] - 1 + p);
  };
  for (int64_t i = 0; i < batch * groups; ++i)
    for (int64_t p = 0; p < positions; ++p)
      out.scored.push_back(limit[i] - 1 + p < time && target[row_of(i, p)] >= 0);
  // Without latents a row is the text's own; with them, the group's.
  const auto own_rows = [&](LanguageModel& m, ForwardAudit* asked) {
    const Variable hidden = asked ? asked->hidden(m, tokens) : m.hidden(tokens);
    const std::vector<double> rows = row_losses(m, hidden, targets);
    std::vector<double> picked;
    for (int64_t i = 0; i < batch * groups; ++i)
      for (int64_t p = 0; p < positions; ++p)
        picked.push_back(out.scored[picked.size()] ? rows[row_of(i, p)] : 0);
    return picked;
  };
  out.base = own_rows(base, &base == &model ? nullptr : audit);
  if (!augmented) {
    out.model = own_rows(model, audit);
    return out;
  }
  require(rule.first > augmented->options().delay,
          "latents that arrive {} tokens late cannot be inserted after {} tokens: the first "
          "insertion must come after {} or more",
          augmented->options().delay, rule.first, augmented->options().delay + 1);
  const Tensor source = shuffled ? next_texts(tokens) : Tensor();
  out.model.assign(out.base.size(), 0);
  const int64_t rows = augmented->source().count() + positions,
                at_once = std::max<int64_t>(1, kRowsAtOnce / (batch * rows));
  for (int64_t begin = 0; begin < groups; begin += at_once) {
    const int64_t end = std::min(groups, begin + at_once), some = end - begin;
    const Tensor limits = out.limits.slice(1, begin, end).contiguous();
    const InsertionPoints points =
        rule.at_targets ? at_targets : insertion_points(tokens, targets, limits, positions);
    const auto plain = [&] {
      const Variable latents = shuffled ? augmented->latents_for(source, limits) : Variable();
      return augmented->ahead_hidden(tokens, points, latents);
    };
    // The last groups may be fewer.
    const bool audited = audit && (begin == 0 || end == groups);
    const Variable hidden =
        audited ? audit->ahead_hidden(*augmented, tokens, points, source) : plain();
    const std::vector<double> losses = row_losses(model, hidden, points.targets);
    for (int64_t i = 0; i < batch * some * positions; ++i) {
      const int64_t b = i / (some * positions), at = i % (some * positions);
      if (points.targets.data<int32_t>()[i] >= 0)
        out.model[size_t((b * groups + begin) * positions + at)] = losses[size_t(i)];
    }
  }
  return out;
}

Json AugmentedResult::json() const {
  return {{"loss", loss},
          {"base_loss_on_same_predictions", base_loss},
          {"predictions", predictions},
          {"insertions", insertions},
          {"positions", {1, rule.positions}},
          {"rule", rule.text()}};
}

std::string AugmentedResult::where() const {
  return fmt::format("positions 1 to {} after {} insertions ({})", rule.positions, insertions,
                     rule.text());
}

AugmentedSum& AugmentedSum::operator+=(const AugmentedSum& other) {
  loss += other.loss;
  base_loss += other.base_loss;
  predictions += other.predictions;
  insertions += other.insertions;
  return *this;
}

AugmentedResult AugmentedSum::mean(const InsertionRule& rule) const {
  require(predictions > 0,
          "no text is long enough for an insertion: {}. Use longer texts, or "
          "fewer tokens ahead",
          rule.text());
  if (!std::isfinite(loss) || !std::isfinite(base_loss))
    throw DivergedError(
        fmt::format("the loss behind latents is {} and the base's {}, over {} predictions: they "
                    "are not both finite",
                    loss, base_loss, predictions));
  return {loss / double(predictions), base_loss / double(predictions), predictions, insertions,
          rule};
}

AugmentedSum augmented_sum(AugmentedModel& model, const Tensor& tokens, const Tensor& targets,
                           const InsertionRule& rule, ForwardAudit* audit) {
  if (!has_insertions(tokens.size(1), rule)) return {};
  const InsertionLosses losses =
      insertion_losses(model, model, tokens, targets, rule, false, audit);
  AugmentedSum sum;
  sum.insertions = losses.limits.numel();
  for (size_t i = 0; i < losses.scored.size(); ++i) {
    sum.loss += losses.model[i];
    sum.base_loss += losses.base[i];
    sum.predictions += losses.scored[i];
  }
  return sum;
}

AugmentedResult evaluate_augmented(AugmentedModel& model, const EvaluationWindows& windows,
                                   const InsertionRule& rule, Communicator& communicator,
                                   ForwardAudit* audit) {
  const EvaluationMode mode(model);
  const int64_t batches = windows.batch_count(),
                share =
                    (batches - communicator.rank() + communicator.size() - 1) / communicator.size();
  int64_t done = 0;
  Tensor sums = Tensor::zeros({batches, 4}, DType::f64);
  for (int64_t i = communicator.rank(); i < batches && !pending_signal();
       i += communicator.size()) {
    const Batch batch = windows.batch(i);
    const bool audited = audit && audit->audits(done++, share);
    const AugmentedSum part =
        augmented_sum(model, batch.tokens, batch.targets, rule, audited ? audit : nullptr);
    double* at = sums.mutable_data<double>() + 4 * i;
    at[0] = part.loss;
    at[1] = part.base_loss;
    at[2] = double(part.predictions);
    at[3] = double(part.insertions);
  }
  require_uninterrupted(communicator);
  communicator.all_reduce(sums, Reduction::sum);  // zeros where others have values
  AugmentedSum all;
  const double* at = sums.data<double>();
  for (int64_t i = 0; i < batches; ++i, at += 4)
    all += {at[0], at[1], int64_t(at[2]), int64_t(at[3])};
  return all.mean(rule);
}

}  // namespace reverie
