#include "trainers/cli/evaluate_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/evaluation/split_losses.h"
#include "trainers/evaluation/task_accuracy.h"
#include "trainers/generation/answer_accuracy.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"

namespace reverie {

void report_verdict(const Verdict& known, const Verdict& now) {
  fmt::print("{}\n", fit_terminal(STDOUT_FILENO, now.line()));
  if (now.leaks() && !known.leaks())
    throw CheckFailed(
        "this evaluation found a leak that the model's own verdict does not know: no figure above "
        "is a language-modelling result");
}

namespace {

// Answers of the test split by their distance, with the model's own memory and without.
struct TaskAnswers {
  std::vector<DistanceAccuracy> with, without;
};

TaskAnswers measure_task(LanguageModel& model, const Dataset& data, int64_t batch_size,
                         ForwardAudit& audit) {
  const Activity activity("evaluation: answers");
  const auto count = [&](CarriedState state, ForwardAudit* asked) {
    return task_accuracy(model, data.test, data.test_answers, *data.task, 0, batch_size, state,
                         asked);
  };
  TaskAnswers out;
  out.with = count(CarriedState::as_model, &audit);
  out.without = model.carries_memory() ? count(CarriedState::reset, nullptr) : out.with;
  return out;
}

// Into `out`, and as lines.
std::string report_task(const LanguageModel& model, const TaskAnswers& answers, Json& out,
                        const std::string& label) {
  const auto& [with, without] = answers;
  std::string lines;
  for (size_t i = 0; i < with.size(); ++i) {
    Json entry = with[i].json();
    if (with[i].of == 0) {
      lines += fmt::format("test, answers {} {} before  none is asked in this data\n",
                           with[i].distance, with[i].distance == 1 ? "window " : "windows");
      out["answers"].push_back(entry);
      continue;
    }
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

// Examples answered, as a line and into `out`.
std::string report_examples(LanguageModel& model, const Dataset& data, int64_t windows, Json& out,
                            const std::string& label) {
  const Activity activity("evaluation: answers");
  const AnswerAccuracy right = answer_accuracy(model, data.validation, *data.examples, windows);
  out["answers"] = {{"right", right.right}, {"of", right.examples}};
  return fmt::format("validation, answers            {} of {} right ({:.1f} %){}\n", right.right,
                     right.examples, 100 * right.share(), label);
}

std::string report_augmented(const AugmentedResult& e, Json& out, const std::string& label) {
  out["augmented"] = e.json();
  return fmt::format(
      "validation, behind latents      {:.4f} nats  perplexity {:.3f}{}  (the base there {:.3f}; "
      "{} predictions, {})\n",
      e.loss, std::exp(e.loss), label, std::exp(e.base_loss), e.predictions, e.where());
}

std::string report_carried(const CarriedResult& c, Json& out, const std::string& label) {
  out["val_loss_carried"] = c.loss;
  out["val_loss_on_carried_windows"] = c.loss_reset;
  out["carried"] = c.json();
  return fmt::format(
      "validation, memory carried      {:.4f} nats  perplexity {:.3f}{}  ({})\n"
      "  memory reset, same windows    {:.4f} nats{}\n",
      c.loss, std::exp(c.loss), label, c.where(), c.loss_reset, label);
}

std::string report_losses(const SplitLosses& losses, const std::string& label) {
  const EvaluationResult &t = losses.train, &v = losses.validation,
                         &p = losses.prefixes.prefix_only, &same = losses.prefixes.same_windows;
  const auto line = [&](const std::string& name, const EvaluationResult& e) {
    return fmt::format("{:<32}{:.4f} nats  perplexity {:.3f}{}", name, e.loss, std::exp(e.loss),
                       label);
  };
  std::string entries;
  for (const EntryLoss& e : losses.entries)
    entries +=
        fmt::format("{}  ({} predictions)\n", line("  " + e.entry, e.result), e.result.targets);
  return fmt::format("{}\n{}  ({} predictions)\n{}{}  ({} predictions)\n",
                     line("train, teacher-forced", t), line("validation, teacher-forced", v),
                     v.targets, entries, line("validation, prefix-only", p), p.targets) +
         fmt::format("  teacher-forced, same windows  {:.4f} nats{}\n", same.loss, label);
}

SplitLosses measure_run(const LoadedRun& r, const Dataset& data, const EvalRunArguments& a,
                        ForwardAudit& audit) {
  EvaluationSplits splits(data, a.batch_size, r.model->block_size(), a.windows, a.prefix_windows);
  splits.texts = carried_texts(data, *r.model, a.batch_size, a.windows);
  const bool own_loss = dynamic_cast<AugmentedModel*>(r.model.get()) != nullptr;
  return evaluate_splits(*r.model, splits, single_communicator(), "evaluation", audit, [&] {
    return score_prefixes(*r.model, splits.prefix, single_communicator(), r.step, own_loss);
  });
}

Json losses_json(const std::string& run, const LoadedRun& r, const Dataset& data,
                 const SplitLosses& losses, const Verdict& verdict) {
  const PrefixScores& prefixes = losses.prefixes;
  Json out = {{"run", run},
              {"checkpoint", r.checkpoint},
              {"train_loss", losses.train.loss},
              {"val_loss", losses.validation.loss},
              {"val_loss_prefix_only", prefixes.prefix_only.loss},
              {"val_loss_on_prefix_only_windows", prefixes.same_windows.loss},
              {"predictions", losses.validation.targets},
              {"prefix_only_predictions", prefixes.prefix_only.targets},
              {"dataset", data.name()},
              {"dataset_hash", data.hash},
              {"verdict", verdict.json()}};
  if (!losses.entries.empty()) out["val_loss_by_entry"] = entries_json(losses.entries);
  if (!verdict.label().empty()) out["label"] = verdict.label();
  return out;
}

}  // namespace

void evaluate_run(const std::string& directory, const std::string& json,
                  const EvalRunArguments& a) {
  const LoadedRun r = load_run(directory);
  const RunData opened = open_run_data(directory, r, a.other_data);
  const Dataset& data = opened.data;
  if (opened.other) log_warning("OTHER DATA: {}", opened.note);
  // The figures of this evaluation are asked as the run's own were.
  ForwardAudit audit = ForwardAudit::once(r.step);
  const SplitLosses losses = measure_run(r, data, a, audit);
  std::optional<TaskAnswers> task;
  if (data.task) task = measure_task(*r.model, data, a.batch_size, audit);
  Verdict verdict = r.verdict;
  verdict.merge(losses.prefixes.verdict);
  verdict.merge(audit.verdict());
  const std::string label = verdict.mark() + (opened.other ? "  OTHER DATA" : "");
  Json out = losses_json(directory, r, data, losses, verdict);
  if (opened.other) out["other_data"] = {{"trained_on", r.data_hash}, {"note", opened.note}};
  std::string answers, augmented, carried;
  if (data.examples) answers = report_examples(*r.model, data, a.windows, out, label);
  if (task) answers = report_task(*r.model, *task, out, label);
  if (losses.augmented) augmented = report_augmented(*losses.augmented, out, label);
  if (losses.carried) carried = report_carried(*losses.carried, out, label);
  if (!json.empty()) write_file_atomically(json, json_text_replacing(out, 2) + "\n");
  const std::string heading = r.checkpoint + (losses.augmented ? ", its base" : "") + "\n";
  fmt::print("{}", fit_terminal(STDOUT_FILENO, heading + answers + report_losses(losses, label) +
                                                   carried + augmented));
  if (const auto run = find_run(directory)) keep_leak(run->directory, verdict);
  report_verdict(r.verdict, verdict);
}

}  // namespace reverie
