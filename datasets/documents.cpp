#include "datasets/documents.h"

#include "core/error.h"

namespace reverie {
namespace {

std::string_view stripped(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) + 1 - first);
}

// The next separator at or after `from`: text.npos when there is none.
size_t find_separator(std::string_view text, std::string_view separator, bool line_breaks,
                      size_t from) {
  if (!line_breaks) return text.find(separator, from);
  for (size_t at = text.find('\n', from); at != text.npos;) {
    const size_t end = std::min(text.find_first_not_of('\n', at), text.size());
    if (end - at == separator.size()) return at;
    at = text.find('\n', end);
  }
  return text.npos;
}

}  // namespace

std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator) {
  require(!separator.empty(), "documents need a separator; got an empty one");
  const bool line_breaks = separator.find_first_not_of('\n') == separator.npos;
  std::vector<std::string_view> documents;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(find_separator(text, separator, line_breaks, at), text.size());
    if (const auto document = stripped(text.substr(at, end - at)); !document.empty())
      documents.push_back(document);
    at = end + (end < text.size() ? separator.size() : 1);
  }
  return documents;
}

DocumentMark document_mark(const Tokenizer& tokenizer, const std::string& token) {
  if (!token.empty()) {
    const auto ids = tokenizer.encode(token);
    require(ids.size() == 1, "document_token {} is {} tokens of this vocabulary ({}), wanted one",
            token, ids.size(), tokenizer.name());
    return {ids[0], false};
  }
  if (tokenizer.adds_begin_of_text() && tokenizer.begin_of_text())
    return {*tokenizer.begin_of_text(), true};
  require(tokenizer.end_of_text().has_value(),
          "the tokenizer ({}) has no token that begins or ends a text: documents cannot be told "
          "apart (name a document_token, or leave document_separator empty)",
          tokenizer.name());
  return {*tokenizer.end_of_text(), false};
}

}  // namespace reverie
