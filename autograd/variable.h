#pragma once
/// Variable: a tensor's membership in the graph, visible in the type. Kernels, optimizers and
/// loaders use Tensor, and so cannot record by accident.

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "autograd/precision.h"
#include "core/tensor.h"

namespace reverie {

class Node;
namespace detail {
struct VariableImpl;
}

class Variable {
 public:
  Variable() = default;  ///< undefined: "no bias"
  /// A leaf. `value` must be contiguous. With requires_grad, backward() leaves its gradient in
  /// grad().
  explicit Variable(Tensor value, bool requires_grad = false);

  bool defined() const { return impl_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Tensor& tensor() const;
  const Shape& shape() const { return tensor().shape(); }
  int64_t size(int dim) const { return tensor().size(dim); }
  int rank() const { return tensor().rank(); }
  DType dtype() const { return tensor().dtype(); }
  Device device() const { return tensor().device(); }

  bool requires_grad() const;  ///< a leaf that wants a gradient, or made from one
  bool is_leaf() const;
  void set_requires_grad(bool);  ///< leaves only
  /// The same values, outside the graph.
  Variable detach() const;

  /// The gradient of a leaf; undefined before any backward() reached it.
  const Tensor& grad() const;
  void clear_grad();
  /// From now on the gradient lives in `buffer` (contiguous, a view into a flat bucket);
  /// clear_grad() only marks it stale.
  void set_grad_buffer(Tensor buffer);
  /// The same leaf over other bytes of the same shape and dtype: how parameters move into flat
  /// buckets. Contiguous, or compact (core/compact_weights.h).
  void set_tensor(Tensor value);
  /// What reads a leaf; ReadBy::any unless whoever made it says otherwise. matmul: linear(),
  /// linear_activation() and linear_cross_entropy() alone, so that a step in bf16 needs no more of
  /// it than its copy in bf16 (core/rounded_copy.h).
  ReadBy read_by() const;
  void set_read_by(ReadBy);
  /// Called with the gradient as soon as every use of this leaf in a backward() has contributed.
  void on_grad_ready(std::function<void(const Tensor&)> hook);

  const std::shared_ptr<detail::VariableImpl>& impl() const { return impl_; }
  explicit Variable(std::shared_ptr<detail::VariableImpl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<detail::VariableImpl> impl_;
};

/// While one is alive on this thread, nothing is recorded.
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};
bool grad_enabled();

/// Adds d(loss)/d(leaf) into the gradient of every leaf that requires one. `loss` has one element
/// and depends on such a leaf, else UserError. The graph is freed as it is walked (newest node
/// first, no recursion); a second backward over it is an InternalError. If anything throws on the
/// way, the rest of the graph is freed too, and gradients are partial: clear them.
void backward(const Variable& loss);
/// The same from several outputs with given cotangents (an undefined one counts as zero; so does one
/// for a constant output).
void backward(std::span<const Variable> outputs, std::span<const Tensor> cotangents);

}  // namespace reverie
