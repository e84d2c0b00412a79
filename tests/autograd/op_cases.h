#pragma once
// Small f64 cases over every op, from the files cases_*.cpp, which register themselves: gradcheck
// runs them, and coverage compares the ops they record with the op structs that exist, so that an
// op without a gradcheck, or without a refusal, fails the suite.

#include <functional>
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

// A call that an op must refuse, and the words in which it does: where, got, wanted.
struct OpRefusal {
  std::string op, words;
  std::function<void()> call;
};

class OpCases {
 public:
  // Inputs are standard normal tensors of the given shapes.
  void add(const std::string& name, const std::vector<Shape>& shapes, const MultiFunction& function,
           const GradcheckOptions& options = {});
  void refuses(const std::string& op, const std::string& words, const std::function<void()>& call);

  std::vector<OpCase> cases;
  std::vector<OpRefusal> refusals;
};
struct OpCaseFile {
  explicit OpCaseFile(void (*cases)(OpCases&));
};
// The cases of all files.
std::vector<OpCase> op_cases();
std::vector<OpRefusal> op_refusals();

// Standard normal numbers, the same for the same seed.
inline Tensor normal(const Shape& shape, uint64_t seed = 1, DType dtype = DType::f64) {
  Generator random(seed);
  return random.normal(shape, 0, 1, dtype);
}

// A constant, for refusals.
inline Variable zeros(const Shape& shape, DType dtype = DType::f64) {
  return Variable(Tensor::zeros(shape, dtype));
}

// Names of all ops in the graph below `outputs`.
std::set<std::string> ops_below(const Variables& outputs);

}  // namespace reverie::testing
