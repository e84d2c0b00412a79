#include "trainers/optimizers/schedule.h"

namespace reverie {

template <>
ScheduleRegistry& ScheduleRegistry::instance() {
  static ScheduleRegistry registry("learning-rate schedule");
  return registry;
}

std::string minimum_problem(double minimum, double highest) {
  if (minimum <= highest) return "";
  return fmt::format(
      "$.optimizer.schedule.minimum_learning_rate {:g} is above $.optimizer.learning_rate {:g}, "
      "which is the highest: the rate would rise to it. Set it too, e.g. "
      "optimizer.schedule.minimum_learning_rate={:g}",
      minimum, highest, highest / 10);
}

std::string warmup_warning(const Schedule& schedule, int64_t warmup_steps, double highest,
                           int64_t total) {
  if (total == 0 || warmup_steps < total) return "";
  return fmt::format(
      "optimizer.schedule.warmup_steps {} is not below train.steps {}: the learning rate only "
      "rises, to {:g} of {:g}",
      warmup_steps, total, schedule.rate(highest, total - 1, total), highest);
}

}  // namespace reverie
