#include "autograd/rematerialize.h"

#include <algorithm>

#include "autograd/node.h"
#include "core/random.h"

namespace reverie {
namespace {

using Function = std::function<Variable(const std::vector<Variable>&)>;

class RematerializeNode final : public Node {
 public:
  RematerializeNode(Function function, Generator random) : function_(std::move(function)), random_(random) {}
  std::string_view name() const override { return "rematerialize"; }
  Grads run_backward(std::span<const Tensor> grads) override {
    std::vector<Variable> inputs;
    for (size_t i = 0; i < edges.size(); ++i) inputs.emplace_back(context.saved(i), context.needs(i));
    const Generator now = default_generator();
    default_generator() = random_;
    const Variable output = function_(inputs);
    default_generator() = now;
    backward({&output, 1}, grads);
    Grads result;
    for (const Variable& v : inputs) result.push_back(v.grad());
    return result;
  }

 private:
  Function function_;
  Generator random_;
};

}  // namespace

Variable rematerialize(const Function& function, const std::vector<Variable>& inputs) {
  if (!grad_enabled()) return function(inputs);
  const Generator before = default_generator();
  LeafCollector collector;
  Tensor value;
  {
    NoGrad guard;
    std::vector<Variable> detached;
    for (const Variable& v : inputs) detached.push_back(v.detach());
    value = function(detached).tensor();
  }
  const bool wanted = !collector.leaves.empty() ||
                      std::any_of(inputs.begin(), inputs.end(), [](const Variable& v) { return v.requires_grad(); });
  if (!wanted) return Variable(value);
  auto node = std::make_shared<RematerializeNode>(function, before);
  Tape tape("rematerialize");
  for (const Variable& v : inputs) tape.input(v);
  tape.prepare(node->context, node);
  for (const Variable& v : inputs) node->context.save({v.tensor()});
  // Each leaf once: the nested backward inside the node makes all its contributions before the node is done.
  std::sort(collector.leaves.begin(), collector.leaves.end());
  collector.leaves.erase(std::unique(collector.leaves.begin(), collector.leaves.end()), collector.leaves.end());
  node->inner_leaves = std::move(collector.leaves);
  node->pending.resize(1);
  return Tape::output(value, node, 0);
}

}  // namespace reverie
