#include "support/tests_directory.h"

#include <cstdlib>
#include <filesystem>

namespace reverie::testing {

std::string test_directory() {
  const char* elsewhere = std::getenv("REVERIE_TEST_DIR");
  return elsewhere != nullptr ? elsewhere : REVERIE_TEST_DIR;
}
std::string directory_of_binary() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path().string();
}

}  // namespace reverie::testing
