#include "trainers/training/learning_rate_range.h"

#include <cmath>
#include <limits>
#include <memory>

#include "core/error.h"
#include "core/random.h"
#include "datasets/sampler.h"
#include "layers/language_model.h"
#include "layers/model_options.h"
#include "trainers/optimizers/optimizer.h"
#include "trainers/probes/causality.h"
#include "trainers/training/batch_split.h"
#include "trainers/training/batches_ahead.h"
#include "trainers/training/run_preparation.h"
#include "trainers/training/run_sampler.h"

namespace reverie {
namespace {

constexpr double kMemory = 0.9;   // of the running average of the loss
constexpr double kRunAway = 2.0;  // times the lowest smooth loss: the test is over
constexpr size_t kSlope = 6;      // steps over which the fall of the average is taken
constexpr int64_t kFirst = 10;    // points before which the average is not judged

// Where the averaged loss was lowest, and where before that it fell fastest.
void judge(LearningRateRange& out) {
  const auto& points = out.points;
  size_t lowest = 0;
  for (size_t i = 1; i < points.size(); ++i)
    if (points[i].smooth < points[lowest].smooth) lowest = i;
  out.lowest = points[lowest].rate;
  // The first points' average holds few losses: their slope is noise.
  double steepest = 0;
  for (size_t i = size_t(kFirst) + kSlope; i <= lowest; ++i) {
    const double slope = points[i].smooth - points[i - kSlope].smooth;
    if (slope < steepest) {
      steepest = slope;
      out.suggested = points[i - kSlope / 2].rate;
    }
  }
}

// Whether the model reads the future, which its config must allow.
bool leaks_as_allowed(const ExperimentOptions& o) {
  const CausalityReport gate = gate_causality(o.model, o.parameter_dtype());
  if (!gate.causal() && !o.allow_future_leak)
    throw ConfigError(fmt::format(
        "this model reads tokens that it must not see: {}. To test its learning rate all the "
        "same, set \"allow_future_leak\": true",
        gate.worst));
  return !gate.causal();
}

// The averaged loss, and whether it has left its lowest value far behind.
class SmoothLoss {
 public:
  double add(double loss, int64_t step) {
    average_ = kMemory * average_ + (1 - kMemory) * loss;
    const double smooth = average_ / (1 - std::pow(kMemory, double(step + 1)));
    lowest_ = std::min(lowest_, smooth);
    ran_away_ = step >= kFirst && smooth > kRunAway * lowest_;
    return smooth;
  }
  bool ran_away() const { return ran_away_; }

 private:
  double average_ = 0, lowest_ = std::numeric_limits<double>::infinity();
  bool ran_away_ = false;
};

// The loss of a step's whole batch; its gradient is added to the parameters'.
double loss_and_gradient(LanguageModel& model, BatchesAhead& batches, const BatchSplit& split,
                         int64_t step, int64_t targets) {
  double loss = 0;
  for (const BatchPart& part : split.parts()) {
    const Batch batch = batches.rows(step, part);
    const Variable of_part = model.loss(batch.tokens, batch.targets, 1.0 / double(targets));
    loss += of_part.tensor().item();
    backward(of_part);
  }
  return loss;
}

}  // namespace

LearningRateRange find_learning_rate(const ExperimentOptions& given,
                                     const LearningRateRangeOptions& range,
                                     const std::function<void(int64_t, int64_t)>& progress) {
  require(range.steps >= 2 * kFirst && range.low > 0 && range.high > range.low,
          "a learning-rate test needs at least {} steps and rates 0 < low < high; got {} steps "
          "from {} to {}",
          2 * kFirst, range.steps, range.low, range.high);
  ExperimentOptions o = given;
  const Dataset data = prepare_and_open(o.data);
  o.model = with_vocabulary_of_data(o.model, data.vocabulary_size());
  require_targets_ahead(o.model, data);
  LearningRateRange out;
  out.leaks = leaks_as_allowed(o);
  Generator random(derive_seed(uint64_t(o.seed), 0));
  auto model = ModelRegistry::instance().make(
      o.model, Build{random, o.parameter_dtype(), o.tensor_device()});
  require_same_thoughts(*model, data);
  FlatParameters parameters(*model, single_communicator(), false, o.keeps_rounded_copies(1));
  const auto optimizer = OptimizerRegistry::instance().make(o.optimizer, parameters);
  require(!model->carries_memory(),
          "a model that carries memory from step to step has no learning-rate test: its loss "
          "also depends on how much of the text was read. Turn off its carried memory");
  const auto sampler =
      make_sampler(data, *model, o.train.batch_size, derive_seed(uint64_t(o.seed), 1));
  BatchesAhead batches(*sampler, o.tensor_device());
  const BatchSplit split(o, 0, 1);
  default_generator() = Generator(derive_seed(uint64_t(o.seed), 2));
  model->train(true);
  SmoothLoss smooth;
  for (int64_t step = 0; step < range.steps && !out.ran_away; ++step) {
    if (progress) progress(step, range.steps);
    const double rate =
        range.low * std::pow(range.high / range.low, double(step) / double(range.steps - 1));
    const MatmulPrecisionScope precision(o.matmul_precision());
    parameters.round_matrices();
    parameters.clear_gradients();
    const double loss =
        loss_and_gradient(*model, batches, split, step, sampler->target_count(step));
    const double norm = parameters.gradient_norm();
    if (!std::isfinite(loss) || !std::isfinite(norm)) {
      out.ran_away = true;
      break;
    }
    out.points.push_back({rate, loss, smooth.add(loss, step)});
    out.ran_away = smooth.ran_away();
    optimizer->step(rate, norm);
  }
  require(!out.points.empty(),
          "the first loss is not finite, so no learning rate can be found: "
          "look at the data and the initial weights");
  judge(out);
  return out;
}

}  // namespace reverie
