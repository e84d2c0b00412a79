#include "datasets/tokenizers/pipeline/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/error.h"

namespace reverie {

namespace {

constexpr std::string_view kWhiteSpace =
    R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr uint32_t kMostSteps = 10'000'000;  // backtracking of one match

std::string message_of(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

// The pattern with \s and \S written out.
std::string with_spaces_written_out(std::string_view pattern, const std::string& path) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_class ? std::string(kWhiteSpace) : fmt::format("[{}]", kWhiteSpace);
      } else if (next == 'S') {
        if (in_class)
          throw DataError(fmt::format("{} has \\S inside brackets, which is not supported", path));
        out += fmt::format("[^{}]", kWhiteSpace);
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[' && !in_class) {
      in_class = true;
      out += c;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') {  // a bracket that is a member
        out += "\\]";
        ++i;
      }
      continue;
    }
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

}  // namespace

Regex::Regex(const std::string& pattern, const std::string& path) : pattern_(pattern) {
  const std::string written = with_spaces_written_out(pattern, path);
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(written.data()), written.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &where, nullptr);
  if (!code)
    throw DataError(fmt::format("{} is not a regular expression of PCRE2: {} (in {})", path,
                                message_of(error), pattern));
  code_ =
      std::shared_ptr<void>(code, [](void* c) { pcre2_code_free(static_cast<pcre2_code*>(c)); });
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where there is no JIT, the interpreter serves
}

std::vector<Span> Regex::matches(std::string_view text) const {
  auto* code = static_cast<pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), &pcre2_match_context_free);
  if (!match || !context) throw MachineError("out of memory while matching a pattern");
  pcre2_set_match_limit(context.get(), kMostSteps);
  pcre2_set_depth_limit(context.get(), kMostSteps / 10);
  std::vector<Span> found;
  for (size_t at = 0; at < text.size();) {
    const auto run = [&](uint32_t options) {
      return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                         PCRE2_NO_UTF_CHECK | options, match.get(), context.get());
    };
    int result = run(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = run(PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0)
      throw DataError(fmt::format("the tokenizer's pattern {} fails on this text at byte {}: {}",
                                  pattern_, at, message_of(result)));
    const PCRE2_SIZE* span = pcre2_get_ovector_pointer(match.get());
    if (span[1] > span[0] && span[0] >= at) {
      found.push_back({span[0], span[1]});
      at = span[1];
    } else {  // empty: go on behind the next character
      at = std::max<size_t>(at, span[1]) + 1;
      while (at < text.size() && (uint8_t(text[at]) & 0xC0u) == 0x80u) ++at;
    }
  }
  return found;
}

}  // namespace reverie
