#include "trainers/optimizers/schedule.h"

namespace reverie {
namespace {

struct ConstantOptions final : Fieldset {
  int64_t warmup_steps = 0;
  void fields(Fields& f) override {
    f.integer("warmup_steps", warmup_steps, kNonNegative, "steps of linear warmup");
  }
};

class Constant final : public Schedule {
 public:
  explicit Constant(const ConstantOptions& o) : o_(o) {}
  double rate(double highest, int64_t step, int64_t) const override {
    return step < o_.warmup_steps ? warmed_up(highest, step, o_.warmup_steps) : highest;
  }
  std::string warning(double highest, int64_t total) const override {
    return warmup_warning(*this, o_.warmup_steps, highest, total);
  }

 private:
  ConstantOptions o_;
};

const bool constant_registered = ScheduleRegistry::instance().add<Constant, ConstantOptions>(
    "constant", "linear warmup, then one learning rate");

}  // namespace
}  // namespace reverie
