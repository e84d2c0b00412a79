#include "trainers/reports/markdown.h"

#include <fmt/format.h>

#include <algorithm>

namespace reverie {

namespace {
constexpr std::string_view kMarkup = "\\`*_|<>[]#";
}

std::string escape_markdown(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (kMarkup.find(c) != std::string_view::npos) out += '\\';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return out;
}

std::string without_escapes(const std::string& markdown) {
  std::string out;
  for (size_t i = 0; i < markdown.size(); ++i) {
    if (markdown[i] == '\\' && i + 1 < markdown.size() &&
        kMarkup.find(markdown[i + 1]) != std::string_view::npos)
      ++i;
    out += markdown[i];
  }
  return out;
}

std::string code_span(const std::string& text) {
  size_t longest = 0, run = 0;  // of backticks
  for (const char c : text) longest = std::max(longest, run = c == '`' ? run + 1 : 0);
  const std::string fence(longest + 1, '`'), space = longest > 0 ? " " : "";
  std::string line = text;
  std::replace_if(
      line.begin(), line.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return fence + space + line + space + fence;
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
    out += fmt::format("* {}: {}\n", name,
                       name == "command" ? code_span(value) : escape_markdown(value));
  return out;
}

}  // namespace reverie
