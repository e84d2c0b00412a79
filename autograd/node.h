#pragma once
/// The tape. Ops see Context; apply_op() in op.h builds nodes; engine.cpp walks them.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "autograd/variable.h"

namespace reverie {

/// One gradient per input, in order; an undefined tensor means no gradient.
using Grads = std::vector<Tensor>;

namespace detail {
struct VariableImpl {
  Tensor value;
  bool requires_grad = false;
  std::shared_ptr<Node> producer;  ///< null for a leaf
  int output = 0;
  /// Made while a LeafCollector was alive, from what requires a gradient: without the NoGrad around
  /// the collector it would have been recorded.
  bool depends = false;
  /// Leaves only.
  Tensor grad, grad_buffer;
  ReadBy read_by = ReadBy::any;
  std::function<void(const Tensor&)> grad_ready;

  /// Adds a contribution. The first one is taken over where nobody else can see it, or copied, so
  /// that buffers need no zeroing and no two leaves ever share a gradient.
  void add_grad(Tensor contribution);
};
}  // namespace detail

/// Tensors an op keeps between forward and backward, and the gradients its backward must produce.
class Context {
 public:
  /// False under NoGrad or when no input requires a gradient: nothing will be kept.
  bool recording() const { return recording_; }
  /// Whether input i wants a gradient: skips e.g. the weight-gradient GEMMs of a frozen base.
  bool needs(size_t input) const { return input < needs_.size() && needs_[input]; }
  void save(std::initializer_list<Tensor> tensors);
  /// Checked against the version it was saved with. Freed when the node has run.
  const Tensor& saved(size_t i) const;
  /// If input i is a leaf with a gradient buffer: that buffer, for an op that can add into it
  /// directly (a GEMM with beta = 1). `accumulate` says whether it already holds something; without,
  /// the op writes every element. After writing, the op returns an undefined Tensor for the input. A
  /// leaf that is two inputs of one op gets `accumulate` at its second.
  Tensor* leaf_grad(size_t input, bool& accumulate);
  /// If input i is the result of an op, and other ops have made gradients of it in this backward
  /// pass: their sum, for an op that can add into it, as above; it then returns an undefined Tensor
  /// for the input. Null where there is none yet, or somebody else can see it.
  Tensor* sum_so_far(size_t input);
  std::string_view op() const { return op_; }
  void release() { saved_.clear(); }

 private:
  friend class Node;
  friend class Tape;
  struct Saved {
    Tensor tensor;
    uint32_t version;
  };
  std::string_view op_;
  bool recording_ = false;
  std::vector<bool> needs_;
  std::vector<Saved> saved_;
  Node* node_ = nullptr;
};

struct Edge {
  std::shared_ptr<Node> node;  ///< the producer of this input ...
  int output = 0;
  std::shared_ptr<detail::VariableImpl>
      leaf;  ///< ... or a leaf that wants a gradient; neither: no gradient wanted
};

class Node {
 public:
  Node();
  virtual ~Node();  ///< releases long chains without recursion
  virtual std::string_view name() const = 0;
  /// Cotangents of the outputs (some may be undefined) to gradients of the inputs.
  virtual Grads run_backward(std::span<const Tensor> grads) = 0;

  Context context;
  std::vector<Edge> edges;
  /// Leaves whose gradients a nested backward inside this node adds to (rematerialisation).
  std::vector<std::shared_ptr<detail::VariableImpl>> inner_leaves;
  struct Output {
    Shape shape;
    DType dtype;
  };
  std::vector<Output> outputs;  ///< what a cotangent must look like
  std::vector<Tensor> pending;  ///< cotangents that have arrived, one per output
  uint64_t
      sequence;  ///< order of creation, over all threads: a consumer's is larger than its producer's
  bool done = false;
};

/// Collects the inputs of one apply_op() and makes its node.
class Tape {
 public:
  explicit Tape(std::string_view op) : op_(op) {}
  Tensor input(const Variable&);
  std::vector<Tensor> input(const std::vector<Variable>&);
  bool wanted() const;           ///< grad mode is on and an input requires a gradient
  void prepare(Context&) const;  ///< without a node
  void prepare(Context&, const std::shared_ptr<Node>&);
  /// Output `index` of `node` (null: not recorded); outputs are made in order.
  Variable output(Tensor, const std::shared_ptr<Node>&, int index) const;

 private:
  std::string_view op_;
  bool depends_ = false;  ///< an input requires a gradient, or would
  std::vector<Variable> inputs_;
};

/// While alive on this thread, notes every leaf requiring a gradient that an apply_op() reads, even
/// under NoGrad.
class LeafCollector {
 public:
  LeafCollector();
  ~LeafCollector();
  LeafCollector(const LeafCollector&) = delete;
  LeafCollector& operator=(const LeafCollector&) = delete;
  std::vector<std::shared_ptr<detail::VariableImpl>> leaves;
  std::shared_ptr<Node>
      recorded;  ///< the producer of a recorded Variable that was read, if there was one

 private:
  friend class Tape;
  LeafCollector* outer_;
  int no_grads_;  ///< NoGrads around it
};

/// backward() from several outputs that takes the cotangents over: where nobody else has them, ops
/// add to them in place, as they do in a graph that is walked in one go.
void backward_taking(std::span<const Variable> outputs, Grads cotangents);

/// While one is alive on this thread, ops record even inside a NoGrad: for a node that computes its
/// inside again.
class WithGrad {
 public:
  WithGrad();
  ~WithGrad();
  WithGrad(const WithGrad&) = delete;
  WithGrad& operator=(const WithGrad&) = delete;

 private:
  bool before_;
};

/// Number of nodes alive in this process: tests watch for leaks.
int64_t live_nodes();

}  // namespace reverie
