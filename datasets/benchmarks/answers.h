#pragma once
/// The answer in a generated text, and when two answers are the same.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"

namespace reverie {

/// A regular expression by PCRE2 (UTF, Unicode properties). Perl's syntax, which Python's re shares
/// as far as benchmarks use it.
class AnswerPattern {
 public:
  /// ConfigError naming `path` where the pattern is not understood.
  AnswerPattern(const std::string& pattern, const std::string& path);
  /// For each match in turn its first group that is not empty, or the whole match where the pattern
  /// has no groups: Python's re.findall(), as lm-eval uses it.
  std::vector<std::string> found_in(std::string_view text) const;
  /// `text` without its matches.
  std::string removed_from(std::string_view text) const;

 private:
  struct Match {
    size_t begin, end;
    std::string text;
  };
  std::vector<Match> matches(std::string_view text) const;

  std::string pattern_;
  std::shared_ptr<void> code_;
};

/// How an answer is taken from a text.
struct AnswerOptions final : Fieldset {
  std::string pattern, pick = "first";
  void fields(Fields&) override;
};

/// Differences that are ignored when answers are compared.
struct ComparisonOptions final : Fieldset {
  std::vector<std::string> ignore;
  bool ignore_case = false, numbers = false;
  void fields(Fields&) override;
};

/// The answer in `text`, without white space at its ends; "[invalid]" where the pattern matches
/// nowhere. `text` may hold bytes that are no UTF-8: they become U+FFFD.
class AnswerFinder {
 public:
  AnswerFinder(const AnswerOptions& options, const std::string& path);
  std::string answer_in(std::string_view text) const;

 private:
  AnswerPattern pattern_;
  bool last_;
};

class AnswerComparison {
 public:
  AnswerComparison(const ComparisonOptions& options, const std::string& path);
  std::string normalised(std::string_view answer) const;
  bool same(std::string_view a, std::string_view b) const { return normalised(a) == normalised(b); }

 private:
  std::vector<AnswerPattern> ignored_;
  bool ignore_case_, numbers_;
};

/// `text` with every byte that is no UTF-8 replaced by U+FFFD.
std::string with_replacements(std::string_view text);

}  // namespace reverie
