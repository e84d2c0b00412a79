#include "trainers/cli/evaluate_run.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/evaluation/answer_accuracy.h"
#include "trainers/evaluation/forward_audit.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/evaluation/split_losses.h"
#include "trainers/evaluation/task_accuracy.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
#include "trainers/text/activity.h"

namespace reverie {

void report_verdict(const Verdict& known, const Verdict& now) {
  fmt::print("{}\n", now.line());
  if (now.leaks() && !known.leaks())
    throw CheckFailed(
        "this evaluation found a leak that the model's own verdict does not know: no figure above "
        "is a language-modelling result");
}

namespace {

// Answers of the test split by their distance, into `out`, and as lines.
std::string report_task(LanguageModel& model, const Dataset& data, int64_t batch_size, Json& out,
                        const std::string& label) {
  const Activity activity("evaluation: answers");
  const auto count = [&](CarriedState state) {
    return task_accuracy(model, data.test, data.test_answers, *data.task, 0, batch_size, state);
  };
  const auto with = count(CarriedState::as_model);
  const auto without = model.carries_memory() ? count(CarriedState::reset) : with;
  std::string lines;
  for (size_t i = 0; i < with.size(); ++i) {
    Json entry = with[i].json();
    lines += fmt::format("test, answers {} {} before  {:.1f} % of {} right{}  (chance {:.1f} %",
                         with[i].distance, with[i].distance == 1 ? "window " : "windows",
                         100 * with[i].share(), with[i].of, label, 100 * with[i].chance);
    if (model.carries_memory()) {
      entry["right_reset"] = without[i].right;
      lines += fmt::format(", memory reset at each window {:.1f} %", 100 * without[i].share());
    }
    lines += ")\n";
    out["answers"].push_back(entry);
  }
  return lines;
}

}  // namespace

void evaluate_run(const std::string& directory, const std::string& json,
                  const EvalRunArguments& a) {
  const LoadedRun r = load_run(directory);
  const RunData opened = open_run_data(directory, r, a.other_data);
  const Dataset& data = opened.data;
  if (opened.other) log_warning("OTHER DATA: {}", opened.note);
  EvaluationSplits splits(data, a.batch_size, r.model->block_size(), a.windows, a.prefix_windows);
  splits.texts = carried_texts(data, *r.model, a.batch_size, a.windows);
  // The figures of this evaluation are asked as the run's own were.
  ForwardAudit audit(r.step, r.step);
  const bool own_loss = dynamic_cast<AugmentedModel*>(r.model.get()) != nullptr;
  const SplitLosses losses =
      evaluate_splits(*r.model, splits, single_communicator(), "evaluation", audit, [&] {
        return score_prefixes(*r.model, splits.prefix, single_communicator(), r.step, own_loss);
      });
  const EvaluationResult t = losses.train, v = losses.validation, p = losses.prefixes.prefix_only,
                         same = losses.prefixes.same_windows;
  Verdict verdict = r.verdict;
  verdict.merge(losses.prefixes.verdict);
  verdict.merge(audit.verdict());
  const std::string label = verdict.mark() + (opened.other ? "  OTHER DATA" : "");
  Json out = {{"run", directory},
              {"checkpoint", r.checkpoint},
              {"train_loss", t.loss},
              {"val_loss", v.loss},
              {"val_loss_prefix_only", p.loss},
              {"val_loss_on_prefix_only_windows", same.loss},
              {"predictions", v.targets},
              {"prefix_only_predictions", p.targets},
              {"dataset", data.name()},
              {"dataset_hash", data.hash},
              {"verdict", verdict.json()}};
  if (verdict.leaks()) out["label"] = verdict.label();
  if (opened.other) out["other_data"] = {{"trained_on", r.data_hash}, {"note", opened.note}};
  std::string answers, augmented;
  if (data.examples) {
    const Activity activity("evaluation: answers");
    const AnswerAccuracy right =
        answer_accuracy(*r.model, data.validation, *data.examples, a.windows);
    out["answers"] = {{"right", right.right}, {"of", right.examples}};
    answers = fmt::format("validation, answers            {} of {} right ({:.1f} %){}\n",
                          right.right, right.examples, 100 * right.share(), label);
  }
  if (data.task) answers = report_task(*r.model, data, a.batch_size, out, label);
  const char* whose = "";
  if (losses.augmented) {
    const AugmentedResult& e = *losses.augmented;
    out["augmented"] = e.json();
    whose = ", its base";
    augmented = fmt::format(
        "validation, behind latents      {:.4f} nats  perplexity {:.3f}{}  (the base there {:.3f}; "
        "{} predictions, {})\n",
        e.loss, std::exp(e.loss), label, std::exp(e.base_loss), e.predictions, e.where());
  }
  std::string carried;
  if (losses.carried) {
    const CarriedResult& c = *losses.carried;
    out["val_loss_carried"] = c.loss;
    out["val_loss_on_carried_windows"] = c.loss_reset;
    out["carried"] = c.json();
    carried = fmt::format(
        "validation, memory carried      {:.4f} nats  perplexity {:.3f}{}  ({})\n"
        "  memory reset, same windows    {:.4f} nats{}\n",
        c.loss, std::exp(c.loss), label, c.where(), c.loss_reset, label);
  }
  if (!json.empty()) write_file_atomically(json, json_text_replacing(out, 2) + "\n");
  fmt::print("{}{}\n{}", r.checkpoint, whose, answers);
  fmt::print("train, teacher-forced           {:.4f} nats  perplexity {:.3f}{}\n", t.loss,
             std::exp(t.loss), label);
  fmt::print("validation, teacher-forced      {:.4f} nats  perplexity {:.3f}{}  ({} predictions)\n",
             v.loss, std::exp(v.loss), label, v.targets);
  fmt::print("validation, prefix-only         {:.4f} nats  perplexity {:.3f}{}  ({} predictions)\n",
             p.loss, std::exp(p.loss), label, p.targets);
  fmt::print("  teacher-forced, same windows  {:.4f} nats{}\n{}{}", same.loss, label, carried,
             augmented);
  if (const auto run = find_run(directory)) keep_leak(run->directory, verdict);
  report_verdict(r.verdict, verdict);
}

}  // namespace reverie
