#pragma once
// One list of small f64 cases over every op: gradcheck runs them, and coverage compares the ops
// they record with the op structs that exist, so that an op without a gradcheck fails the suite.

#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "autograd/gradcheck.h"
#include "core/random.h"

namespace reverie::testing {

using Variables = std::vector<Variable>;

struct OpCase {
  std::string name;
  std::vector<Tensor> inputs;
  MultiFunction function;
  GradcheckOptions options;
};

inline void PrintTo(const OpCase& c, std::ostream* out) {
  *out << c.name;
}

std::vector<OpCase> op_cases();

// Standard normal numbers, the same for the same seed.
inline Tensor normal(const Shape& shape, uint64_t seed = 1, DType dtype = DType::f64) {
  Generator random(seed);
  return random.normal(shape, 0, 1, dtype);
}

// Names of all ops in the graph below `outputs`.
std::set<std::string> ops_below(const Variables& outputs);

}  // namespace reverie::testing
