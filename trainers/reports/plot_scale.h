#pragma once
/// From values to places on a plot's axis, and the axis' ticks.

#include <string>
#include <vector>

namespace reverie {

struct Tick {
  double value = 0;
  std::string text;
};

/// An axis from the value `low` at `from` to `high` at `to` (units of the drawing; `from` may be the
/// larger one).
class Scale {
 public:
  static Scale linear(double low, double high, double from, double to);
  /// low > 0.
  static Scale logarithmic(double low, double high, double from, double to);
  /// Linear up to `at` > 0, logarithmic on the last fifth beyond it: nothing is cut off.
  static Scale broken(double low, double at, double high, double from, double to);

  double operator()(double value) const;
  /// At most about `most` of them.
  std::vector<Tick> ticks(int most) const;
  double low() const { return low_; }
  double high() const { return high_; }
  double from() const { return from_; }
  double to() const { return to_; }
  bool is_broken() const { return kind_ == Kind::broken; }
  double place_of_break() const;

 private:
  enum class Kind { linear, logarithmic, broken };
  Scale(Kind kind, double low, double high, double from, double to)
      : kind_(kind), low_(low), high_(high), from_(from), to_(to) {}

  Kind kind_;
  double low_, high_, from_, to_, break_ = 0;
};

/// Round values (1, 2 or 5 times a power of ten apart) in [low, high]: at most `most` of them.
std::vector<double> axis_ticks(double low, double high, int most);
/// "0.0003", "1.5", "12k", "3M": as many digits as `step` between ticks needs.
std::string tick_text(double value, double step);

}  // namespace reverie
