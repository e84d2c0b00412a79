#include "trainers/monitoring/run_callbacks.h"


#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/monitoring/audit.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/monitoring/progress.h"
#include "trainers/monitoring/tensorboard.h"

namespace reverie {
namespace {

std::optional<int64_t> resumed_at(int64_t first_step) {
  return first_step > 0 ? std::optional(first_step) : std::nullopt;
}

class MetricsCallback final : public Callback {
 public:
  void on_start(const RunView& t, int64_t first_step) override {
    log_.emplace(t.run_directory(), resumed_at(first_step), t.repeats_evaluation());
    label_.clear();
    label_as(t);
    if (!t.config_changes().empty())
      log_->append({{"event", "config"}, {"step", first_step}, {"changes", t.config_changes()}});
  }
  void on_step(const RunView&, const StepInfo& s) override {
    log_->train({s.step, s.loss, s.learning_rate, s.gradient_norm, s.tokens, s.tokens_per_second,
                 s.seconds});
  }
  void on_evaluation(const RunView& t, const EvaluationInfo& e) override {
    label_as(t);
    EvalMetrics m{e.step,
                  e.train_loss,
                  e.val_loss,
                  e.val_loss_prefix_only,
                  e.augmented_json(),
                  entries_json(e.val_entries)};
    if (e.carried) {
      m.val_loss_carried = e.carried->loss;
      m.val_loss_on_carried_windows = e.carried->loss_reset;
    }
    log_->eval(m);
  }
  void on_sample(const RunView&, int64_t step, const std::string& text) override {
    if (!text.empty()) log_->sample(step, text);
  }

 private:
  // A leak that is found late labels the lines that are there already, too.
  void label_as(const RunView& t) {
    const std::string label = t.verdict().label();
    if (label == label_) return;
    log_->relabel([&](int64_t step) { return t.verdict().label_at(step); });
    log_->set_label(label);
    label_ = label;
  }

  std::optional<MetricsLog> log_;
  std::string label_;
};

// A picture of what metrics.jsonl holds: where it cannot be written, the run goes on without.
class TensorBoardCallback final : public Callback {
 public:
  void on_start(const RunView& t, int64_t first_step) override {
    attempt([&] { writer_.emplace(t.run_directory() + "/tensorboard", resumed_at(first_step)); });
    if (writer_) attempt([&] { describe(t); });
  }
  void on_step(const RunView& t, const StepInfo& s) override {
    scalars(t, s.step,
            {{"train/loss", s.loss},
             {"train/learning_rate", s.learning_rate},
             {"train/gradient_norm", s.gradient_norm},
             {"train/tokens_per_second", s.tokens_per_second}});
  }
  void on_evaluation(const RunView& t, const EvaluationInfo& e) override {
    scalars(t, e.step,
            {{"evaluation/train_loss", e.train_loss},
             {"evaluation/val_loss", e.val_loss},
             {"evaluation/val_loss_prefix_only", e.val_loss_prefix_only}});
    if (e.carried)
      scalars(t, e.step,
              {{"evaluation/val_loss_carried", e.carried->loss},
               {"evaluation/val_loss_on_carried_windows", e.carried->loss_reset}});
    if (!e.augmented_val) return;
    scalars(t, e.step,
            {{"evaluation/augmented_train_loss", e.augmented_train->loss},
             {"evaluation/augmented_val_loss", e.augmented_val->loss},
             {"evaluation/augmented_val_loss_of_base", e.augmented_val->base_loss}});
  }
  void on_sample(const RunView& t, int64_t step, const std::string& text) override {
    if (writer_ && !text.empty()) attempt([&] { writer_->text(prefix(t) + "sample", text, step); });
  }
  void on_end(const RunView& t) override {
    if (writer_ && t.step() == t.options().train.steps) attempt([&] { writer_->end_of_session(); });
  }

 private:
  // The config, and which tags share a chart.
  void describe(const RunView& t) {
    const auto path = std::filesystem::path(t.run_directory()).lexically_normal();
    writer_->hparams(t.resolved_config(),
                     (path.has_filename() ? path : path.parent_path()).filename().string());
    writer_->text("config", json_text(t.resolved_config(), 2), 0);
    // A leak may be found later, and give the tags its prefix.
    const auto either = [](const std::string& tag) {
      return fmt::format("({}/)?{}", kLeakLabel, tag);
    };
    writer_->layout({{"loss",
                      {either("train/loss"), either("evaluation/train_loss"),
                       either("evaluation/val_loss"), either("evaluation/val_loss_prefix_only")}},
                     {"train and validation",
                      {either("evaluation/train_loss"), either("evaluation/val_loss")}}});
  }
  static std::string prefix(const RunView& t) {
    const std::string label = t.verdict().label();
    return label.empty() ? "" : label + "/";
  }
  void scalars(const RunView& t, int64_t step,
               std::initializer_list<std::pair<const char*, double>> values) {
    if (!writer_) return;
    attempt([&] {
      for (const auto& [tag, value] : values) writer_->scalar(prefix(t) + tag, value, step);
    });
  }
  template <class Write>
  void attempt(Write&& write) {
    try {
      write();
    } catch (const MachineError& e) {
      log_warning("TensorBoard events of this run end here: {}", e.what());
      writer_.reset();
    }
  }

  std::optional<TensorBoardWriter> writer_;
};

class ProgressCallback final : public Callback {
 public:
  explicit ProgressCallback(MonitoringOptions options) : options_(std::move(options)) {}
  void on_start(const RunView& t, int64_t first_step) override {
    progress_.emplace(t.options().train.steps,
                      ProgressOptions{.context = options_.context,
                                      .label = t.verdict().label(),
                                      .first_step = first_step,
                                      .seconds_after = options_.seconds_after});
  }
  void on_step(const RunView&, const StepInfo& s) override {
    progress_->step(s.step, s.loss, s.tokens_per_second);
  }
  void on_evaluation(const RunView& t, const EvaluationInfo& e) override {
    progress_->set_label(t.verdict().label());
    if (e.augmented_val)
      progress_->val_loss(e.augmented_val->loss, "augmented val");
    else
      progress_->val_loss(e.val_loss);
    if (e.augmented_val)
      say(t, e,
          fmt::format("augmented train {:.4f}  augmented val {:.4f} (base {:.4f}) over {} "
                      "predictions, {}",
                      e.augmented_train->loss, e.augmented_val->loss, e.augmented_val->base_loss,
                      e.augmented_val->predictions, e.augmented_val->where()));
    say(t, e,
        fmt::format("train {:.4f}  val {:.4f}  val prefix-only {:.4f}", e.train_loss, e.val_loss,
                    e.val_loss_prefix_only));
    if (e.carried)
      say(t, e,
          fmt::format("val memory carried {:.4f}  reset on the same windows {:.4f} ({})",
                      e.carried->loss, e.carried->loss_reset, e.carried->where()));
  }
  void on_end(const RunView&) override { progress_->finish(); }

 private:
  void say(const RunView& t, const EvaluationInfo& e, const std::string& figures) const {
    const std::string context = options_.context.empty() ? "" : options_.context + "  ";
    log_info("{}step {}: {}{}", context, e.step, figures, t.verdict().mark());
  }

  MonitoringOptions options_;
  std::optional<Progress> progress_;
};

}  // namespace

StandardCallbacks::StandardCallbacks(MonitoringOptions options) {
  callbacks_.push_back(std::make_unique<TrainingAudit>());
  callbacks_.push_back(std::make_unique<MetricsCallback>());
  callbacks_.push_back(std::make_unique<TensorBoardCallback>());
  if (options.progress)
    callbacks_.push_back(std::make_unique<ProgressCallback>(std::move(options)));
}
StandardCallbacks::~StandardCallbacks() = default;

RunControl StandardCallbacks::added_to(RunControl control) const {
  if (!control.communicator->first()) return control;
  std::vector<Callback*> all;
  for (const auto& callback : callbacks_) all.push_back(callback.get());
  all.insert(all.end(), control.callbacks.begin(), control.callbacks.end());
  control.callbacks = std::move(all);
  return control;
}

}  // namespace reverie
