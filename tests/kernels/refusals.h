#pragma once
// Arguments that a row must refuse before any implementation sees them, and the words in which it
// does: one fault at a time in otherwise good arguments.

#include <functional>
#include <initializer_list>
#include <set>
#include <string>
#include <type_traits>

#include "core/tensor.h"
#include "kernels/kernel.h"

namespace reverie::test {

class Refusals {
 public:
  template <class Args>
  void refuses(const Kernel<Args>& row, const std::type_identity_t<Args>& args,
               const std::string& words) {
    expect_refusal(
        row, [&] { check(args); }, words);
  }
  template <class Args>
  void accepts(const Kernel<Args>& row, const std::type_identity_t<Args>& args) {
    expect_acceptance(row, [&] { check(args); });
  }
  // Rows that have refused something.
  const std::set<std::string>& rows() const { return rows_; }

 private:
  using Check = std::function<void()>;
  void expect_refusal(const KernelRow&, const Check&, const std::string& words);
  void expect_acceptance(const KernelRow&, const Check&);

  std::set<std::string> rows_;
};

// Arguments: zeros of a shape, and indices.
inline Tensor f32(const Shape& s) {
  return Tensor::zeros(s, DType::f32);
}
inline Tensor f64(const Shape& s) {
  return Tensor::zeros(s, DType::f64);
}
inline Tensor i32(std::initializer_list<int32_t> values) {
  return Tensor::from<int32_t>({int64_t(values.size())}, values);
}

}  // namespace reverie::test
