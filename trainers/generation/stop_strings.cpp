#include "trainers/generation/stop_strings.h"

#include <algorithm>
#include <utility>

namespace reverie {
namespace {

// Bytes at the end of `text` that are the beginning of `stop`, which the text does not hold.
size_t begun(const std::string& text, const std::string& stop) {
  for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
    if (text.compare(text.size() - n, n, stop, 0, n) == 0) return n;
  return 0;
}

}  // namespace

std::string StopStrings::next(const std::string& more) {
  if (stopped_) return "";
  held_ += more;
  size_t first = std::string::npos, keep = 0;
  for (const std::string& stop : stops_) {
    first = std::min(first, held_.find(stop));
    keep = std::max(keep, begun(held_, stop));
  }
  stopped_ = first != std::string::npos;
  const size_t given = stopped_ ? first : held_.size() - keep;
  std::string out = held_.substr(0, given);
  held_ = stopped_ ? "" : held_.substr(given);
  return out;
}

std::string StopStrings::finish() {
  return std::exchange(held_, "");
}

}  // namespace reverie
