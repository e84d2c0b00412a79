#include "trainers/reports/numbers.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace reverie {

Statistic statistic(const std::vector<double>& values) {
  Statistic out;
  double sum = 0;
  for (const double value : values)
    if (std::isfinite(value)) {
      sum += value;
      ++out.n;
    }
  if (out.n == 0) return out;
  out.mean = sum / double(out.n);
  if (out.n < 2) return out;
  double squares = 0;
  for (const double value : values)
    if (std::isfinite(value)) squares += (value - out.mean) * (value - out.mean);
  out.sd = std::sqrt(squares / double(out.n - 1));
  return out;
}

Json number_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}

std::string format_loss(double loss) {
  return std::isnan(loss) ? kUnknown : fmt::format("{:.3f}", loss);
}

std::string format_statistic(const Statistic& s) {
  return s.sd ? fmt::format("{} \u00b1 {:.3f}", format_loss(s.mean), *s.sd) : format_loss(s.mean);
}

std::string format_change(double change) {
  return std::isnan(change) ? "not finite" : fmt::format("{:.3g}", change);
}

std::string title_of_table(const std::string& title, const std::string& preset) {
  if (preset != "smoke") return title;
  return title + " (smoke: this table shows that things run, and nothing else)";
}

std::string unfinished_note(int64_t finished, int64_t planned) {
  if (finished >= planned) return "";
  return fmt::format("{} of {} planned runs have finished.", finished, planned);
}

}  // namespace reverie
