#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/files.h"
#include "support/temporary_directory.h"

namespace reverie::testing {

// A file of $REVERIE_DATA, or "" where the variable is not set.
inline std::string data_file(const std::string& name) {
  const char* root = std::getenv("REVERIE_DATA");
  return root && *root ? std::string(root) + "/" + name : std::string();
}

inline void write_bytes(const std::string& file, std::string_view bytes) {
  std::ofstream out(file, std::ios::binary);
  out.write(bytes.data(), std::streamsize(bytes.size()));
  ASSERT_TRUE(out.good());
}

// An environment variable for the length of a test; an empty value unsets it.
class ScopedVariable {
 public:
  ScopedVariable(std::string name, const std::string& value) : name_(std::move(name)) {
    if (const char* before = std::getenv(name_.c_str())) before_ = before;
    set(value);
  }
  ~ScopedVariable() { set(before_); }

 private:
  void set(const std::string& value) {
    if (value.empty())
      ::unsetenv(name_.c_str());
    else
      ::setenv(name_.c_str(), value.c_str(), 1);
  }
  std::string name_, before_;
};

}  // namespace reverie::testing

// The statement throws `kind` and nothing else, with a message that contains `part`.
#define EXPECT_THROWS_SAYING(statement, kind, part)                                          \
  try {                                                                                      \
    statement;                                                                               \
    ADD_FAILURE() << "nothing was thrown; wanted " #kind;                                    \
  } catch (const std::exception& error) {                                                    \
    EXPECT_EQ(typeid(error), typeid(kind)) << "threw another kind, saying " << error.what(); \
    EXPECT_THAT(error.what(), ::testing::HasSubstr(part));                                   \
  }

// Skips, visibly, without the data folder.
#define NEED_DATA(name)                            \
  if (::reverie::testing::data_file(name).empty()) \
  GTEST_SKIP() << "REVERIE_DATA is not set; this test reads " << (name) << " there"
