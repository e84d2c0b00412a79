#include "datasets/documents.h"

#include "core/error.h"

namespace reverie {

std::string_view without_outer_space(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

namespace {

// A place of `text`, [begin, end).
struct Place {
  size_t begin, end;
};

// Whether `separator` stands at text[at..]: the byte behind it, or npos. A line break of it is
// "\n" or "\r\n" in the text.
size_t end_of_separator(std::string_view text, size_t at, std::string_view separator) {
  for (const char c : separator) {
    if (c == '\n' && text.substr(at).starts_with("\r\n")) ++at;
    if (at >= text.size() || text[at] != c) return text.npos;
    ++at;
  }
  return at;
}

// The end of the line breaks that follow one another at text[at..], and how many they are.
size_t end_of_line_breaks(std::string_view text, size_t at, size_t& count) {
  count = 0;
  for (size_t end; (end = end_of_separator(text, at, "\n")) != text.npos; at = end) ++count;
  return at;
}

// The next separator at or after `from`: at the text's end when there is none.
Place find_separator(std::string_view text, std::string_view separator, size_t from) {
  const bool line_breaks = separator.find_first_not_of('\n') == separator.npos;
  while (true) {
    size_t at = text.find(separator[0], from);
    if (at == text.npos) return {text.size(), text.size()};
    if (separator[0] == '\n' && at > from && text[at - 1] == '\r') --at;
    if (line_breaks) {
      size_t count;
      const size_t end = end_of_line_breaks(text, at, count);
      if (count == separator.size()) return {at, end};
      from = end;
    } else {
      if (const size_t end = end_of_separator(text, at, separator); end != text.npos)
        return {at, end};
      from = text.find(separator[0], at) + 1;
    }
  }
}

// With "\n" for every line break.
std::string plain_line_breaks(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i)
    if (text[i] != '\r' || i + 1 == text.size() || text[i + 1] != '\n') plain += text[i];
  return plain;
}

}  // namespace

std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator) {
  require(!separator.empty(), "documents need a separator; got an empty one");
  const std::string wanted = plain_line_breaks(separator);
  std::vector<std::string_view> documents;
  for (size_t at = 0; at < text.size();) {
    const Place place = find_separator(text, wanted, at);
    if (const auto document = without_outer_space(text.substr(at, place.begin - at));
        !document.empty())
      documents.push_back(document);
    at = place.end;
  }
  return documents;
}

DocumentMark document_mark(const Tokenizer& tokenizer, const std::string& token) {
  if (!token.empty()) {
    const auto ids = tokenizer.encode(token);
    require(ids.size() == 1,
            "document_token {} becomes {} tokens of this vocabulary ({}), "
            "wanted one",
            token, ids.size(), tokenizer.name());
    return {ids[0], false};
  }
  if (tokenizer.adds_begin_of_text() && tokenizer.begin_of_text())
    return {*tokenizer.begin_of_text(), true};
  require(tokenizer.end_of_text().has_value(),
          "the tokenizer ({}) has no token that begins or ends a text: documents cannot be told "
          "apart (name a document_token, e.g. \"\\n\", or leave document_separator empty)",
          tokenizer.name());
  return {*tokenizer.end_of_text(), false};
}

}  // namespace reverie
