#include "autograd/rematerialize.h"

#include <algorithm>

#include "autograd/node.h"
#include "autograd/precision.h"
#include "core/error.h"
#include "core/random.h"

namespace reverie {
namespace {

using Variables = std::vector<Variable>;
using Function = std::function<Variables(const Variables&)>;

class RestoreGenerator {
 public:
  explicit RestoreGenerator(const Generator& from) : now_(default_generator()) {
    default_generator() = from;
  }
  ~RestoreGenerator() { default_generator() = now_; }
  RestoreGenerator(const RestoreGenerator&) = delete;
  RestoreGenerator& operator=(const RestoreGenerator&) = delete;

 private:
  Generator now_;
};

// An input of the inside: what has been contributed to it so far, and what the inside adds.
class StandIn final : public Node {
 public:
  std::string_view name() const override { return "rematerialized input"; }
  Grads run_backward(std::span<const Tensor> grads) override {
    sum_ = grads[0];
    return {};
  }
  Tensor take() { return done ? std::move(sum_) : std::move(pending[0]); }

 private:
  Tensor sum_;
};

class RematerializeNode final : public Node {
 public:
  RematerializeNode(Function function, Generator random)
      : function_(std::move(function)), random_(random), precision_(matmul_precision()) {}
  std::string_view name() const override { return "rematerialize"; }

  // Sums of floats depend on their order, and on whether an op adds to one in place (sum_so_far()).
  // So contributions from inside must join those from outside one by one, as they would without
  // rematerialisation: leaves take part themselves, the stand-in of another input starts from what
  // its producer has received so far, and cotangents are handed over, not shared.
  Grads run_backward(std::span<const Tensor>) override {
    for (size_t i = 0; i < inner_leaves.size(); ++i)
      context.saved(edges.size() + i);  // written since? then this throws
    std::vector<Variable> inputs(edges.size());
    std::vector<std::shared_ptr<StandIn>> stand_ins(edges.size());
    for (size_t i = 0; i < edges.size(); ++i) {
      const Tensor& value = context.saved(i);
      if (!value.defined()) continue;
      Edge& e = edges[i];
      const auto same = std::find_if(
          edges.begin(), edges.begin() + std::ptrdiff_t(i),
          [&](const Edge& o) { return e.node && o.node == e.node && o.output == e.output; });
      if (e.leaf) {
        inputs[i] = Variable(e.leaf);
      } else if (!e.node) {
        inputs[i] = Variable(value);
      } else if (size_t(same - edges.begin()) < i) {
        inputs[i] = inputs[size_t(same - edges.begin())];
      } else {
        stand_ins[i] = std::make_shared<StandIn>();
        inputs[i] = Tape(stand_ins[i]->name()).output(value, stand_ins[i], 0);
        stand_ins[i]->pending[0] = std::move(e.node->pending[size_t(e.output)]);
      }
    }
    {
      const RestoreGenerator replay(random_);
      const WithGrad recording;
      const MatmulPrecisionScope same_products(precision_);
      const Variables outputs = function_(inputs);
      backward_taking(outputs, std::move(pending));
    }
    Grads result(edges.size());
    for (size_t i = 0; i < edges.size(); ++i)
      if (stand_ins[i]) result[i] = stand_ins[i]->take();
    return result;
  }

 private:
  Function function_;
  Generator random_;
  MatmulPrecision precision_;
};

}  // namespace

Variables rematerialize_all(const Function& function, const Variables& inputs) {
  if (!grad_enabled()) return function(inputs);
  const Generator before = default_generator();
  std::vector<Tensor> values;
  std::vector<bool> constant;
  std::vector<std::shared_ptr<detail::VariableImpl>> leaves;
  {
    const NoGrad guard;
    LeafCollector collector;
    Variables detached;
    for (const Variable& v : inputs) {
      detached.push_back(v ? v.detach() : Variable());
      if (v) detached.back().impl()->depends = v.requires_grad();
    }
    for (const Variable& output : function(detached)) {
      // A view of a few rows would keep all of those that it is of.
      const Tensor& t = output.tensor();
      const bool part = !output.requires_grad() && t.bytes() < t.storage()->bytes();
      values.push_back(part ? t.clone() : t);
      constant.push_back(!output.requires_grad() && !output.impl()->depends);
      if (!output.requires_grad()) continue;
      if (output.is_leaf())
        leaves.push_back(output.impl());
      else
        collector.recorded = output.impl()->producer;
    }
    if (collector.recorded)
      throw UserError(
          fmt::format("rematerialize: the function reads a recorded result (of {}) that is not "
                      "among its inputs; pass it as one",
                      collector.recorded->name()));
    leaves.insert(leaves.end(), collector.leaves.begin(), collector.leaves.end());
  }
  const bool wanted =
      !leaves.empty() || std::any_of(inputs.begin(), inputs.end(),
                                     [](const Variable& v) { return v.requires_grad(); });
  Variables outputs;
  if (!wanted) {
    for (const Tensor& value : values) outputs.emplace_back(value);
    return outputs;
  }
  auto node = std::make_shared<RematerializeNode>(function, before);
  Tape tape("rematerialize");
  for (const Variable& v : inputs) tape.input(v);
  tape.prepare(node->context, node);
  for (const Variable& v : inputs) node->context.save({v ? v.tensor() : Tensor()});
  // Each leaf once: the nested backward inside the node makes all its contributions before the node
  // is done.
  std::sort(leaves.begin(), leaves.end());
  leaves.erase(std::unique(leaves.begin(), leaves.end()), leaves.end());
  for (const auto& leaf : leaves) node->context.save({leaf->value});
  node->inner_leaves = std::move(leaves);
  for (size_t i = 0; i < values.size(); ++i) {
    const Variable made = tape.output(values[i], node, int(i));
    outputs.push_back(constant[i] ? Variable(values[i]) : made);
  }
  return outputs;
}

Variable rematerialize(const std::function<Variable(const Variables&)>& function,
                       const Variables& inputs) {
  return rematerialize_all([function](const Variables& in) { return Variables{function(in)}; },
                           inputs)[0];
}

}  // namespace reverie
