#pragma once
// A kernel case: what to feed a row of the kernel table and what must come out. One list of cases
// (all_cases) serves the parity tests and the coverage tests.

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/compact_weights.h"
#include "core/random.h"
#include "core/tensor.h"

namespace reverie::test {

using Values = std::vector<double>;

// Where an execution's tensors lie. Kernels may assume no more than an element's alignment, and
// take other ways where there is more.
struct Placement {
  Device device = {};
  bool aligned = false;  // to 1024 bytes; else one element off
};

// Storage with canaries (0xff bytes: NaN as floats, -1 as integers) on both sides of one tensor's
// bytes.
class Guarded {
 public:
  Guarded(const Shape& shape, DType dtype, const Placement& placement);
  Tensor tensor() const { return tensor_; }
  bool intact() const;

 private:
  Tensor all_bytes() const;

  std::shared_ptr<Storage> storage_;
  Tensor tensor_;
  size_t begin_ = 0, end_ = 0;
};

// One execution of a case in one dtype. Random numbers depend on the seed alone, so that two runs
// see the same inputs.
class Execution {
 public:
  Execution(DType dtype, uint64_t seed, const Placement& placement = {})
      : dtype_(dtype), generator_(seed), placement_(placement) {}
  DType dtype() const { return dtype_; }
  Device device() const { return placement_.device; }
  Generator& generator() { return generator_; }

  // Normal random numbers, rounded to the dtype. Must be unchanged after the call.
  Tensor input(const Shape& shape, double scale = 1, double shift = 0);
  Tensor input(const Shape& shape, const Values& values);
  Tensor indices(const std::vector<int32_t>& values);
  // f32 over random rows of this type, whatever the run's dtype.
  Tensor stored(CompactType type, int64_t rows, int64_t columns);
  // Poisoned with NaN: an element that is not written is found. `wide`: f64 whatever the run's
  // dtype.
  Tensor& output(const std::string& name, const Shape& shape, bool wide = false);
  // Random, and written by the call.
  Tensor& updated(const std::string& name, const Shape& shape, bool wide = false);
  // What output or updated `name` must hold after the call. `factor` multiplies the tolerance, for
  // sums of many terms; errors are taken relative to at least `least_size`, for values that may all
  // be zero.
  void expect(const std::string& name, Values values, double factor = 1, double least_size = 0);
  // `call` stores in bf16 what `full` holds in f32: it must be that, rounded, to the bit. For runs
  // in f32.
  void expect_rounded(const std::string& name, const Tensor& full,
                      const std::function<void(Tensor&)>& call);

  struct Result {
    std::string name;
    Tensor tensor;
    Values expected;
    double factor = 1, least_size = 0;
    bool has_expectation = false;
  };
  const std::deque<Result>& results() const { return results_; }
  // Empty, or what is wrong with guards and inputs.
  std::string damage() const;

 private:
  Tensor& add_result(const std::string& name, const Shape& shape, bool wide);

  struct Input {
    Tensor tensor, before;
  };
  DType dtype_;
  Generator generator_;
  Placement placement_;
  std::deque<Guarded> guarded_;
  std::vector<Input> inputs_;
  std::deque<Result> results_;
};

struct Case {
  std::string row;   // of the kernel table
  std::string name;  // sizes and options
  std::function<void(Execution&)> body;
};

// What errors are relative to: the element itself, or the root mean square of all where that is
// larger.
double typical_size(const Values& expected, double least_size);
// Empty where `actual` agrees with `expected` within the dtype's tolerance; else the worst element
// in words. NaN never agrees.
std::string disagreement(const Values& expected, const Values& actual, DType dtype,
                         double factor = 1, double least_size = 0);

// What a file cases_*.cpp knows of its rows. It registers itself: nobody lists the files, and the
// coverage tests name the rows that no file knows.
class Refusals;
struct CaseFile {
  CaseFile(std::vector<Case> (*cases)(), void (*refusals)(Refusals&));
  CaseFile(const CaseFile&) = delete;
  std::vector<Case> (*cases)();
  void (*refusals)(Refusals&);  // tests/kernels/refusals.h
  static const std::vector<const CaseFile*>& all();
};
// The cases of all files.
const std::vector<Case>& all_cases();

}  // namespace reverie::test
