#pragma once
/// The elements that plots are drawn from: text that fits its room, lines, the frame of a drawing.

#include <string>
#include <vector>

namespace reverie {

/// About how many units a sans-serif text of `size` units takes. No font is at hand when a page is
/// written, hence an estimate by kinds of characters, on the generous side.
double text_width(const std::string& text, double size = 12, bool bold = false);
/// The text, or as much of it as fits, with an ellipsis.
std::string fit_text(const std::string& text, double room, double size = 12, bool bold = false);
/// One line where it fits, else two broken at a blank; the last ends in an ellipsis where two are
/// not enough.
std::vector<std::string> fit_lines(const std::string& text, double room, double size = 12,
                                   bool bold = false);

std::string svg_text(double x, double y, const std::string& content,
                     const std::string& classes = "");
std::string svg_line(double x1, double y1, double x2, double y2, const std::string& classes);
/// <svg ...><title>: `name` is what a screen reader says, `classes` may be empty.
std::string open_svg(double width, double height, const std::string& name,
                     const std::string& classes);

/// A drawing as a file of its own: the style, and ground of the panel's colour behind it. `drawings`
/// stand in a grid of `columns` below `title`; each is `width` by `height`.
std::string svg_file(const std::string& title, const std::vector<std::string>& drawings,
                     int columns, double width, double height);

}  // namespace reverie
