#pragma once
// Markdown that tables share.

#include <string>
#include <vector>

#include "trainers/reports/provenance.h"

namespace reverie {

// Text inside a Markdown table or paragraph: no new cell, line, or markup.
std::string escape_markdown(const std::string& text);
// The sections "Notes" (where there are any) and "Provenance", each after an empty line.
std::string markdown_notes(const std::vector<std::string>& notes, const Provenance& provenance);

}  // namespace reverie
