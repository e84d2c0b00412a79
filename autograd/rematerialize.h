#pragma once
/// Rematerialisation (Chen et al., "Training deep nets with sublinear memory cost", 2016).

#include <functional>
#include <vector>

#include "autograd/variable.h"

namespace reverie {

/// function(inputs), keeping only the inputs: the inside is computed again during backward, with the
/// same random numbers (Philox place saved and restored) and products of the same precision, so that
/// losses and gradients are bit-identical with and without. Inputs may be undefined. The function
/// may read leaves (parameters) freely; reading any other recorded Variable that is not among its
/// inputs is a UserError, and so is changing an input or a parameter before backward(). It runs
/// twice: it should change nothing outside.
Variable rematerialize(const std::function<Variable(const std::vector<Variable>&)>& function,
                       const std::vector<Variable>& inputs);

/// The same for a function with several results, which stay in memory: at least one, all defined.
std::vector<Variable> rematerialize_all(
    const std::function<std::vector<Variable>(const std::vector<Variable>&)>& function,
    const std::vector<Variable>& inputs);

}  // namespace reverie
