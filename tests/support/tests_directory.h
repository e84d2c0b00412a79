#pragma once
#include <string>

namespace reverie::testing {

// The repository's tests/, where golden files are. A function, so that where a clone lies is part of
// one object: a compiler cache gives all others to every clone.
std::string test_directory();

}  // namespace reverie::testing
