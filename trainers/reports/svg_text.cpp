#include "trainers/reports/svg_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "datasets/utf8.h"
#include "report_styles.h"
#include "trainers/text/html.h"

namespace reverie {
namespace {

double width_of(char first_byte) {
  if (uint8_t(first_byte) >= 0x80) return 0.68;
  if (std::string_view("iljtfrI.,:;'|!()[] ").find(first_byte) != std::string_view::npos)
    return 0.36;
  if (std::string_view("mwMW@%").find(first_byte) != std::string_view::npos) return 0.95;
  if (first_byte >= 'A' && first_byte <= 'Z') return 0.72;
  if ((first_byte >= '0' && first_byte <= '9') || first_byte == '_' || first_byte == '=') return 0.70;
  return 0.66;  // as wide as DejaVu Sans, a common fallback
}

bool begins_character(char c) {
  return (c & 0xC0) != 0x80;
}

}  // namespace

double text_width(const std::string& text, double size, bool bold) {
  double sum = 0;
  for (const char c : text)
    if (begins_character(c)) sum += width_of(c);
  return sum * size * (bold ? 1.07 : 1);
}

std::string fit_text(const std::string& given, double room, double size, bool bold) {
  std::string text = valid_utf8(given);
  if (text_width(text, size, bold) <= room) return text;
  while (!text.empty() && text_width(text + "\u2026", size, bold) > room) {
    while (!text.empty() && !begins_character(text.back())) text.pop_back();
    if (!text.empty()) text.pop_back();
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text + "\u2026";
}

std::vector<std::string> fit_lines(const std::string& given, double room, double size, bool bold) {
  const std::string text = valid_utf8(given);
  if (text_width(text, size, bold) <= room) return {text};
  // The last blank before which everything fits.
  size_t at = text.npos;
  for (size_t blank = text.find(' '); blank != text.npos; blank = text.find(' ', blank + 1))
    if (text_width(text.substr(0, blank), size, bold) <= room) at = blank;
  if (at == text.npos) return {fit_text(text, room, size, bold)};
  return {text.substr(0, at), fit_text(text.substr(at + 1), room, size, bold)};
}

std::string svg_text(double x, double y, const std::string& content, const std::string& classes) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}>{}</text>\n", x, y,
                     classes.empty() ? "" : " class=\"" + classes + "\"", escape_html(content));
}

std::string svg_line(double x1, double y1, double x2, double y2, const std::string& classes) {
  return fmt::format(
      "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\"/>\n", x1, y1, x2,
      y2, classes);
}

std::string open_svg(double width, double height, const std::string& plain_name,
                     const std::string& classes) {
  return fmt::format("<svg viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\"{}>\n",
                     width, height, escape_html(plain_name),
                     classes.empty() ? "" : " class=\"" + classes + "\"");
}

std::string svg_file(const std::string& title, const std::vector<std::string>& drawings,
                     int columns, double width, double height) {
  constexpr double kMargin = 16;
  const int rows = (int(drawings.size()) + columns - 1) / columns;
  const double whole = columns * width + (columns + 1) * kMargin;
  const auto lines =
      title.empty() ? std::vector<std::string>() : fit_lines(title, whole - 2 * kMargin, 14, true);
  const double top = kMargin + 20 * double(lines.size()) + (lines.empty() ? 0 : 8),
               tall = top + rows * (height + kMargin);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" width=\"{:.0f}\" "
      "height=\"{:.0f}\">\n<style>\n{}</style>\n<rect width=\"100%\" height=\"100%\" "
      "class=\"plate\"/>\n",
      whole, tall, whole, tall, kPlotCss);
  for (size_t i = 0; i < lines.size(); ++i)
    out += svg_text(kMargin, kMargin + 14 + 20 * double(i), lines[i], "title");
  for (size_t i = 0; i < drawings.size(); ++i) {
    std::string drawing = drawings[i];
    const std::string place =
        fmt::format("<svg x=\"{:.0f}\" y=\"{:.0f}\" width=\"{:.0f}\" height=\"{:.0f}\"",
                    kMargin + double(int(i) % columns) * (width + kMargin),
                    top + double(int(i) / columns) * (height + kMargin), width, height);
    if (drawing.starts_with("<svg")) drawing.replace(0, 4, place);
    out += drawing;
  }
  return out + "</svg>\n";
}

}  // namespace reverie
