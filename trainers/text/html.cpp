#include "trainers/text/html.h"

#include "datasets/utf8.h"

namespace reverie {
namespace {
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const int bytes = decode_code_point(text, i).bytes;
    out += bytes ? text.substr(i, size_t(bytes)) : kReplacement;
    i += bytes ? size_t(bytes) : 1;
  }
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto [value, bytes] = decode_code_point(text, i);
    const bool forbidden = bytes == 0 || (value < 0x20 && value != '\n' && value != '\t') ||
                           (value >= 0x7F && value < 0xA0) || (value & 0xFFFE) == 0xFFFE;
    if (forbidden)
      out += kReplacement;
    else if (value == '&')
      out += "&amp;";
    else if (value == '<')
      out += "&lt;";
    else if (value == '>')
      out += "&gt;";
    else if (value == '"')
      out += "&quot;";
    else if (value == '\'')
      out += "&#39;";
    else
      out += text.substr(i, size_t(bytes));
    i += bytes ? size_t(bytes) : 1;
  }
  return out;
}

}  // namespace reverie
