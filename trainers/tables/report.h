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

// What all reports share: the page as far as an open <header> with title and lead, and from notes
// and provenance to its end.
std::string report_begin(const std::string& title, const std::string& lead);
std::string report_end(const std::vector<std::string>& notes, const Provenance& provenance);

extern const char* const kReportStyle;  // CSS

}  // namespace reverie
