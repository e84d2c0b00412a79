#pragma once
#include <gtest/gtest.h>

#include <exception>
#include <string>

namespace reverie::testing {

// The message of the E that `body` throws; a test failure and "" when it does not throw an E.
template <class E, class F>
std::string message_of(F&& body) {
  try {
    body();
  } catch (const E& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "another kind of error: " << e.what();
    return "";
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace reverie::testing
