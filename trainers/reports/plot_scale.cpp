#include "trainers/reports/plot_scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace reverie {
namespace {

constexpr double kLinearShare = 0.8;  // of a broken axis

// Powers of ten in [low, high], thinned to at most `most`; with their multiples by 2 and 5 where
// there are few.
std::vector<double> logarithmic_ticks(double low, double high, int most) {
  std::vector<double> ticks;
  const int first = int(std::floor(std::log10(low) - 1e-9)),
            last = int(std::ceil(std::log10(high)));
  for (const std::vector<double>& factors :
       {std::vector<double>{1, 2, 5}, std::vector<double>{1, 3}, std::vector<double>{1}}) {
    ticks.clear();
    for (int power = first; power <= last; ++power)
      for (const double factor : factors)
        if (const double value = factor * std::pow(10, power);
            value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9))
          ticks.push_back(value);
    if (int(ticks.size()) <= most) return ticks;
  }
  const size_t stride = (ticks.size() + size_t(most) - 1) / size_t(most);
  std::vector<double> thin;
  for (size_t i = 0; i < ticks.size(); i += stride) thin.push_back(ticks[i]);
  return thin;
}

}  // namespace

Scale Scale::linear(double low, double high, double from, double to) {
  return {Kind::linear, low, high > low ? high : low + 1, from, to};
}
Scale Scale::logarithmic(double low, double high, double from, double to) {
  return {Kind::logarithmic, low, high > low ? high : 10 * low, from, to};
}
Scale Scale::broken(double low, double at, double high, double from, double to) {
  if (high <= at) return linear(low, at, from, to);
  Scale scale(Kind::broken, low, high, from, to);
  scale.break_ = at;
  return scale;
}

double Scale::place_of_break() const {
  return from_ + kLinearShare * (to_ - from_);
}

double Scale::operator()(double value) const {
  double share = 0;
  switch (kind_) {
    case Kind::linear:
      share = (value - low_) / (high_ - low_);
      break;
    case Kind::logarithmic:
      share = std::log(value / low_) / std::log(high_ / low_);
      break;
    case Kind::broken:
      share = value <= break_ ? kLinearShare * (value - low_) / (break_ - low_)
                              : kLinearShare + (1 - kLinearShare) * std::log(value / break_) /
                                                   std::log(high_ / break_);
      break;
  }
  return from_ + share * (to_ - from_);
}

std::vector<Tick> Scale::ticks(int most) const {
  std::vector<Tick> out;
  const auto add = [&](const std::vector<double>& values, bool powers) {
    for (const double value : values)
      out.push_back({value, tick_text(value, powers              ? value
                                             : values.size() > 1 ? values[1] - values[0]
                                                                 : 1)});
  };
  if (kind_ == Kind::logarithmic) {
    add(logarithmic_ticks(low_, high_, most), true);
  } else {
    add(axis_ticks(low_, kind_ == Kind::broken ? break_ : high_, most), false);
    if (kind_ == Kind::broken) {
      // Beyond the break there is room for two, or one in a small panel.
      std::vector<double> beyond = logarithmic_ticks(break_ * 1.5, high_, 40);
      std::erase_if(beyond, [](double v) {
        const double power = std::log10(v);
        return std::abs(power - std::round(power)) > 1e-9;
      });
      const bool small = (1 - kLinearShare) * std::abs(to_ - from_) < 40;
      if (small && !beyond.empty()) beyond = {beyond[beyond.size() / 2]};
      if (beyond.size() > 2) beyond = {beyond[beyond.size() / 2], beyond.back()};
      if (beyond.empty()) beyond = {high_};
      add(beyond, true);
    }
  }
  return out;
}

std::vector<double> axis_ticks(double low, double high, int most) {
  if (!(high > low) || !std::isfinite(high - low) || most < 2) return {low};
  double step = std::pow(10, std::floor(std::log10((high - low) / most)));
  for (const double factor : {2.0, 2.5, 2.0, 2.0, 2.5, 2.0}) {  // 1, 2, 5, 10, 20, 50, 100
    if (std::floor(high / step + 1e-9) - std::ceil(low / step - 1e-9) + 1 <= most) break;
    step *= factor;
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i)
    ticks.push_back(i * step + 0.0);  // no -0
  return ticks;
}

std::string tick_text(double value, double step) {
  const double size = std::abs(value);
  if (size >= 1e6) return fmt::format("{:.4g}M", value / 1e6);
  if (size >= 1e4) return fmt::format("{:.4g}k", value / 1e3);
  if (step < 1e-4 && size > 0) {
    const int digits = int(std::ceil(std::log10(size / step) - 1e-9)) + 1;  // neighbours differ
    return fmt::format("{:.{}g}", value, std::clamp(digits, 3, 9));
  }
  const int decimals = step >= 1 ? 0 : std::min(6, int(std::ceil(-std::log10(step) - 1e-9)));
  return fmt::format("{:.{}f}", value, decimals);
}

}  // namespace reverie
