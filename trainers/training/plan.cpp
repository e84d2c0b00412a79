#include "trainers/training/plan.h"

#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "core/error.h"
#include "layers/language_model.h"
#include "layers/model_options.h"

namespace reverie {

Json Plan::json() const {
  return {{"parameters", parameters},
          {"tokens_per_step", tokens_per_step},
          {"steps", steps},
          {"step_flops", step_flops},
          {"weight_bytes", weight_bytes},
          {"kept_bytes", kept_bytes},
          {"activation_bytes", activation_bytes},
          {"peak_bytes", peak_bytes}};
}

Plan plan_run(const ExperimentOptions& given) {
  ExperimentOptions o = given;
  if (takes_vocabulary_of_data(o.model)) {
    int64_t vocabulary = 65;
    try {
      vocabulary = prepare_and_open(o.data).vocabulary_size();
    } catch (const UserError&) {
      // Planning must work before the data is there.
    }
    o.model = with_vocabulary_of_data(o.model, vocabulary);
  }
  Allocator& memory = allocator({});
  const size_t before = memory.stats().in_use;
  memory.reset_peak();
  Generator random(1);
  const DType dtype = o.parameter_dtype();
  const MatmulPrecisionScope precision(o.matmul_precision());
  auto model = ModelRegistry::instance().make(o.model, Build{random, dtype});
  FlatParameters parameters(*model);
  const auto optimizer = OptimizerRegistry::instance().make(o.optimizer, parameters);
  const int64_t rows = o.train.batch_size / o.train.micro_batches, block = model->block_size();
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < rows * block; ++i)
    ids.push_back(int32_t(random.below(uint64_t(model->vocabulary_size()))));
  const Tensor tokens = Tensor::from<int32_t>({rows, block}, ids);
  SequenceState state;
  Variable loss;
  for (int64_t i = 0; i < o.train.windows; ++i) {
    const Variable own =
        model->loss(tokens, tokens, 1.0, model->carries_memory() ? &state : nullptr);
    loss = loss ? add(loss, own) : own;
  }
  backward(loss);
  optimizer->step(0, parameters.gradient_norm());

  Plan p;
  p.parameters = model->parameter_count();
  p.steps = o.train.steps;
  p.tokens_per_step = o.train.batch_size * o.train.windows * block;
  p.step_flops = 3 * model->forward_flops_per_token(block) * double(p.tokens_per_step);
  p.weight_bytes = double(p.parameters) * double(size_of(dtype));
  const AllocatorStats after = memory.stats();
  p.peak_bytes = double(after.peak - before);
  p.kept_bytes = double(after.in_use - before) - double(tokens.numel() * int64_t(sizeof(int32_t)));
  p.activation_bytes = p.peak_bytes - p.kept_bytes;
  return p;
}

}  // namespace reverie
