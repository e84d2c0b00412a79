#pragma once
// Whether HTML or SVG is well formed, and what is in it.

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <vector>

namespace reverie::testing {

// What is wrong with the tags of `text`, or "": each is closed in its turn, attributes are quoted
// and not repeated, and no stray < or & stands outside. `xml`: there are no elements without an
// end, and void ones end in "/>".
inline std::string markup_fault(const std::string& text, bool xml) {
  static const std::set<std::string> kVoid{"meta", "br", "hr", "img", "link", "wbr"};
  std::vector<std::string> open;
  size_t at = 0;
  const auto starts = [&](const std::string& part) {
    return text.compare(at, part.size(), part) == 0;
  };
  const auto name = [&] {
    const size_t begin = at;
    while (at < text.size() && (std::isalnum(uint8_t(text[at])) || text[at] == '-')) ++at;
    return text.substr(begin, at - begin);
  };
  while (at < text.size()) {
    const std::string here = text.substr(at, 60);
    if (text[at] == '&') {
      const auto known = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
      if (std::none_of(known.begin(), known.end(), starts)) return "stray & at: " + here;
    }
    if (text[at] == '>') return "stray > at: " + here;
    if (text[at] != '<') {
      ++at;
      continue;
    }
    if (!xml && starts("<!DOCTYPE html>")) {
      at += 15;
      continue;
    }
    const bool closing = starts("</");
    at += closing ? 2 : 1;
    const std::string tag = name();
    if (tag.empty()) return "no name at: " + here;
    std::set<std::string> attributes;
    while (starts(" ")) {
      ++at;
      const std::string attribute = name();
      if (!attributes.insert(attribute).second || !starts("=\""))
        return "bad attribute at: " + here;
      const size_t end = text.find_first_of("\"<", at += 2);
      if (end == text.npos || text[end] != '"') return "attribute without end at: " + here;
      at = end + 1;
    }
    const bool alone = starts("/");
    at += alone;
    if (!starts(">")) return "bad tag at: " + here;
    ++at;
    if (closing) {
      if (open.empty() || open.back() != tag) return "unexpected </" + tag + ">";
      open.pop_back();
    } else if (tag == "style" && !xml) {  // raw text: in CSS ">" is a selector
      at = text.find("</style>", at);
      if (at == text.npos) return "style without end";
      at += 8;
    } else if (!alone && (xml || !kVoid.count(tag))) {
      open.push_back(tag);
    }
  }
  return open.empty() ? "" : "not closed: " + open.back();
}

inline size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

inline std::vector<std::string> drawings(const std::string& html) {
  std::vector<std::string> out;
  for (size_t at = html.find("<svg"); at != html.npos; at = html.find("<svg", at + 1))
    out.push_back(html.substr(at, html.find("</svg>", at) + 6 - at));
  return out;
}

}  // namespace reverie::testing
