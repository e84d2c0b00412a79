#pragma once
/// Where a text that comes piece by piece meets one of the strings that end it.

#include <string>
#include <vector>

namespace reverie {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  /// The text that can be given out now: what may be the beginning of a stop string is held back.
  std::string next(const std::string& more);
  /// Whether a stop string came. The text in front of it was given out; nothing else will be.
  bool stopped() const { return stopped_; }
  /// The text that was held back, where it ends without a stop string.
  std::string finish();

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace reverie
