#include "trainers/tables/latents/latent_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/compact_weights.h"
#include "layers/coprocessor/augmented_model.h"
#include "layers/model_options.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

// Operations of one row of the blocks after `keys` keys.
double row_flops(const Transformer& base, double keys) {
  return base.blocks().forward_flops_per_row([keys](const LayerShape& layer) {
    return layer.window > 0 ? std::min(double(layer.window), keys) : keys;
  });
}

// Bytes that a frozen base takes on the device of the run.
double frozen_bytes(const Transformer& base, const ExperimentOptions& run, DType stored) {
  const auto size = double(size_of(run.parameter_dtype()));
  const bool narrow = size == 4 && stored != DType::f32 && keeps_weights_compact();
  const auto& names = base.shape().names;
  const std::string positions = names.root + "." + names.positions + ".weight";
  double bytes = 0;
  for (const auto& [name, v] : base.parameters()) {
    const Tensor& t = v.tensor();
    // As load_pretrained() keeps them: vectors and learned positions are read wide.
    if (narrow && t.rank() == 2 && name != positions)
      bytes += double(t.numel()) * double(size_of(stored));
    else
      bytes += size == 4 ? double(stored_bytes(t)) : size * double(t.numel());
  }
  return bytes;
}

// Of "pretrained": parameters of its low-rank updates; 0: all weights are trained.
int64_t low_rank_parameters(const Transformer& base, const Component& model) {
  const Json rank = model.resolved->value("rank", Json());
  if (!rank.is_number_integer()) return 0;
  int64_t rows = 0;
  for (const auto& [name, v] : base.blocks().parameters())
    if (v.rank() == 2) rows += v.shape()[0] + v.shape()[1];
  return rank.get<int64_t>() * rows;
}

}  // namespace

LatentPlan plan_latent_run(const Transformer& base, const ExperimentOptions& run, DType stored) {
  const auto size = double(size_of(run.parameter_dtype()));
  double of_base = size * double(base.parameter_count());  // bytes
  LatentPlan plan;
  double extra = 0;  // parameters beside the base
  if (run.model.type == "pretrained") {
    const int64_t length = configured_block_size(run.model).value_or(base.shape().block_size);
    const auto tokens = double(run.train.batch_size * length);
    const int64_t updates = low_rank_parameters(base, run.model);
    plan.trainable_parameters = updates > 0 ? updates : base.parameter_count();
    // Backward through frozen weights is as much as the forward, with their gradients twice.
    plan.step_flops = (updates > 0 ? 2 : 3) * base.forward_flops_per_token(length) * tokens +
                      3 * 2 * double(updates) * tokens;
    if (updates > 0) of_base = frozen_bytes(base, run, stored);
    extra = double(updates);
  } else {
    const auto& o = component_options<AugmentedOptions>(run.model);
    Generator random(1);
    // The base has no weights to copy: only sizes count.
    const Build build{random, DType::f32, Device{}, false};
    const auto source = LatentRegistry::instance().make(o.latents, LatentSite{base, build});
    extra = double(source->parameter_count());
    plan.trainable_parameters =
        source->parameter_count() + (o.train_base ? base.parameter_count() : 0);
    if (!o.train_base) of_base = frozen_bytes(base, run, stored);
    // A row sees half a text on average.
    const double texts = double(run.train.batch_size), groups = texts * double(o.groups),
                 half = double(o.block_size) / 2;
    const double text = texts * double(o.block_size) * row_flops(base, half),
                 rows = groups *
                        double(source->writes_cache() ? o.ahead : source->count() + o.ahead - 1) *
                        row_flops(base, half),
                 head = groups * double(o.ahead) * 2 *
                        double(base.shape().features * base.shape().vocabulary),
                 latents = groups * source->flops_per_group(int64_t(half)) +
                           texts * source->flops_per_text(o.block_size);
    // Backward is twice the forward; through frozen weights, once; and frozen text rows have none.
    plan.step_flops =
        (o.train_base ? 3 : 1) * text + (o.train_base ? 3 : 2) * (rows + head) + 3 * latents;
  }
  plan.weight_bytes = of_base + size * extra;
  plan.state_bytes = 3 * size * double(plan.trainable_parameters);
  return plan;
}

std::string plan_latent_table(const Transformer& base, const std::string& base_name, DType stored,
                              const std::vector<PlannedRun>& runs, const std::string& directory) {
  std::string out =
      fmt::format("base: {}, {} parameters\n{:<14} {:>7} {:>5} {:>13} {:>7} {:>9} {:>9} {:>7}\n",
                  base_name, format_integer(base.parameter_count()), "model", "latents", "seeds",
                  "trained", "steps", "tokens", "PFLOP", "GiB");
  double total = 0, of_trials = 0;
  int64_t trials = 0;
  std::set<std::pair<std::string, int64_t>> listed;
  for (const PlannedRun& r : runs) {
    if (r.trial) {
      const ExperimentOptions o = read_experiment(r.config, directory);
      of_trials += plan_latent_run(base, o).step_flops * double(o.train.steps);
      ++trials;
      continue;
    }
    if (!r.in_table) {
      out += "before all others, once: a run that trains the base\n";
      continue;
    }
    if (!listed.insert({r.cell.model, r.cell.level}).second) continue;
    const auto seeds = std::count_if(runs.begin(), runs.end(), [&](const PlannedRun& other) {
      return other.in_table && other.cell.model == r.cell.model && other.cell.level == r.cell.level;
    });
    const ExperimentOptions o = read_experiment(r.config, directory);
    const LatentPlan p = plan_latent_run(base, o, stored);
    const double of_run = p.step_flops * double(o.train.steps);
    total += of_run * double(seeds);
    out += fmt::format("{:<14} {:>7} {:>5} {:>13} {:>7} {:>9} {:>9.4g} {:>7.2f}\n", r.cell.model,
                       r.cell.level, seeds, format_integer(p.trainable_parameters), o.train.steps,
                       format_integer(o.train.batch_size *
                                      configured_block_size(o.model).value_or(base.block_size())),
                       of_run / 1e15, (p.weight_bytes + p.state_bytes) / double(1 << 30));
  }
  total += of_trials;
  if (trials > 0)
    out += fmt::format("before them, {} trials of learning rates: {:.4g} PFLOP\n", trials,
                       of_trials / 1e15);
  return out + fmt::format(
                   "all runs: {:.4g} PFLOP. Tokens are those of a step, PFLOP those of a run, GiB "
                   "those of weights, gradients and moments; activations are not counted.\n",
                   total / 1e15);
}

}  // namespace reverie
