#pragma once
/// How tables and reports take numbers over seeds together, and how they write them.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace reverie {

/// Over the seeds of one cell; a loss that was not finite does not count.
struct Statistic {
  double mean = std::numeric_limits<double>::quiet_NaN();  ///< NaN: n = 0
  std::optional<double> sd;  ///< sample standard deviation (n - 1); none for n < 2
  int64_t n = 0;
};
Statistic statistic(const std::vector<double>& values);

inline constexpr const char* kUnknown = "\u2013";          ///< an en dash: no number is known
std::string format_loss(double loss);                      ///< "1.768"; an en dash for NaN
std::string format_statistic(const Statistic& statistic);  ///< "1.768 ± 0.004"
std::string format_change(double change);                  ///< "0", "9.44", "1.2e-05"

Json number_or_null(double value);  ///< JSON has no NaN

/// The title of a table's files. That of a preset "smoke" says in the first line what it is good
/// for.
std::string title_of_table(const std::string& title, const std::string& preset);
/// "12 of 45 planned runs have finished."; empty when all have.
std::string unfinished_note(int64_t finished, int64_t planned);

}  // namespace reverie
