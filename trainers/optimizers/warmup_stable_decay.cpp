#include <algorithm>
#include <cmath>

#include "trainers/optimizers/schedule.h"

namespace reverie {
namespace {

struct WsdOptions final : Fieldset {
  double minimum_learning_rate = 0;
  int64_t warmup_steps = 100;
  double decay_fraction = 0.2;
  std::string decay = "linear";
  void fields(Fields& f) override {
    f.number("minimum_learning_rate", minimum_learning_rate, {0, 10}, "learning rate at the end");
    f.integer("warmup_steps", warmup_steps, kNonNegative, "steps of linear warmup");
    f.number("decay_fraction", decay_fraction, {0, 1},
             "share of the run's steps, the last ones, in which the learning rate falls");
    f.text("decay", decay, {"linear", "1-sqrt"},
           "form of the decay; 1-sqrt falls faster at first (Hägele et al. 2024)");
  }
};

// Warmup, stable, decay (Hu et al., "MiniCPM", 2024, arXiv 2404.06395): a run that is made longer
// goes on at the highest rate, so that only its last steps differ.
class WarmupStableDecay final : public Schedule {
 public:
  explicit WarmupStableDecay(const WsdOptions& o) : o_(o) {}
  double rate(double highest, int64_t step, int64_t total) const override {
    if (step < o_.warmup_steps) return warmed_up(highest, step, o_.warmup_steps);
    const int64_t length = int64_t(std::llround(o_.decay_fraction * double(total))),
                  begin = std::max(o_.warmup_steps, total - length);
    if (step < begin) return highest;
    const double progress =
        double(std::min(step, total) - begin + 1) / double(std::max<int64_t>(1, total - begin));
    const double left = 1 - (o_.decay == "linear" ? progress : std::sqrt(progress));
    return o_.minimum_learning_rate + std::max(0.0, left) * (highest - o_.minimum_learning_rate);
  }
  std::string problem(double highest) const override {
    return minimum_problem(o_.minimum_learning_rate, highest);
  }
  std::string warning(double highest, int64_t total) const override {
    return warmup_warning(*this, o_.warmup_steps, highest, total);
  }

 private:
  WsdOptions o_;
};

const bool warmup_stable_decay_registered =
    ScheduleRegistry::instance().add<WarmupStableDecay, WsdOptions>(
        "wsd", "linear warmup, a constant learning rate, and a decay over the last steps");

}  // namespace
}  // namespace reverie
