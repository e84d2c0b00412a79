#include "support/tests_directory.h"

namespace reverie::testing {

std::string test_directory() {
  return REVERIE_TEST_DIR;
}

}  // namespace reverie::testing
