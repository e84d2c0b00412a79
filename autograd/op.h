#pragma once
/// apply_op(): runs an op and records it.
///
/// An op is a struct whose members are its attributes (eps, shapes, token ids):
///   struct Scale {
///     static constexpr std::string_view name = "scale";
///     double factor;
///     Tensor forward(Context&, const Tensor& x);       // several outputs: std::vector<Tensor>
///     Grads backward(Context&, const Tensor& grad_y);  // several outputs: std::span<const Tensor>
///   };
///   Variable y = apply_op(Scale{2.0}, x);
/// Inputs are Variables (or vectors of them); an undefined Variable arrives as an undefined Tensor.

#include <tuple>
#include <type_traits>
#include <utility>

#include "autograd/node.h"
#include "core/profile.h"

namespace reverie {

template <class Op>
class OpNode final : public Node {
 public:
  explicit OpNode(Op op) : op_(std::move(op)) {}
  std::string_view name() const override { return Op::name; }
  Grads run_backward(std::span<const Tensor> grads) override {
    if constexpr (requires { op_.backward(context, grads); })
      return op_.backward(context, grads);
    else
      return op_.backward(context, grads[0]);
  }
  Op& op() { return op_; }

 private:
  Op op_;
};

template <class Op, class... A>
auto apply_op(Op op, const A&... inputs) {
  Tape tape(Op::name);
  // Braces: left to right, so that input numbers follow the argument order.
  auto tensors = std::tuple{tape.input(inputs)...};
  const bool record = tape.wanted();
  std::shared_ptr<OpNode<Op>> node;
  Context local;
  if (record) {
    node = std::make_shared<OpNode<Op>>(std::move(op));
    tape.prepare(node->context, node);
  } else {
    tape.prepare(local);
  }
  Op& the_op = record ? node->op() : op;
  Context& context = record ? node->context : local;
  auto result = [&] {
    const profile::Scope scope(profile::Kind::forward, Op::name);
    return std::apply([&](const auto&... t) { return the_op.forward(context, t...); }, tensors);
  }();
  if constexpr (std::is_same_v<decltype(result), Tensor>) {
    return tape.output(std::move(result), node, 0);
  } else {
    std::vector<Variable> outputs;
    for (size_t i = 0; i < result.size(); ++i)
      outputs.push_back(tape.output(std::move(result[i]), node, int(i)));
    return outputs;
  }
}

}  // namespace reverie
