#pragma once
// clang before 16 cannot serve libstdc++'s std::source_location, which core/error.h uses. Included
// before everything else in fuzzing builds, and nowhere else.

#include <source_location>

#ifndef __cpp_lib_source_location
namespace std {
class source_location {
 public:
  static constexpr source_location current(const char* file = __builtin_FILE(),
                                           unsigned line = __builtin_LINE()) {
    source_location here;
    here.file_ = file;
    here.line_ = line;
    return here;
  }
  constexpr const char* file_name() const { return file_; }
  constexpr unsigned line() const { return line_; }

 private:
  const char* file_ = "";
  unsigned line_ = 0;
};
}  // namespace std
#endif
