#pragma once
/// A live model in the hands of a probe, and given back as it was.

#include <optional>

#include "autograd/precision.h"
#include "autograd/unsaved_graph.h"
#include "core/random.h"
#include "layers/module.h"

namespace reverie {

/// Gives the dropout generator's place back.
class GeneratorPlace {
 public:
  GeneratorPlace() : before_(default_generator()) {}
  ~GeneratorPlace() { default_generator() = before_; }
  GeneratorPlace(const GeneratorPlace&) = delete;
  GeneratorPlace& operator=(const GeneratorPlace&) = delete;

 private:
  Generator before_;
};

/// While alive, the model is in train mode with a graph, as in a training step, but one that keeps
/// nothing for a backward pass; or in eval mode without a graph. Products are in `precision`.
class ProbingMode {
 public:
  ProbingMode(Module& model, bool train, MatmulPrecision precision)
      : precision_(precision), model_(model), was_training_(model.training()) {
    if (!train) no_graph_.emplace();
    model_.train(train);
  }
  ~ProbingMode() { model_.train(was_training_); }
  ProbingMode(const ProbingMode&) = delete;
  ProbingMode& operator=(const ProbingMode&) = delete;

 private:
  GeneratorPlace place_;
  MatmulPrecisionScope precision_;
  UnsavedGraph unsaved_;
  std::optional<NoGrad> no_graph_;
  Module& model_;
  bool was_training_;
};

/// While alive, parameters have other values; then they are what they were, to the bit.
class RedrawnParameters {
 public:
  /// Those for which `chosen` says so are drawn by redraw_parameter().
  RedrawnParameters(Module& model, const std::function<bool(const Variable&)>& chosen);
  ~RedrawnParameters();
  RedrawnParameters(const RedrawnParameters&) = delete;
  RedrawnParameters& operator=(const RedrawnParameters&) = delete;

 private:
  std::vector<std::pair<Variable, Tensor>> before_;
};

/// Values with which every path carries weight: matrices of standard deviation 1 / sqrt(larger
/// size), vectors 1 + 0.1 N(0, 1), biases 0.1 N(0, 1). The usual small initial weights could make a
/// leak look like rounding.
void redraw_parameter(const std::string& name, const Variable& parameter, Generator& random);

}  // namespace reverie
