#include <algorithm>
#include <cmath>
#include <numbers>

#include "trainers/optimizers/schedule.h"

namespace reverie {
namespace {

struct CosineOptions final : Fieldset {
  double minimum_learning_rate = 1e-4;
  int64_t warmup_steps = 100;
  std::optional<int64_t> decay_steps;  // auto: the run's steps
  void fields(Fields& f) override {
    f.number("minimum_learning_rate", minimum_learning_rate, {0, 10},
             "learning rate at the end of the cosine");
    f.integer("warmup_steps", warmup_steps, kNonNegative, "steps of linear warmup");
    f.integer_or_auto("decay_steps", decay_steps, kPositive,
                      "step at which the cosine ends; auto: the run's last");
  }
};

// Linear warmup, a cosine to minimum_learning_rate at decay_steps, then constant (nanoGPT's form;
// Loshchilov & Hutter 2017 without restarts).
class Cosine final : public Schedule {
 public:
  explicit Cosine(const CosineOptions& o) : o_(o) {}
  double rate(double highest, int64_t step, int64_t total) const override {
    if (step < o_.warmup_steps) return warmed_up(highest, step, o_.warmup_steps);
    const int64_t end = o_.decay_steps.value_or(total);
    if (step >= end) return o_.minimum_learning_rate;
    const double progress =
        double(step - o_.warmup_steps) / double(std::max<int64_t>(1, end - o_.warmup_steps));
    return o_.minimum_learning_rate +
           0.5 * (1 + std::cos(std::numbers::pi * progress)) * (highest - o_.minimum_learning_rate);
  }
  std::string problem(double highest) const override {
    return minimum_problem(o_.minimum_learning_rate, highest);
  }
  std::string warning(double highest, int64_t total) const override {
    const int64_t end = o_.decay_steps.value_or(total);
    if (total > 0 && o_.warmup_steps < total && o_.warmup_steps >= end)
      return fmt::format(
          "optimizer.schedule.decay_steps {} is not above optimizer.schedule.warmup_steps {}: "
          "after the warmup the learning rate falls to its minimum at once",
          end, o_.warmup_steps);
    return warmup_warning(*this, o_.warmup_steps, highest, total);
  }

 private:
  CosineOptions o_;
};

const bool cosine_registered = ScheduleRegistry::instance().add<Cosine, CosineOptions>(
    "cosine", "linear warmup, then a cosine down to minimum_learning_rate");

}  // namespace
}  // namespace reverie
