#include "trainers/training/run_gate.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "trainers/evaluation/explained_canary.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/evaluation/latent_canary.h"
#include "trainers/probes/causality.h"
#include "trainers/probes/cut_sweep.h"
#include "trainers/probes/probing_mode.h"
#include "trainers/runs/stored_run.h"

namespace reverie {
namespace {

// Forwards of one sweep over cuts, at most. In eval mode few are enough, because prefix-only scores
// ask every cut at every evaluation; in train mode nothing else does, so that there are more, and
// every cut at the start and the end. (8 prefix-only windows, the default, cost 4 T rows.)
constexpr int64_t kFewForwards = 2, kTrainingForwards = 8;
// Pairs of text and group that are computed by themselves.
constexpr int64_t kFewGroups = 4;
// Rows of short forms (ask_few_rows()), for their cost.
constexpr int64_t kFewTexts = 4;
constexpr const char* kEveryGroup = "latents: every group of a text as the one that is cut";
// Of texts that are read on with their memory carried, before the first step.
constexpr int64_t kFirstWindows = 4;

bool all_zero(const Variable& parameter) {
  const auto only_zeros = [](const Tensor& t) {
    const std::vector<double> values = t.to_vector();
    return std::all_of(values.begin(), values.end(), [](double v) { return v == 0; });
  };
  const Tensor& all = parameter.tensor();
  // One row tells it of nearly all of them, without a copy of a large table.
  if (all.shape().rank() > 1 && all.size(0) > 1 && !only_zeros(all.slice(0, 0, 1).contiguous()))
    return false;
  return only_zeros(all);
}

}  // namespace

RunGate::RunGate(const ExperimentOptions& options, LanguageModel& model, const Sampler& sampler,
                 const BatchSplit& split, Communicator& communicator)
    : options_(options),
      model_(model),
      sampler_(sampler),
      split_(split),
      communicator_(communicator) {
  verdict_.set_shrunk(options.shrunk_by);
}

Tensor RunGate::training_rows(int64_t ahead) const {
  const auto& parts = split_.parts();
  const auto largest =
      *std::max_element(parts.begin(), parts.end(),
                        [](const BatchPart& a, const BatchPart& b) { return a.rows < b.rows; });
  const Tensor tokens =
      sampler_.rows(sampler_.position() + ahead, largest.first_row, largest.rows).tokens;
  const int64_t window = model_.block_size();  // a row may be several
  return tokens.size(1) <= window ? tokens : tokens.slice(1, 0, window).contiguous();
}

bool RunGate::in_full(const Tensor& rows, int64_t forwards, GateMoment moment) const {
  return double(forwards) * forward_flops(model_, rows.size(0), rows.size(1)) <=
         full_form_limit(moment);
}

// The rows of a training step, in train mode as it is taken or in eval mode.
Verdict RunGate::ask_rows(const Tensor& rows, const Tensor& donors, const SequenceState* carried,
                          const Occasion& when, bool train) {
  const int64_t length = rows.size(1), few = train ? kTrainingForwards : kFewForwards,
                forwards = train && when.all ? 0 : few;
  Asking asking{when.step, forwards, when.turn, train};
  if (train) asking.precision = options_.matmul_precision();
  const auto planned = int64_t(plan_cuts(rows.size(0), length, forwards, when.turn).size());
  const auto swept = [&](Verdict verdict) {
    if (train && when.moment == GateMoment::end && verdict.largest())
      trained_change_ = verdict.largest()->change;
    return verdict;
  };
  if (in_full(rows, planned + 2, when.moment))
    return swept(ask_cuts(model_, rows, donors, carried, asking));
  const GateMoment moment = train && when.all ? when.moment : GateMoment::evaluation;
  asking.most_forwards =
      short_form_forwards(moment, forward_flops(model_, std::min(rows.size(0), kFewTexts), length));
  Verdict verdict = swept(ask_few_rows(model_, rows, donors, carried, asking));
  // Prefix-only scores ask every cut in eval mode at each evaluation.
  if (when.all && (train || when.moment == GateMoment::start))
    verdict.add_not_probed(
        fmt::format("{}: every cut in {} mode at the model's own size",
                    when.moment == GateMoment::start ? "before the first step" : "at the end",
                    train ? "train" : "eval"));
  if (!train) return verdict;
  if (when.moment != GateMoment::start ||
      forward_flops(model_, rows.size(0), length) <= first_forward_limit())
    verdict.merge(ask_whole_batch(model_, rows, donors, carried, asking));
  else
    verdict.add_not_probed(
        fmt::format("before the first step: training's whole batch of {} rows", rows.size(0)));
  return verdict;
}

// Evaluation's batches. Large ones are left to the audit of the forwards that figures come through
// and to prefix-only scores.
Verdict RunGate::ask_validation(const EvaluationWindows& validation, bool carries,
                                const Occasion& when) {
  Verdict verdict;
  const Asking asking{when.step, kFewForwards, when.turn, false};
  // The last batches may be a shorter window, or have fewer rows.
  const int64_t batches = validation.batch_count();
  const Tensor first = validation.batch(0).tokens;
  if (!in_full(first, kFewForwards + 2, when.moment)) return verdict;
  const auto evaluated = [&](int64_t i) {
    const Tensor tokens = validation.batch(i % batches).tokens;
    return tokens.shape() == first.shape() ? tokens : first;
  };
  const Tensor tokens = evaluated(when.turn), donors = evaluated(when.turn + 1);
  verdict.merge(ask_cuts(model_, tokens, donors, nullptr, asking));
  // Evaluation carries memory, too.
  if (carries) {
    SequenceState past;
    {
      const EvaluationMode mode(model_);
      model_.hidden(donors, &past);
    }
    verdict.merge(ask_cuts(model_, tokens, donors, &past, asking));
  }
  if (const Tensor last = validation.batch(batches - 1).tokens;
      last.size(0) != first.size(0) && last.size(1) == first.size(1))
    verdict.merge(ask_cuts(model_, last, first, nullptr, asking));
  return verdict;
}

// One text alone, as `serve`, `sample` and the last batch of an evaluation read it.
Verdict RunGate::ask_one_row(const Tensor& rows, const Tensor& donors, const Occasion& when) {
  const int64_t row = when.turn % rows.size(0);
  const auto alone = [&](const Tensor& t, int64_t r) { return t.slice(0, r, r + 1).contiguous(); };
  Asking asking{when.step, kFewForwards, when.turn, false};
  asking.again = false;
  return ask_cuts(model_, alone(rows, row), alone(donors, when.turn % donors.size(0)), nullptr,
                  asking);
}

Verdict RunGate::ask_live(const EvaluationWindows& validation, const SequenceState* carried,
                          const Occasion& when) {
  Verdict verdict = ask_validation(validation, carried != nullptr, when);
  const Tensor rows = training_rows(0), donors = training_rows(1);
  verdict.merge(ask_rows(rows, donors, carried, when, true));
  verdict.merge(ask_rows(rows, donors, nullptr, when, false));
  verdict.merge(ask_one_row(rows, donors, when));
  if (auto* explained = dynamic_cast<ExplainedModel*>(&model_)) {
    verdict.merge(ask_memory_alone(*explained, rows, donors, {when.step, 0, when.turn, false}));
    verdict.merge(ask_memory_alone(*explained, rows, donors,
                                   {when.step, 0, when.turn, true, options_.matmul_precision()}));
  }
  return verdict;
}

Verdict RunGate::ask_live_latents(AugmentedModel& model, const Occasion& when) {
  Tensor rows = training_rows(0);
  const Tensor donors = training_rows(1);
  const LatentSizes sizes{model.options().groups, model.options().ahead};
  const double one = packed_flops(model, 1, rows.size(1), sizes.groups);
  const int64_t texts = rows.size(0), planned = when.all ? (sizes.groups + texts - 1) / texts : 1;
  const bool full = double(planned + 2) * double(texts) * one <= full_form_limit(when.moment);
  Verdict verdict;
  if (const auto fit = std::max<int64_t>(1, int64_t(first_forward_limit() / one));
      !full && when.moment == GateMoment::start && texts > fit) {
    verdict.add_not_probed(fmt::format(
        "before the first step: training's batch of {} texts ({} of them were)", texts, fit));
    rows = rows.slice(0, 0, fit).contiguous();
  }
  Asking asking{when.step, 1, when.turn, false};
  if (full) {
    if (when.all) asking.most_forwards = 0;
  } else {
    asking.again = false;
    if (when.all) verdict.add_not_probed(kEveryGroup);
  }
  verdict.merge(ask_latents(model, rows, donors, sizes, asking));
  // The audit of evaluation's forwards does the same on a large model.
  if (full)
    verdict.merge(
        ask_separate_groups(model, rows, sizes, when.all ? sizes.groups : kFewGroups, asking));
  asking.train = true;
  asking.precision = options_.matmul_precision();
  verdict.merge(ask_latents(model, rows, donors, sizes, asking));
  return verdict;
}

// Before anything has seen the text: what a model remembers of it from then on cannot hide it.
Verdict RunGate::audit_first_forwards(const EvaluationWindows& validation,
                                      const std::optional<ConsecutiveWindows>& texts) {
  ForwardAudit audit = audit_at(0);
  const EvaluationMode mode(model_);
  Verdict notes;
  const auto at_most = [&](const Tensor& rows, double flops_of_one) {
    const int64_t all = rows.size(0),
                  fit = std::max<int64_t>(1, int64_t(first_forward_limit() / flops_of_one));
    if (all <= fit) return rows;
    notes.add_not_probed(fmt::format(
        "before the first step: evaluation's batch of {} texts ({} of them were)", all, fit));
    return rows.slice(0, 0, fit).contiguous();
  };
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model_)) {
    const Batch batch = validation.batch(0);
    const InsertionRule rule = InsertionRule::of(*augmented);
    const double one =
        2 * packed_flops(*augmented, 1, batch.tokens.size(1), std::max<int64_t>(rule.points, 1));
    const Tensor tokens = at_most(batch.tokens, one);
    augmented_sum(*augmented, tokens, batch.targets.slice(0, 0, tokens.size(0)).contiguous(), rule,
                  &audit);
    notes.merge(audit.verdict());
    return notes;
  }
  const auto ask = [&](const Tensor& rows) {
    audit.hidden(model_, at_most(rows, forward_flops(model_, 1, rows.size(1))));
  };
  const Tensor first = validation.batch(0).tokens,
               last = validation.batch(validation.batch_count() - 1).tokens;
  ask(first);
  if (validation.batch_count() > 1 &&
      (last.shape() != first.shape() || in_full(last, 2, GateMoment::start)))
    ask(last);
  if (texts) {
    ForwardAudit::Reading reading(audit, model_, *texts, 0);
    SequenceState state;
    for (int64_t w = 0; w < std::min<int64_t>(texts->windows_in(0), kFirstWindows); ++w) {
      const Tensor tokens = texts->batch(0, w).tokens;
      std::vector<int64_t> rows(static_cast<size_t>(tokens.size(0)));
      std::iota(rows.begin(), rows.end(), 0);
      state.memory = state.memory.rows(rows);
      reading.hidden(tokens, state, w);
    }
  }
  notes.merge(audit.verdict());
  return notes;
}

Verdict RunGate::ask_start_of_latents(AugmentedModel& model, const EvaluationWindows& validation) {
  Verdict found = audit_first_forwards(validation);
  const int64_t texts = training_rows(0).size(0);
  const bool dear =
      double(texts) * packed_flops(model, 1, model.block_size(), model.options().groups) >
      full_form_limit(GateMoment::start);
  if (!dear) found.merge(ask_live_latents(model, {}));
  // Parameters that begin at zero (LoRA's) hide what lies behind them.
  const RedrawnParameters redrawn(
      model_, [](const Variable& p) { return p.requires_grad() && all_zero(p); });
  found.merge(ask_live_latents(model, {0, 1, GateMoment::start, true}));
  return found;
}

Verdict RunGate::ask_start_live(const EvaluationWindows& validation,
                                const std::optional<ConsecutiveWindows>& texts) {
  const SequenceState fresh;
  const SequenceState* carried = model_.carries_memory() ? &fresh : nullptr;
  const Occasion first{0, 0, GateMoment::start, false}, second{0, 1, GateMoment::start, true};
  Verdict found = audit_first_forwards(validation, texts);
  if (in_full(training_rows(0), kTrainingForwards, GateMoment::start)) {
    found.merge(ask_live(validation, carried, first));
    const RedrawnParameters redrawn(model_, [](const Variable&) { return true; });
    found.merge(ask_live(validation, carried, second));
    return found;
  }
  const RedrawnParameters opened(
      model_, [](const Variable& p) { return p.requires_grad() && all_zero(p); });
  found.merge(ask_live(validation, carried, {0, 0, GateMoment::start, true}));
  found.add_not_probed("before the first step: the live model with all weights redrawn");
  return found;
}

void RunGate::ask_at_start(const EvaluationWindows& validation,
                           const std::optional<ConsecutiveWindows>& texts) {
  Verdict found = verdict_of_base(*options_.model.resolved);
  std::string table;
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model_)) {
    found.merge(ask_start_of_latents(*augmented, validation));
  } else {
    const auto probe = probe_architecture(options_.model, model_, options_.parameter_dtype(),
                                          options_.matmul_precision());
    bool causal = true;
    if (probe) {
      found.merge(probe->report.verdict(0));
      causal = probe->report.causal();
      if (!causal) table = probe->report.text();
    } else {
      found.add_not_probed("before the first step: a copy with all weights redrawn");
    }
    // All ranks have the same copy, so that none goes on alone.
    if (causal || options_.allow_future_leak) found.merge(ask_start_live(validation, texts));
  }
  verdict_.merge(agreed_verdict(found, communicator_));
  if (!verdict_.leaks() || options_.allow_future_leak) return;
  communicator_.fail_together();
  throw ConfigError(
      fmt::format("this model reads tokens that it must not see. {}. Numbers from it are not "
                  "language-modelling results. To train it all the same, with every number "
                  "labelled {}, set \"allow_future_leak\": true.{}{}",
                  verdict_.line(), kLeakLabel, table.empty() ? "" : "\n", table));
}

void RunGate::keep_leaks_in(const std::string& run_directory) {
  run_directory_ = run_directory;
  remember(kept_leak(run_directory));
  keep_leak(run_directory, verdict_);
}

void RunGate::add(const Verdict& found) {
  const bool known = verdict_.leaks();
  verdict_.merge(found);
  if (!verdict_.leaks() || known || !communicator_.first()) return;
  log_warning("{}", verdict_.line());
  // A run that is killed before its next checkpoint would forget it.
  if (std::filesystem::is_directory(run_directory_)) keep_leak(run_directory_, verdict_);
}

double RunGate::largest_change() const {
  const double found = verdict_.largest() ? verdict_.largest()->change : 0;
  if (!verdict_.leaks() && trained_change_) return *trained_change_;
  return std::max(found, trained_change_.value_or(0));
}

Verdict RunGate::ask_trained_copy(int64_t step) {
  Verdict found;
  if (!communicator_.first()) return found;
  if (copy_probe_flops(model_) > copy_probe_limit()) {
    found.add_not_probed("at the end: a copy of the trained weights in f64");
    return found;
  }
  const NamedTensors weights = model_.state();
  const CausalityReport trained = probe_causality(*probing_copy(options_.model, &weights), {});
  trained_change_ = trained.max_future_logit_change;
  return trained.verdict(step);
}

PrefixScores RunGate::ask_at_evaluation(const EvaluationWindows& validation,
                                        const EvaluationWindows& prefix,
                                        const SequenceState* carried, int64_t step, bool last,
                                        const Verdict& audited) {
  auto* augmented = dynamic_cast<AugmentedModel*>(&model_);
  const int64_t turn = turn_at(step);
  PrefixScores scores = score_prefixes(model_, prefix, communicator_, step, augmented != nullptr);
  Verdict found = scores.verdict;
  found.merge(audited);
  const Occasion when{step, turn, last ? GateMoment::end : GateMoment::evaluation, last};
  const Verdict live =
      augmented ? ask_live_latents(*augmented, when) : ask_live(validation, carried, when);
  found.merge(live);
  if (last && !augmented) found.merge(ask_trained_copy(step));
  add(agreed_verdict(found, communicator_));
  return scores;
}

}  // namespace reverie
