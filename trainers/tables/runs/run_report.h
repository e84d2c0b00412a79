#pragma once
/// report.html of one run, and of several laid over one another.

#include <string>
#include <vector>

#include "trainers/tables/runs/run_record.h"
#include "trainers/training/callback.h"

namespace reverie {

/// Losses, learning rate, gradient norm and speed as curves; samples over time; config; verdict.
std::string run_report_html(const RunRecord& run);
/// Two runs or more: what they reached, what differs in their configs, their curves together.
std::string comparison_html(const std::vector<RunRecord>& runs, const std::string& command);

/// Writes RUN/report.html. A page that cannot be written is a warning.
void write_run_report(const std::string& run_directory);
/// What a kill between a run's last checkpoint and its end left undone: its page is written, its
/// lock removed. Nothing happens while another process holds the lock.
void complete_finished_run(const std::string& run_directory);

/// Writes RUN/report.html when a run ends or stops. A page that cannot be written is a warning: it
/// never ends a run.
class RunReportCallback final : public Callback {
 public:
  void on_end(const RunView&) override;
};

}  // namespace reverie
