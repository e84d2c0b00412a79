#include "trainers/training/run_summary.h"

#include <nlohmann/json.hpp>

#include "core/machine.h"
#include "trainers/runs/resumption.h"

namespace reverie {

Json run_summary(const RunView& run, const RunState& state, const EvaluationInfo& last,
                 double largest_change, const Json& numerics) {
  const Dataset& data = run.dataset();
  const Verdict& verdict = run.verdict();
  Json s = {{"train_loss", last.train_loss},
            {"val_loss", last.val_loss},
            {"val_loss_prefix_only", last.val_loss_prefix_only},
            {"val_loss_on_prefix_only_windows", last.val_loss_same_windows},
            {"causal", verdict.causal()},
            {"max_future_logit_change", largest_change},
            {"causality_worst", verdict.line()},
            {"verdict", verdict.json()},
            {"parameters", run.model().parameter_count()},
            {"tokens", state.tokens},
            {"seconds", state.seconds},
            {"tokens_per_second", state.seconds > 0 ? double(state.tokens) / state.seconds : 0.0},
            {"commit", build_commit()}};
  if (!verdict.label().empty()) s["label"] = verdict.label();
  if (!last.val_entries.empty()) s["val_loss_by_entry"] = entries_json(last.val_entries);
  if (last.augmented_val) s["augmented"] = last.augmented_json();
  if (last.carried) {
    s["val_loss_carried"] = last.carried->loss;
    s["val_loss_on_carried_windows"] = last.carried->loss_reset;
    s["carried"] = last.carried->json();
  }
  if (run.options().shrunk_by > 1) s["shrunk_by"] = run.options().shrunk_by;
  s["steps"] = state.step;
  s["seed"] = run.options().seed;
  s["vocabulary_size"] = run.model().vocabulary_size();
  s["dataset"] = {{"name", data.name()}, {"note", data.note()}, {"hash", data.hash}};
  if (data.train_mix && data.train_mix->entries.size() > 1)
    s["dataset"]["mix"] = data.train_mix->in_words();
  s[kConfigHashKey] = config_hash(run.resolved_config());
  s["numerics"] = numerics;
  if (run.communicator().size() > 1) s["ranks"] = run.communicator().size();
  return s;
}

}  // namespace reverie
