#include "trainers/reports/page.h"

#include "report_styles.h"
#include "trainers/text/html.h"

namespace reverie {

std::string page_begin(const std::string& plain_title, const std::string& lead) {
  const std::string title = escape_html(plain_title);
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta name=\"color-scheme\" content=\"light dark\">\n<title>" +
         title + "</title>\n<style>\n" + kPlotCss + kPageCss +
         "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>" + title + "</h1>\n<p class=\"lead\">" +
         escape_html(lead) + "</p>\n";
}

std::string page_end(const std::vector<std::string>& notes, const Provenance& provenance) {
  std::string out;
  if (!notes.empty()) {
    out += "<section>\n<h2>Notes</h2>\n<ul class=\"notes\">\n";
    for (const std::string& note : notes) out += "<li>" + escape_html(note) + "</li>\n";
    out += "</ul>\n</section>\n";
  }
  out += "<section>\n<h2>Provenance</h2>\n<dl>\n";
  for (const auto& [name, value] : provenance_lines(provenance))
    out += "<dt>" + escape_html(name) + "</dt><dd>" + escape_html(value) + "</dd>\n";
  return out + "</dl>\n</section>\n</main>\n</body>\n</html>\n";
}

}  // namespace reverie
