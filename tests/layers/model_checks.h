#pragma once
// Checks of a model that return what is wrong, "" where nothing is.

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "autograd/ops/elementwise.h"
#include "core/error.h"
#include "support/tiny_models.h"

namespace reverie::testing {

// A loss with everything in it: ignored targets, dropout (the same masks every time), and, where
// memory is carried, a second window that reads the first one's state, or `between` instead.
inline Variable whole_loss(LanguageModel& model, bool detach = false,
                           const MemoryState* between = nullptr) {
  default_generator() = Generator(99);
  const Tensor tokens = random_tokens(2, 17, model.vocabulary_size(), 5);
  Tensor targets = random_tokens(2, 17, model.vocabulary_size(), 6);
  targets.mutable_data<int32_t>()[4] = -1;
  if (!model.carries_memory()) return model.loss(tokens, targets, 0.05);
  SequenceState state;
  const Variable first = model.loss(tokens, targets, 0.05, &state);
  if (detach) state.memory.detach();
  if (between) state.memory = *between;
  const Variable second = model.loss(targets.to(DType::i32).slice(1, 5, 17).contiguous(),
                                     tokens.slice(1, 5, 17).contiguous(), 0.05, &state);
  return add(first, second);
}

// whole_loss() of a model, as a function of its weights. Where the model cuts the gradient between
// the windows by itself (Transformer-XL), differences must not see through the cut either: the state
// between them is then that of the weights as they are now.
inline std::function<Variable()> differentiable_loss(LanguageModel& model) {
  const auto whole = [&model] { return whole_loss(model); };
  if (!model.carries_memory()) return whole;
  default_generator() = Generator(99);
  SequenceState state;
  model.hidden(random_tokens(2, 17, model.vocabulary_size(), 5), &state);
  for (const auto& [name, v] : state.memory.values)
    if (v.requires_grad()) return whole;
  return [&model, between = state.memory] { return whole_loss(model, false, &between); };
}

// Gradients of `loss`, of an f64 model, beside central differences: a sample of every parameter
// that is trained.
inline std::string gradient_error(LanguageModel& model, const std::function<Variable()>& loss) {
  backward(loss());
  NoGrad guard;
  Generator random(17);
  std::string wrong;
  int64_t compared = 0;
  for (const auto& [name, parameter] : model.parameters()) {
    if (!parameter.requires_grad()) continue;
    if (!parameter.grad().defined()) {
      wrong += name + ": no gradient\n";
      continue;
    }
    Tensor value = parameter.tensor();
    double* x = value.mutable_data<double>();
    const auto gradient = parameter.grad().to_vector();
    double scale = 1e-3;
    for (double g : gradient) scale = std::max(scale, std::abs(g));
    for (int sample = 0; sample < 8; ++sample) {
      const size_t i = size_t(random.below(gradient.size()));
      const double before = x[i], h = 1e-5;
      x[i] = before + h;
      const double above = loss().tensor().item();
      x[i] = before - h;
      const double below = loss().tensor().item();
      x[i] = before;
      const double numeric = (above - below) / (2 * h);
      if (!(std::abs(gradient[i] - numeric) <= 1e-6 * scale))
        wrong += fmt::format("{}[{}]: {}, central difference {}\n", name, i, gradient[i], numeric);
      ++compared;
    }
  }
  return compared ? wrong : wrong + "nothing is trained\n";
}

// A text in pieces, keys, values and memory carried, against the text whole; of an f64 model.
inline std::string decoding_error(LanguageModel& model) {
  model.train(false);
  NoGrad guard;
  const int64_t length = std::min<int64_t>(19, model.block_size());
  const Tensor tokens = random_tokens(3, length, model.vocabulary_size());
  const Tensor whole = model.logits(tokens).tensor();
  SequenceState state;
  state.use_cache = true;
  if (!model.incremental()) {
    try {
      model.hidden(tokens, &state);
    } catch (const UserError&) {
      return "";
    }
    return "it decodes, though it says that it cannot\n";
  }
  std::string wrong;
  const std::vector<std::vector<int64_t>> ways = {
      {1}, {length}, {3, 1, 5, 7}, {2, 11}, {length - 1, 1}, {1, length - 1}, {4}, {5}};
  for (const auto& pieces : ways) {
    state = SequenceState();
    state.use_cache = true;
    double worst = 0;
    int64_t begin = 0;
    for (size_t i = 0; begin < length; ++i) {
      const int64_t end = std::min(length, begin + pieces[i % pieces.size()]);
      const Tensor part = model.logits(tokens.slice(1, begin, end).contiguous(), &state).tensor();
      worst = std::max(worst, largest_difference(part, whole.slice(1, begin, end)));
      begin = end;
      if (state.position != end) wrong += fmt::format("at {} instead of {}\n", state.position, end);
    }
    if (!(worst < 1e-10))
      wrong += fmt::format("pieces of {} ...: logits differ by {}\n", pieces[0], worst);
  }
  return wrong;
}

// A memory state that is written down by name and read again, in another model of the same weights,
// as a checkpoint does it, against one that goes on: to the bit.
inline std::string saved_state_error(LanguageModel& model, LanguageModel& another) {
  NoGrad guard;
  another.load(model.state());
  model.train(false);
  another.train(false);
  const int64_t vocabulary = model.vocabulary_size();
  const Tensor first = random_tokens(2, 10, vocabulary, 1),
               next = random_tokens(2, 9, vocabulary, 2);
  SequenceState state, restored;
  model.hidden(first, &state);
  for (const auto& [name, v] : state.memory.values)
    restored.memory.values[name] = Variable(v.tensor().clone());
  restored.memory.counters = state.memory.counters;
  restored.position = state.position;
  const Tensor wanted = model.logits(next, &state).tensor(),
               got = another.logits(next, &restored).tensor();
  if (!bit_identical(got, wanted))
    return fmt::format("logits after a saved state differ by {}\n",
                       largest_difference(got, wanted));
  for (const auto& [name, v] : state.memory.values)
    if (!restored.memory.values.contains(name) ||
        !bit_identical(restored.memory.values.at(name).tensor(), v.tensor()))
      return name + " differs after a saved state\n";
  return restored.memory.counters == state.memory.counters ? "" : "counters differ\n";
}

}  // namespace reverie::testing
