#include "trainers/training/run_gate.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "trainers/evaluation/causality.h"
#include "trainers/evaluation/explained_canary.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/evaluation/latent_canary.h"
#include "trainers/evaluation/probing_mode.h"
#include "trainers/runs/stored_run.h"

namespace reverie {
namespace {

// Forwards of one sweep over cuts, at most. In eval mode few are enough, because prefix-only scores
// ask every cut at every evaluation; in train mode nothing else does, so that there are more, and
// every cut at the start and the end. (8 prefix-only windows, the default, cost 4 T rows.)
constexpr int64_t kFewForwards = 2, kTrainingForwards = 8;
// Pairs of text and group that are computed by themselves.
constexpr int64_t kFewGroups = 4;
// Of texts that are read on with their memory carried, before the first step.
constexpr int64_t kFirstWindows = 4;

bool all_zero(const Variable& parameter) {
  const std::vector<double> values = parameter.tensor().to_vector();
  return std::all_of(values.begin(), values.end(), [](double v) { return v == 0; });
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

Verdict RunGate::ask_live(const EvaluationWindows& validation, const SequenceState* carried,
                          int64_t step, int64_t turn, bool all) {
  Verdict verdict;
  const auto ask = [&](const Tensor& tokens, const Tensor& donors, bool train, int64_t forwards) {
    Asking asking{step, forwards, turn, train};
    if (train) asking.precision = options_.matmul_precision();
    verdict.merge(ask_cuts(model_, tokens, donors, train ? carried : nullptr, asking));
  };
  // The last batches may be a shorter window, or have fewer rows.
  const int64_t batches = validation.batch_count();
  const Tensor first = validation.batch(0).tokens;
  const auto evaluated = [&](int64_t i) {
    const Tensor tokens = validation.batch(i % batches).tokens;
    return tokens.shape() == first.shape() ? tokens : first;
  };
  ask(evaluated(turn), evaluated(turn + 1), false, kFewForwards);
  // Evaluation carries memory, too.
  if (carried) {
    SequenceState past;
    {
      const EvaluationMode mode(model_);
      model_.hidden(evaluated(turn + 1), &past);
    }
    verdict.merge(ask_cuts(model_, evaluated(turn), evaluated(turn + 1), &past,
                           {step, kFewForwards, turn, false}));
  }
  if (const Tensor last = validation.batch(batches - 1).tokens;
      last.size(0) != first.size(0) && last.size(1) == first.size(1))
    ask(last, first, false, kFewForwards);
  const Tensor rows = training_rows(0), donors = training_rows(1);
  ask(rows, donors, true, all ? 0 : kTrainingForwards);
  ask(rows, donors, false, kFewForwards);
  if (auto* explained = dynamic_cast<ExplainedModel*>(&model_)) {
    verdict.merge(ask_memory_alone(*explained, rows, donors, {step, 0, turn, false}));
    verdict.merge(ask_memory_alone(*explained, rows, donors,
                                   {step, 0, turn, true, options_.matmul_precision()}));
  }
  return verdict;
}

Verdict RunGate::ask_live_latents(AugmentedModel& model, int64_t step, int64_t turn, bool all) {
  const Tensor rows = training_rows(0), donors = training_rows(1);
  const LatentSizes sizes{model.options().groups, model.options().ahead};
  Asking asking{step, all ? 0 : 1, turn, false};
  Verdict verdict = ask_latents(model, rows, donors, sizes, asking);
  verdict.merge(ask_separate_groups(model, rows, sizes, all ? sizes.groups : kFewGroups, asking));
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
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model_)) {
    const Batch batch = validation.batch(0);
    augmented_sum(*augmented, batch.tokens, batch.targets, InsertionRule::of(*augmented), &audit);
    return audit.verdict();
  }
  audit.hidden(model_, validation.batch(0).tokens);
  if (const Batch last = validation.batch(validation.batch_count() - 1);
      validation.batch_count() > 1)
    audit.hidden(model_, last.tokens);
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
  return audit.verdict();
}

void RunGate::ask_at_start(const EvaluationWindows& validation,
                           const std::optional<ConsecutiveWindows>& texts) {
  Verdict found = verdict_of_base(options_.model);
  std::string table;
  const SequenceState fresh;
  const SequenceState* carried = model_.carries_memory() ? &fresh : nullptr;
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model_)) {
    found.merge(audit_first_forwards(validation));
    found.merge(ask_live_latents(*augmented, 0, 0, false));
    // Parameters that begin at zero (LoRA's) hide what lies behind them.
    const RedrawnParameters redrawn(
        model_, [](const Variable& p) { return p.requires_grad() && all_zero(p); });
    found.merge(ask_live_latents(*augmented, 0, 1, true));
  } else {
    const CausalityReport report = gate_causality(options_.model, options_.parameter_dtype());
    table = report.text();
    found.merge(report.verdict(0));
    // All ranks have the same copy, so that none goes on alone.
    if (report.causal() || options_.allow_future_leak) {
      found.merge(audit_first_forwards(validation, texts));
      found.merge(ask_live(validation, carried, 0, 0, false));
      const RedrawnParameters redrawn(model_, [](const Variable&) { return true; });
      found.merge(ask_live(validation, carried, 0, 1, true));
    }
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

double RunGate::largest_change() const {
  const double found = verdict_.largest() ? verdict_.largest()->change : 0;
  if (!verdict_.leaks() && trained_change_) return *trained_change_;
  return std::max(found, trained_change_.value_or(0));
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
  if (augmented)
    found.merge(ask_live_latents(*augmented, step, turn, last));
  else
    found.merge(ask_live(validation, carried, step, turn, last));
  if (last && !augmented && communicator_.first()) {
    const NamedTensors weights = model_.state();
    const CausalityReport trained = probe_causality(*probing_copy(options_.model, &weights), {});
    trained_change_ = trained.max_future_logit_change;
    found.merge(trained.verdict(step));
  }
  const bool known = verdict_.leaks();
  verdict_.merge(agreed_verdict(found, communicator_));
  if (verdict_.leaks() && !known && communicator_.first()) {
    log_warning("{}", verdict_.line());
    // A run that is killed before its next checkpoint would forget it.
    if (std::filesystem::is_directory(run_directory_)) keep_leak(run_directory_, verdict_);
  }
  return scores;
}

}  // namespace reverie
