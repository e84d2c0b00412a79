#pragma once
// report.html: one file without network, script or fonts of its own.

#include <string>
#include <vector>

#include "trainers/tables/table.h"

namespace reverie {

// The explanation, the table, plots of training loss and of teacher-forced beside prefix-only loss
// by block size, a sample text of each model, and provenance. `runs` are those the table was built
// from.
std::string report_html(const Table& table, const std::vector<TableRun>& runs);

extern const char* const kReportStyle;  // CSS

}  // namespace reverie
