#include "trainers/training/plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "autograd/ops/elementwise.h"
#include "core/compact_weights.h"
#include "core/dry_run.h"
#include "core/error.h"
#include "core/profile.h"
#include "core/random.h"
#include "layers/language_model.h"
#include "layers/model_options.h"
#include "trainers/distributed/gradient_reducer.h"
#include "trainers/training/batch_split.h"
#include "trainers/training/carried_memory.h"

namespace reverie {
namespace {

// One of several ranks that are not there.
class AbsentRanks final : public Communicator {
 public:
  AbsentRanks(int rank, int size) : rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string kind() const override { return "planned"; }
  bool takes(Device) const override { return true; }
  void broadcast(Tensor&, int) override {}
  Pending sum_terms(const SumTree&, const std::vector<Tensor>&, const Tensor&) override {
    return {};
  }
  void all_gather(Tensor&, const std::vector<int64_t>&) override {}
  void gather(const Tensor&, const std::vector<int64_t>&, Tensor&, int) override {}
  std::vector<std::string> all_gather(const std::string& text) override {
    return std::vector<std::string>(size_t(size_), text);
  }
  void exchange(const Mail&) override {}
  void watch(double) override {}
  void set_time_limit(double) override {}
  void abort(int, const std::string&) noexcept override {}
  Pending all_reduce_async(const Tensor&, Reduction) override { return {}; }

 private:
  int rank_, size_;
};

int64_t rows_of(const BatchSplit& split, int rank) {
  return split.first_row(rank + 1) - split.first_row(rank);
}

// Trained numbers that each rank keeps between steps, as with AdamW: values, and two moments of
// those in its share.
std::vector<int64_t> kept_numbers(const ExperimentOptions& o, const Module& model, int ranks) {
  std::vector<int64_t> kept(static_cast<size_t>(ranks));
  if (!o.distributed.shard_optimizer) return kept;  // all keep the same
  for (const ParameterBucket& bucket : flat_layout(model, ranks))
    for (const ParameterBucket::Member& m : bucket.members) {
      const Variable& v = m.variable;
      const bool everywhere =
          !o.keeps_rounded_copies(ranks) || v.rank() < 2 || v.read_by() == ReadBy::any;
      const int owner = bucket.owner(m);
      for (int rank = 0; rank < ranks; ++rank)
        kept[size_t(rank)] += v.tensor().numel() * (rank == owner ? 3 : everywhere ? 1 : 0);
    }
  return kept;
}

// Among the ranks with the most sequences, the one that keeps the most.
int largest_rank(const ExperimentOptions& o, const Module& model, int ranks) {
  const BatchSplit split(o, 0, ranks);
  const std::vector<int64_t> kept = kept_numbers(o, model, ranks);
  const auto size = [&](int rank) { return std::pair(rows_of(split, rank), kept[size_t(rank)]); };
  int largest = 0;
  for (int rank = 1; rank < ranks; ++rank)
    if (size(rank) > size(largest)) largest = rank;
  return largest;
}

Tensor random_tokens(const LanguageModel& model, int64_t rows, Generator& random) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows * model.block_size(); ++i)
    ids.push_back(int32_t(random.below(uint64_t(model.vocabulary_size()))));
  return Tensor::from<int32_t>({rows, model.block_size()}, ids);
}

Variable loss_of(LanguageModel& model, const Tensor& tokens, int64_t windows,
                 SequenceState* state) {
  Variable loss;
  for (int64_t i = 0; i < windows; ++i) {
    const Variable own = model.loss(tokens, tokens, 1.0, state);
    loss = loss ? add(loss, own) : own;
  }
  return loss;
}

// As steps behind the first find it.
CarriedMemory memory_of_step_before(LanguageModel& model, const BatchSplit& split,
                                    Generator& random) {
  CarriedMemory carried;
  carried.clear(split);
  if (!model.carries_memory()) return carried;
  const NoGrad no_grad;
  for (size_t i = 0; i < split.parts().size(); ++i)
    loss_of(model, random_tokens(model, split.parts()[i].rows, random), 1, &carried.part(i));
  return carried;
}

double bytes_of(CarriedMemory& carried, size_t parts) {
  double bytes = 0;
  for (size_t i = 0; i < parts; ++i)
    for (const auto& [name, v] : carried.part(i).memory.values)
      if (v) bytes += double(v.tensor().bytes());
  return bytes;
}

// A kernel may run others: only the outermost ones are counted.
double flops_of(const std::vector<profile::Event>& events) {
  double flops = 0;
  for (const profile::Event& e : events)
    if (e.kind == profile::Kind::kernel &&
        (e.parent < 0 || events[size_t(e.parent)].kind != profile::Kind::kernel))
      flops += e.work.flops;
  return flops;
}

void settle_planned_vocabulary(ExperimentOptions& o) {
  if (!takes_vocabulary_of_data(o.model)) return;
  std::optional<int64_t> vocabulary;
  try {
    vocabulary = prepare_and_open(o.data).vocabulary_size();
  } catch (const UserError&) {
    // Planning must work before the data is there.
  }
  o.model = vocabulary ? with_vocabulary_of_data(o.model, *vocabulary)
                       : with_vocabulary_without_data(o.model);
}

void count_weights(const Module& model, Plan& p) {
  for (const auto& [name, v] : model.parameters()) {
    const auto bytes = double(stored_bytes(v.tensor()));
    p.parameters += v.tensor().numel();
    p.weight_bytes += bytes;
    if (v.requires_grad())
      p.trained_parameters += v.tensor().numel();
    else
      p.frozen_bytes += bytes;
  }
}

// What stays as its file has it, which no allocator knows of.
double compact_bytes(const Module& model) {
  double bytes = 0;
  for (const auto& [name, v] : model.parameters())
    if (is_compact(v.tensor())) bytes += double(stored_bytes(v.tensor()));
  return bytes;
}

}  // namespace

Json Plan::json() const {
  return {{"device", device},
          {"ranks", ranks},
          {"parameters", parameters},
          {"trained_parameters", trained_parameters},
          {"tokens_per_step", tokens_per_step},
          {"steps", steps},
          {"step_flops", step_flops},
          {"weight_bytes", weight_bytes},
          {"frozen_bytes", frozen_bytes},
          {"gradient_bytes", gradient_bytes},
          {"rounded_bytes", rounded_bytes},
          {"optimizer_bytes", optimizer_bytes},
          {"carried_bytes", carried_bytes},
          {"kept_bytes", kept_bytes},
          {"activation_bytes", activation_bytes},
          {"peak_bytes", peak_bytes},
          {"evaluation_peak_bytes", evaluation_peak_bytes},
          {"start_peak_bytes", start_peak_bytes}};
}

double Plan::most_bytes() const {
  return std::max({peak_bytes, evaluation_peak_bytes, start_peak_bytes});
}

double Plan::seconds_on(const GpuRates& gpu, double utilisation, bool bf16) const {
  return step_flops * double(steps) / (double(ranks) * utilisation * (bf16 ? gpu.bf16 : gpu.f32));
}

Plan plan_run(const ExperimentOptions& given, int ranks) {
  require(ranks >= 1, "a plan for {} ranks: wanted 1 or more", ranks);
  ExperimentOptions o = given;
  settle_planned_vocabulary(o);
  const DryRun dry;
  const WeightsAsOn device(o.tensor_device());
  Allocator& memory = allocator({});
  const size_t before = memory.stats().in_use;
  Generator random(1);
  const Generator dropout = default_generator();
  auto model =
      ModelRegistry::instance().make(o.model, Build{random, o.parameter_dtype(), Device{}, false});
  AbsentRanks others(largest_rank(o, *model, ranks), ranks);
  const BatchSplit split(o, others.rank(), ranks);
  Plan p;
  p.device = o.device;
  p.ranks = ranks;
  p.steps = o.train.steps;
  count_weights(*model, p);
  p.gradient_bytes = p.weight_bytes - p.frozen_bytes;
  const double compact = compact_bytes(*model);
  p.tokens_per_step = o.train.batch_size * o.train.windows * model->block_size();

  memory.reset_peak();
  FlatParameters parameters(*model, others, o.distributed.shard_optimizer,
                            o.keeps_rounded_copies(ranks));
  if (parameters.shards_masters())
    p.weight_bytes = p.frozen_bytes + double(parameters.value_bytes());
  const auto optimizer = OptimizerRegistry::instance().make(o.optimizer, parameters);
  p.optimizer_bytes = double(optimizer->state_bytes());
  p.start_peak_bytes = double(memory.stats().peak - before) + compact;
  if (const Tensor& rounded = parameters.matrices().rounded)
    p.rounded_bytes = double(rounded.bytes());
  GradientReducer reducer(parameters.flat_gradients(), others, split.tree(), split.exact(),
                          int64_t(o.distributed.bucket_megabytes * (1 << 20)));
  std::optional<MatmulPrecisionScope> precision(o.matmul_precision());
  model->train(true);
  parameters.round_matrices();
  const auto& parts = split.parts();
  CarriedMemory carried = memory_of_step_before(*model, split, random);
  p.carried_bytes = bytes_of(carried, parts.size());
  memory.reset_peak();
  double flops = 0, of_part = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    // Parts behind the second are like it, unless they are smaller or the last.
    const bool known = !split.exact() && i >= 2 && i + 1 < parts.size();
    if (known && parts[i].rows == parts[i - 1].rows) {
      flops += of_part;
      continue;
    }
    profile::start();
    const Tensor tokens = random_tokens(*model, parts[i].rows, random);
    SequenceState* state = model->carries_memory() ? &carried.part(i) : nullptr;
    const Variable loss = loss_of(*model, tokens, o.train.windows, state);
    reducer.begin_part(i + 1 == parts.size());
    backward(loss);
    reducer.end_part();
    if (state) state->memory.detach();
    of_part = flops_of(profile::stop());
    flops += of_part;
  }
  profile::start();
  reducer.wait();
  reducer.set_reached(reducer.reached());
  optimizer->step(0, parameters.gradient_norm());
  flops += flops_of(profile::stop());
  p.step_flops = flops * double(o.train.batch_size) / double(rows_of(split, others.rank()));
  const AllocatorStats after = memory.stats();
  p.peak_bytes = double(after.peak - before) + compact;
  p.kept_bytes = double(after.in_use - before) + compact;
  p.activation_bytes = p.peak_bytes - p.kept_bytes;

  precision.reset();
  parameters.gather_values();
  memory.reset_peak();
  {
    const NoGrad no_grad;
    model->train(false);
    const int64_t windows = std::min(o.evaluation.batch_size, o.evaluation.windows);
    SequenceState state;
    loss_of(*model, random_tokens(*model, windows, random), 1,
            model->carries_memory() ? &state : nullptr);
  }
  p.evaluation_peak_bytes = double(memory.stats().peak - before) + compact;
  default_generator() = dropout;
  return p;
}

}  // namespace reverie
