#pragma once
/// Markdown that tables share.

#include <string>
#include <vector>

#include "trainers/reports/provenance.h"
#include "trainers/reports/svg_plot.h"

namespace reverie {

/// Text inside a Markdown table or paragraph: no new cell, line, or markup.
std::string escape_markdown(const std::string& text);
/// Text between backticks, as it is: what a reader copies.
std::string code_span(const std::string& text);
/// A Markdown text as a terminal shows it: its escapes taken away.
std::string without_escapes(const std::string& markdown);
/// The section "Plots", after an empty line: each as an image beside the file; "" without plots.
std::string markdown_plots(const std::vector<PlotFile>& plots);
/// The sections "Notes" (where there are any) and "Provenance", each after an empty line.
std::string markdown_notes(const std::vector<std::string>& notes, const Provenance& provenance);

}  // namespace reverie
