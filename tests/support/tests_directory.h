#pragma once
#include <string>

namespace reverie::testing {

// The repository's tests/, where golden files are; REVERIE_TEST_DIR names another, for tests that run
// elsewhere than they were built. A function, so that where a clone lies is part of one object: a
// compiler cache gives all others to every clone.
std::string test_directory();

// The folder of the running test binary.
std::string directory_of_binary();

}  // namespace reverie::testing
