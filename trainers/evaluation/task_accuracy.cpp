#include "trainers/evaluation/task_accuracy.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "autograd/ops/embedding.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/signals.h"
#include "datasets/sampler.h"
#include "trainers/evaluation/carried_losses.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

// The answers among the targets of a batch: rows of the flattened hidden states.
struct Answers {
  std::vector<int32_t> rows, wanted, distances;
};

Answers answers_of(const Batch& batch, const TokenFile& labels,
                   const std::vector<int64_t>& starts) {
  Answers found;
  const int64_t time = batch.tokens.size(1);
  std::vector<int32_t> distances(static_cast<size_t>(time));
  for (size_t row = 0; row < starts.size(); ++row) {
    read_distances(labels, starts[row] + 1, distances);
    for (int64_t t = 0; t < time; ++t) {
      if (distances[size_t(t)] < 0) continue;
      const int64_t at = int64_t(row) * time + t;
      found.rows.push_back(int32_t(at));
      found.wanted.push_back(batch.targets.data<int32_t>()[at]);
      found.distances.push_back(distances[size_t(t)]);
    }
  }
  return found;
}

// The number of the largest logit of each row; the first among equals.
std::vector<int32_t> likeliest(const LanguageModel& model, const Variable& hidden,
                               const std::vector<int32_t>& rows) {
  const auto count = int64_t(rows.size());
  const Variable all = reshape(hidden, {-1, hidden.size(-1)});
  const Variable chosen =
      embedding(Tensor::from<int32_t>({1, count}, rows).to(hidden.device()), all);
  const Tensor logits = model.logits_of(chosen).tensor().to(DType::f64).to(Device{}).contiguous();
  const int64_t vocabulary = logits.size(-1);
  std::vector<int32_t> best;
  for (int64_t i = 0; i < count; ++i) {
    const double* row = logits.data<double>() + i * vocabulary;
    const double* largest = std::max_element(row, row + vocabulary);
    require_finite(*largest, "a logit");
    best.push_back(int32_t(largest - row));
  }
  return best;
}

}  // namespace

Json DistanceAccuracy::json() const {
  return {{"distance", distance}, {"right", right}, {"of", of}, {"chance", chance}};
}

std::vector<DistanceAccuracy> task_accuracy(LanguageModel& model, const TokenFile& tokens,
                                            const TokenFile& answers, const TaskLayout& task,
                                            int64_t documents, int64_t batch_size,
                                            CarriedState state, ForwardAudit* audit) {
  task.require_block_size(model.block_size());
  require(
      state == CarriedState::as_model || model.carries_memory(),
      "answers with the memory {} were asked for, but the model carries no memory from window to "
      "window: there is none to replace (a memory module carries with \"carry_state\": true)",
      state == CarriedState::reset ? "wiped" : "swapped");
  const EvaluationMode mode(model);
  std::vector<DistanceAccuracy> counts;
  for (size_t i = 0; i < task.distances.size(); ++i)
    counts.push_back({task.distances[i], 0, 0, task.chance[i]});
  const int64_t length = task.document_length(), block = model.block_size(),
                all = task.documents_in(tokens),
                read = documents == 0 ? all : std::min(documents, all);
  const bool carries = model.carries_memory() && state != CarriedState::reset;
  const OtherMemory swapped = swapped_memory();
  const int64_t forwards = (read + batch_size - 1) / batch_size * (length / block);
  int64_t forward = 0;
  for (int64_t first = 0; first < read; first += batch_size) {
    const int64_t rows = std::min(batch_size, read - first);
    if (state == CarriedState::swapped && rows < 2) continue;
    SequenceState memory;
    for (int64_t begin = 0; begin < length; begin += block) {
      stop_if_requested();
      std::vector<int64_t> starts;
      for (int64_t i = 0; i < rows; ++i)
        starts.push_back((first + i) * all / read * length + begin);
      const Batch batch = read_windows(tokens, starts, block);
      std::optional<MemoryState> other;
      if (state == CarriedState::swapped && begin > 0)
        other = swapped.begin(memory.memory, memory.memory, begin / block);
      SequenceState* const own = carries ? &memory : nullptr;
      Variable hidden = audit && audit->audits(forward++, forwards)
                            ? audit->hidden(model, batch.tokens, own)
                            : model.hidden(batch.tokens, own);
      if (other) {
        SequenceState changed;
        changed.memory = std::move(*other);
        hidden = model.hidden(batch.tokens, &changed);
      }
      const Answers asked = answers_of(batch, answers, starts);
      if (asked.rows.empty()) continue;
      const auto said = likeliest(model, hidden, asked.rows);
      for (size_t i = 0; i < said.size(); ++i) {
        const auto at = std::find_if(counts.begin(), counts.end(), [&](const auto& c) {
          return c.distance == asked.distances[i];
        });
        if (at == counts.end())
          throw DataError(
              fmt::format("{} labels an answer with distance {}, which the task has not",
                          answers.path(), asked.distances[i]));
        ++at->of;
        at->right += said[i] == asked.wanted[i];
      }
    }
  }
  return counts;
}

}  // namespace reverie
