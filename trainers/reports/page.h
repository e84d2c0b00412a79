#pragma once
/// The HTML page of all reports: one file without network, script or fonts of its own.

#include <string>
#include <vector>

#include "trainers/reports/provenance.h"

namespace reverie {

/// The page as far as an open <header> with title and lead, and from notes
/// and provenance to its end.
std::string page_begin(const std::string& title, const std::string& lead);
std::string page_end(const std::vector<std::string>& notes, const Provenance& provenance);

}  // namespace reverie
