#include "datasets/benchmarks/answers.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "datasets/benchmarks/template.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

constexpr uint32_t kMostSteps = 10'000'000;

std::string message_of(int error) {
  PCRE2_UCHAR text[200] = {};
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

std::string with_replacements(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_code_point(text, at);
    if (point.bytes == 0) {
      append_code_point(out, 0xFFFD);
      ++at;
    } else {
      out += text.substr(at, size_t(point.bytes));
      at += size_t(point.bytes);
    }
  }
  return out;
}

AnswerPattern::AnswerPattern(const std::string& pattern, const std::string& path)
    : pattern_(pattern) {
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &where, nullptr);
  if (!code)
    throw ConfigError(fmt::format("{}: {} is no regular expression: {} (at byte {})", path, pattern,
                                  message_of(error), where));
  code_ =
      std::shared_ptr<void>(code, [](void* c) { pcre2_code_free(static_cast<pcre2_code*>(c)); });
}

std::vector<AnswerPattern::Match> AnswerPattern::matches(std::string_view text) const {
  auto* code = static_cast<pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(code, nullptr), &pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), &pcre2_match_context_free);
  if (!data || !context) throw MachineError("out of memory while matching a pattern");
  pcre2_set_match_limit(context.get(), kMostSteps);
  std::vector<Match> found;
  bool not_empty = false;  // an empty match was found here already
  for (size_t at = 0; at <= text.size();) {
    const int result = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                   not_empty ? PCRE2_NOTEMPTY_ATSTART | PCRE2_ANCHORED : 0u,
                                   data.get(), context.get());
    if (result == PCRE2_ERROR_NOMATCH) {
      if (!not_empty) break;
      not_empty = false;
      ++at;
      while (at < text.size() && (uint8_t(text[at]) & 0xC0u) == 0x80u) ++at;
      continue;
    }
    if (result < 0)
      throw DataError(
          fmt::format("the pattern {} fails on a text: {}", pattern_, message_of(result)));
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(data.get());
    Match match{span[0], span[1], ""};
    uint32_t groups = 0;
    pcre2_pattern_info(code, PCRE2_INFO_CAPTURECOUNT, &groups);
    if (groups == 0) match.text = text.substr(span[0], span[1] - span[0]);
    for (uint32_t g = 1; g < uint32_t(result) && match.text.empty(); ++g)
      if (span[2 * g] != PCRE2_UNSET)
        match.text = text.substr(span[2 * g], span[2 * g + 1] - span[2 * g]);
    found.push_back(std::move(match));
    at = std::max(at, size_t(span[1]));
    not_empty = span[0] == span[1];
  }
  return found;
}

std::vector<std::string> AnswerPattern::found_in(std::string_view text) const {
  std::vector<std::string> out;
  for (Match& match : matches(text)) out.push_back(std::move(match.text));
  return out;
}

std::string AnswerPattern::removed_from(std::string_view text) const {
  std::string out;
  size_t at = 0;
  for (const Match& match : matches(text)) {
    out += text.substr(at, match.begin - at);
    at = match.end;
  }
  return out += text.substr(at);
}

void AnswerOptions::fields(Fields& f) {
  f.required().text("pattern", pattern, {},
                    "regular expression (PCRE2); its first group that is not empty is the answer, "
                    "or the whole match where it has none");
  f.text("pick", pick, {"first", "last"}, "which of several matches");
}

void ComparisonOptions::fields(Fields& f) {
  f.texts("ignore", ignore,
          "regular expressions whose matches are removed from both answers, one after another");
  f.boolean("ignore_case", ignore_case, "letters of ASCII count as their lower case");
  f.boolean("numbers", numbers, "answers that are numbers are compared by value: 51.0 is 51");
}

AnswerFinder::AnswerFinder(const AnswerOptions& options, const std::string& path)
    : pattern_(options.pattern, path), last_(options.pick == "last") {}

std::string AnswerFinder::answer_in(std::string_view text) const {
  const std::vector<std::string> found = pattern_.found_in(with_replacements(text));
  if (found.empty()) return "[invalid]";
  return stripped(last_ ? found.back() : found.front());
}

AnswerComparison::AnswerComparison(const ComparisonOptions& options, const std::string& path)
    : ignore_case_(options.ignore_case), numbers_(options.numbers) {
  for (const std::string& pattern : options.ignore) ignored_.emplace_back(pattern, path);
}

std::string AnswerComparison::normalised(std::string_view answer) const {
  std::string text = with_replacements(answer);
  for (const AnswerPattern& pattern : ignored_) text = pattern.removed_from(text);
  if (ignore_case_)
    for (char& c : text)
      if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  if (numbers_) {
    double value = 0;
    const std::string digits = stripped(text);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error == std::errc() && end == digits.data() + digits.size() && std::isfinite(value))
      return fmt::format("{}", value);
  }
  return text;
}

}  // namespace reverie
