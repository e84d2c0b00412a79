#pragma once
/// Regular expressions of tokenizer.json, by PCRE2 (UTF, Unicode properties, compiled to machine
/// code).

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace reverie {

struct Span {
  size_t begin, end;  ///< bytes
};

class Regex {
 public:
  /// \s and \S mean the White_Space property of Unicode 16, as in the library that wrote the file
  /// and unlike PCRE2; \p{L} and the like are those of the installed PCRE2, which may not know the
  /// youngest letters. DataError naming `path` where the pattern is not understood.
  Regex(const std::string& pattern, const std::string& path);

  /// The matches one after another; empty ones are passed over. `text` is UTF-8. DataError where
  /// the pattern takes too many steps.
  std::vector<Span> matches(std::string_view text) const;

 private:
  std::string pattern_;
  std::shared_ptr<void> code_;
};

}  // namespace reverie
