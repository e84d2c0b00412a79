#include "trainers/reports/markdown.h"

#include <fmt/format.h>

namespace reverie {

std::string escape_markdown(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\`*_|<>[]#").find(c) != std::string_view::npos) out += '\\';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return out;
}

std::string markdown_plots(const std::vector<PlotFile>& plots) {
  std::string out;
  for (const PlotFile& plot : plots)
    out += fmt::format("![{}]({})\n\n", escape_markdown(plot.caption), plot.name);
  return out.empty() ? "" : "\n## Plots\n\n" + out;
}

std::string markdown_notes(const std::vector<std::string>& notes, const Provenance& provenance) {
  std::string out;
  if (!notes.empty()) out += "\n## Notes\n\n";
  for (const std::string& note : notes) out += "* " + escape_markdown(note) + "\n";
  out += "\n## Provenance\n\n";
  for (const auto& [name, value] : provenance_lines(provenance))
    out += fmt::format("* {}: {}\n", name, escape_markdown(value));
  return out;
}

}  // namespace reverie
