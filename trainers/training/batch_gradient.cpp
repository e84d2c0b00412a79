#include "trainers/training/batch_gradient.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "autograd/ops/elementwise.h"
#include "autograd/variable.h"
#include "core/profile.h"
#include "core/random.h"
#include "core/signals.h"
#include "trainers/training/step_values.h"

namespace reverie {

BatchGradient::BatchGradient(LanguageModel& model, const Sampler& sampler, const BatchSplit& split,
                             GradientReducer& reducer, Communicator& communicator, Device device)
    : model_(model),
      sampler_(sampler),
      split_(split),
      reducer_(reducer),
      communicator_(communicator),
      batches_(sampler, device) {
  carried_.clear(split);
}

BatchGradient::Result BatchGradient::compute(int64_t index, bool last) {
  std::optional<profile::Scope> phase(std::in_place, profile::Kind::step, "data");
  const bool carries = model_.carries_memory();
  if (carries && sampler_.begins_texts(index)) carried_.clear(split_);
  // Every part is weighted by the targets of the whole batch, so that the split does not change the
  // gradient.
  const int64_t targets = sampler_.target_count(index);
  const auto& parts = split_.parts();
  const Generator before = default_generator();
  std::vector<double> losses;
  for (size_t i = 0; i < parts.size(); ++i) {
    phase.emplace(profile::Kind::step, "data");
    const auto [first_row, rows] = parts[i];
    const Batch batch = batches_.rows(index, parts[i]);
    SequenceState* state = carries ? &carried_.part(i) : nullptr;
    // Rows draw the dropout that they would draw in the whole batch.
    default_generator() =
        Generator(before.seed(), before.offset(),
                  {uint64_t(first_row), uint64_t(rows), uint64_t(split_.batch())});
    phase.emplace(profile::Kind::step, "forward");
    const Variable loss = loss_of(batch, 1.0 / double(std::max<int64_t>(1, targets)), state);
    prepare_after(i, index, last);
    losses.push_back(loss.tensor().item());
    phase.emplace(profile::Kind::step, "backward");
    reducer_.begin_part(i + 1 == parts.size());
    backward(loss);
    reducer_.end_part();
    if (state) state->memory.detach();
  }
  default_generator() = Generator(before.seed(), default_generator().offset());
  phase.emplace(profile::Kind::step, "gradients");
  reducer_.wait();
  const StepValues values =
      exchange_step_values(communicator_, split_, {losses, requested_signal(), reducer_.reached()});
  reducer_.set_reached(values.reached);
  return {std::accumulate(values.losses.begin(), values.losses.end(), 0.0), targets, values.signal};
}

Variable BatchGradient::loss_of(const Batch& batch, double weight_per_target,
                                SequenceState* state) {
  const int64_t time = batch.tokens.size(1), window = std::min(time, model_.block_size());
  if (time == window) return model_.loss(batch.tokens, batch.targets, weight_per_target, state);
  Variable loss;
  for (int64_t begin = 0; begin < time; begin += window) {
    const auto piece = [&](const Tensor& rows) {
      return rows.slice(1, begin, std::min(time, begin + window)).contiguous();
    };
    const Variable own =
        model_.loss(piece(batch.tokens), piece(batch.targets), weight_per_target, state);
    loss = loss ? add(loss, own) : own;
  }
  return loss;
}

void BatchGradient::prepare_after(size_t part, int64_t index, bool last) {
  const auto& parts = split_.parts();
  if (part + 1 < parts.size())
    batches_.prepare(index, parts[part + 1]);
  else if (!last)
    batches_.prepare(index + 1, parts[0]);
}

}  // namespace reverie
