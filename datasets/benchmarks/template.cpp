#include "datasets/benchmarks/template.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

struct KnownFilter {
  std::string_view name;
  size_t texts;  // how many it takes
};
constexpr std::array kFilters = {
    KnownFilter{"strip", 0},      KnownFilter{"strip_left", 0}, KnownFilter{"lower_first", 0},
    KnownFilter{"before", 1},     KnownFilter{"after", 1},      KnownFilter{"before_last", 1},
    KnownFilter{"after_last", 1}, KnownFilter{"replace", 2},    KnownFilter{"join", 1},
    KnownFilter{"index", 0},
};

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// Python's white space: the White_Space property, and the four separators of ASCII.
bool is_white_space(uint32_t character) {
  return character_class(character) == CharacterClass::space ||
         (character >= 0x1c && character <= 0x1f);
}

std::string written_value(const Json& value, const std::string& written) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return json_text(value);
  throw DataError(fmt::format("{{{{{}}}}} is {}: wanted a text or a number", written,
                              value.is_null() ? "null" : json_text_replacing(value).substr(0, 60)));
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != text.npos; at = found + from.size()) {
    out += text.substr(at, found - at);
    out += to;
  }
  return out += text.substr(at);
}

}  // namespace

std::string stripped(std::string_view text) {
  size_t begin = text.size(), end = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_code_point(text, at);
    const size_t bytes = size_t(std::max(point.bytes, 1));
    if (point.bytes == 0 || !is_white_space(point.value)) {
      begin = std::min(begin, at);
      end = at + bytes;
    }
    at += bytes;
  }
  return begin < end ? std::string(text.substr(begin, end - begin)) : "";
}

// Reads what stands between {{ and }}.
class Template::Reader {
 public:
  Reader(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  Piece piece() {
    Piece out;
    out.place = place();
    out.written = std::string(text_);
    while (skip(), at_ < text_.size()) {
      take('|');
      out.filters.push_back(filter());
    }
    return out;
  }

 private:
  [[noreturn]] void refuse(const std::string& wanted) const {
    throw ConfigError(fmt::format("{}: in {{{{{}}}}}, at '{}': wanted {}", path_, text_,
                                  text_.substr(std::min(at_, text_.size())), wanted));
  }
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool next(char c) {
    skip();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void take(char c) {
    if (!next(c)) refuse(fmt::format("'{}'", c));
  }
  std::string name() {
    skip();
    const size_t begin = at_;
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    if (at_ == begin) refuse("a name");
    return std::string(text_.substr(begin, at_ - begin));
  }
  std::string quoted() {
    take('\'');
    std::string out;
    for (; at_ < text_.size() && text_[at_] != '\''; ++at_) {
      if (text_[at_] != '\\') {
        out += text_[at_];
        continue;
      }
      if (++at_ >= text_.size()) break;
      const char c = text_[at_];
      if (c != 'n' && c != 't' && c != '\'' && c != '\\') refuse("\\n, \\t, \\' or \\\\");
      out += c == 'n' ? '\n' : c == 't' ? '\t' : c;
    }
    take('\'');
    return out;
  }
  Step element() {
    if (next('*')) {
      take(']');
      return {StepKind::each, "", 0};
    }
    skip();
    const bool from_end = next('-');
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    if (at_ == begin || at_ - begin > 9) refuse("the number of an element, or *");
    const int64_t number = std::stoll(std::string(text_.substr(begin, at_ - begin)));
    take(']');
    return {StepKind::element, "", from_end ? -number : number};
  }
  Place place() {
    Place out{{StepKind::name, name(), 0}};
    for (;;) {
      if (next('.'))
        out.push_back({StepKind::name, name(), 0});
      else if (next('['))
        out.push_back(element());
      else
        return out;
    }
  }
  Filter filter() {
    Filter out;
    out.name = name();
    const auto* known = std::find_if(kFilters.begin(), kFilters.end(),
                                     [&](const KnownFilter& f) { return f.name == out.name; });
    if (known == kFilters.end()) {
      std::vector<std::string_view> names;
      for (const KnownFilter& f : kFilters) names.push_back(f.name);
      throw ConfigError(fmt::format("{}: {{{{{}}}}} has no filter '{}'; known: {}", path_, text_,
                                    out.name, fmt::join(names, ", ")));
    }
    if (out.name == "index") {
      take('(');
      out.place = place();
      take(')');
    }
    for (size_t i = 0; i < known->texts; ++i) {
      take(i == 0 ? '(' : ',');
      skip();
      out.texts.push_back(quoted());
    }
    if (known->texts > 0) take(')');
    const bool may_be_empty = out.name == "join";
    if (!may_be_empty && !out.texts.empty() && out.texts[0].empty()) refuse("a text to look for");
    return out;
  }

  std::string_view text_;
  const std::string& path_;
  size_t at_ = 0;
};

Template::Template(std::string_view text, const std::string& path) {
  const auto is_each = [](const Step& s) { return s.kind == StepKind::each; };
  for (size_t at = 0; at < text.size();) {
    const size_t begin = text.find("{{", at);
    if (begin != at) pieces_.push_back({std::string(text.substr(at, begin - at)), {}, {}, ""});
    if (begin == text.npos) break;
    const size_t end = text.find("}}", begin);
    if (end == text.npos)
      throw ConfigError(
          fmt::format("{}: '{}' opens a place that no }}}} closes", path, text.substr(begin, 40)));
    pieces_.push_back(Reader(text.substr(begin + 2, end - begin - 2), path).piece());
    const Place& place = pieces_.back().place;
    several_ = several_ || std::any_of(place.begin(), place.end(), is_each);
    at = end + 2;
  }
}

const Json& Template::find(const Json& item, const Place& place, int64_t element,
                           const std::string& written) {
  const Json* at = &item;
  for (const Step& step : place) {
    if (step.kind == StepKind::name) {
      const auto found = at->is_object() ? at->find(step.name) : at->end();
      if (!at->is_object() || found == at->end()) {
        std::vector<std::string> known;
        if (at->is_object())
          for (const auto& [key, value] : at->items()) known.push_back(key);
        throw DataError(fmt::format("{{{{{}}}}}: there is no field '{}'; there are: {}", written,
                                    step.name, fmt::join(known, ", ")));
      }
      at = &*found;
      continue;
    }
    const int64_t size = at->is_array() ? int64_t(at->size()) : 0,
                  wanted = step.kind == StepKind::each ? element : step.element,
                  index = wanted < 0 ? wanted + size : wanted;
    if (index < 0 || index >= size)
      throw DataError(
          fmt::format("{{{{{}}}}}: element {} of {}", written, wanted,
                      at->is_array() ? fmt::format("a list of {}", size) : "what is no list"));
    at = &(*at)[size_t(index)];
  }
  return *at;
}

Json Template::filtered(Json value, const Filter& filter, const Json& item, int64_t element,
                        const std::string& written) {
  if (filter.name == "join") {
    if (!value.is_array())
      throw DataError(fmt::format("{{{{{}}}}}: join wants a list of texts", written));
    std::string out;
    for (size_t i = 0; i < value.size(); ++i)
      out += (i ? filter.texts[0] : "") + written_value(value[i], written);
    return out;
  }
  if (filter.name == "index") {
    const Json& list = find(item, filter.place, element, written);
    const auto at = std::find(list.begin(), list.end(), value);
    if (!list.is_array() || at == list.end())
      throw DataError(
          fmt::format("{{{{{}}}}}: {} is not in that list", written, json_text_replacing(value)));
    return int64_t(at - list.begin());
  }
  std::string text = written_value(value, written);
  if (filter.name == "strip") return stripped(text);
  if (filter.name == "strip_left") {
    text = stripped(text + "x");  // the end stays as it is
    text.pop_back();
    return text;
  }
  if (filter.name == "lower_first") {
    if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = char(text[0] - 'A' + 'a');
    return text;
  }
  const std::string& x = filter.texts[0];
  if (filter.name == "replace") return replaced(text, x, filter.texts[1]);
  const bool last = filter.name.ends_with("_last"), before = filter.name.starts_with("before");
  const size_t found = last ? text.rfind(x) : text.find(x);
  if (found == text.npos) {
    if (last) return before ? std::string() : text;
    throw DataError(
        fmt::format("{{{{{}}}}}: '{}' does not stand in '{}'", written, x, text.substr(0, 60)));
  }
  return before ? text.substr(0, found) : text.substr(found + x.size());
}

Json Template::value_of(const Piece& piece, const Json& item, int64_t element) {
  Json value = find(item, piece.place, element, piece.written);
  for (const Filter& filter : piece.filters)
    value = filtered(std::move(value), filter, item, element, piece.written);
  return value;
}

std::string Template::render(const Json& item, int64_t element) const {
  std::string out;
  for (const Piece& piece : pieces_) {
    if (piece.place.empty()) {
      out += piece.text;
      continue;
    }
    out += written_value(value_of(piece, item, element), piece.written);
  }
  return out;
}

Json Template::value_of(const Json& item) const {
  if (pieces_.size() == 1 && !pieces_[0].place.empty()) return value_of(pieces_[0], item, 0);
  return text_of(item);
}

std::string Template::text_of(const Json& item) const {
  if (several_) throw InternalError("a template with [*] makes several texts");
  return render(item, 0);
}

std::vector<std::string> Template::texts_of(const Json& item) const {
  if (!several_) return {render(item, 0)};
  // As many as the list of the first [*] has.
  int64_t count = -1;
  for (const Piece& piece : pieces_)
    for (size_t i = 0; i < piece.place.size() && count < 0; ++i) {
      if (piece.place[i].kind != StepKind::each) continue;
      const Place list(piece.place.begin(), piece.place.begin() + std::ptrdiff_t(i));
      const Json& found = find(item, list, 0, piece.written);
      if (!found.is_array() || found.empty())
        throw DataError(fmt::format("{{{{{}}}}}: [*] wants a list of at least one", piece.written));
      count = int64_t(found.size());
    }
  std::vector<std::string> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(render(item, i));
  return out;
}

}  // namespace reverie
