#pragma once
/// How durations and counts are written.

#include <cstdint>
#include <string>

namespace reverie {

std::string format_duration(double seconds);  ///< "00:42", "1:02:03", "2 d 03:04"
std::string format_count(double count);       ///< "512", "31.2k", "1.25M"
std::string format_integer(int64_t value);    ///< "803,840"

}  // namespace reverie
