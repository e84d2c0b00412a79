#include "trainers/training/run_evaluation.h"

#include <nlohmann/json.hpp>

#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {

RunEvaluation::RunEvaluation(const ExperimentOptions& options, LanguageModel& model,
                             const Dataset& data, Communicator& communicator)
    : options_(options), model_(model), data_(data), communicator_(communicator) {
  // Found out before the first step, not at the end.
  EvaluationWindows::over(data.validation, data.validation_rule(), options.evaluation.batch_size,
                          model.block_size(), options.evaluation.final_windows);
}

EvaluationWindows RunEvaluation::validation_windows() const {
  return EvaluationWindows::over(data_.validation, data_.validation_rule(),
                                 options_.evaluation.batch_size, model_.block_size(),
                                 options_.evaluation.windows);
}
double RunEvaluation::validation_loss() const {
  if (auto* augmented = dynamic_cast<AugmentedModel*>(&model_))
    return evaluate_augmented(*augmented, validation_windows(), InsertionRule::of(*augmented),
                              communicator_)
        .loss;
  return evaluate(model_, validation_windows(), communicator_).loss;
}

EvaluationSplits RunEvaluation::splits(int64_t windows, int64_t prefix_windows) const {
  EvaluationSplits splits{data_, options_.evaluation.batch_size, model_.block_size(), windows,
                          prefix_windows};
  splits.texts = carried_texts(data_, model_, options_.evaluation.batch_size, windows);
  return splits;
}

EvaluationInfo RunEvaluation::run(RunGate& gate, int64_t step, const SequenceState* carried,
                                  bool last) const {
  const EvaluationOptions& o = options_.evaluation;
  const EvaluationSplits read = last ? splits(o.final_windows, o.final_prefix_only_windows)
                                     : splits(o.windows, o.prefix_only_windows);
  EvaluationInfo e;
  ForwardAudit audit = gate.audit_at(step);
  const SplitLosses losses = evaluate_splits(
      model_, read, communicator_, last ? "final evaluation" : "evaluation", audit, [&] {
        if (auto* augmented = dynamic_cast<AugmentedModel*>(&model_))
          e.augmented_train = evaluate_augmented(
              *augmented, read.train, InsertionRule::of(*augmented), communicator_, &audit);
        return gate.ask_at_evaluation(read.validation, read.prefix, carried, step, last,
                                      audit.verdict());
      });
  e.step = step;
  e.train_loss = losses.train.loss;
  e.val_loss = losses.validation.loss;
  e.val_loss_prefix_only = losses.prefixes.prefix_only.loss;
  e.val_loss_same_windows = losses.prefixes.same_windows.loss;
  e.augmented_val = losses.augmented;
  e.carried = losses.carried;
  e.val_entries = losses.entries;
  return e;
}

Json EvaluationInfo::augmented_json() const {
  if (!augmented_val) return {};
  Json out = {{"train_loss", augmented_train->loss}, {"val_loss", augmented_val->loss}};
  const Json of_val = augmented_val->json();
  for (const auto& [key, value] : of_val.items())
    if (key != "loss") out[key] = value;
  return out;
}

}  // namespace reverie
