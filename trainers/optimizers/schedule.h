#pragma once
/// Learning-rate schedules: registered components, one file each.

#include <cstdint>
#include <string>

#include "core/registry.h"

namespace reverie {

class Schedule {
 public:
  virtual ~Schedule() = default;
  /// The learning rate of step `step` (0 is the first) of a run of `total` steps, whose highest one
  /// is `highest`.
  virtual double rate(double highest, int64_t step, int64_t total) const = 0;
  /// Why this schedule makes no sense below `highest`, for a ConfigError; "": it does.
  virtual std::string problem(double highest) const { return ""; }
  /// What a run of `total` steps should be warned of; "": nothing.
  virtual std::string warning(double highest, int64_t total) const { return ""; }
};

using ScheduleRegistry = Registry<Schedule>;
template <>
ScheduleRegistry& ScheduleRegistry::instance();

/// problem() of a schedule that ends at `minimum`.
std::string minimum_problem(double minimum, double highest);
/// warning() of a schedule whose warmup takes the whole run.
std::string warmup_warning(const Schedule&, int64_t warmup_steps, double highest, int64_t total);

/// Linear warmup: from highest / (warmup_steps + 1) at step 0, the highest at step warmup_steps.
inline double warmed_up(double highest, int64_t step, int64_t warmup_steps) {
  return highest * double(step + 1) / double(warmup_steps + 1);
}

}  // namespace reverie
