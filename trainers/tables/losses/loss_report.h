#pragma once
/// report.html: one file without network, script or fonts of its own.

#include <string>
#include <vector>

#include "trainers/reports/svg_plot.h"
#include "trainers/tables/losses/loss_table.h"

namespace reverie {

/// The explanation, the table, plots of training loss and of teacher-forced beside prefix-only loss
/// by block size, a sample text of each model, and provenance. `runs` are those the table was built
/// from.
std::string loss_report_html(const LossTable& table, const std::vector<LossRun>& runs);
/// Its plots, for files beside table.md.
std::vector<PlotFile> loss_plot_files(const LossTable& table, const std::vector<LossRun>& runs);

}  // namespace reverie
