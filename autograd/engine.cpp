// Variables, the tape, and the walk back over it.

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "autograd/node.h"
#include "core/error.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace reverie {
namespace {

thread_local bool t_grad_enabled = true;
thread_local uint64_t t_sequence = 0;
thread_local int64_t t_live_nodes = 0;
thread_local int t_backward_depth = 0;
thread_local LeafCollector* t_collector = nullptr;

Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x;
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernel::strided_copy(x.device(), {x, false, y});
  return y;
}

// total += contribution, in place only where nobody else can see it.
void add_into(Tensor& total, const Tensor& contribution) {
  if (!total.defined()) {
    total = contiguous(contribution);
    return;
  }
  if (!total.unique()) total = [&] {
    Tensor copy = Tensor::empty(total.shape(), total.dtype(), total.device());
    kernel::strided_copy(total.device(), {total, false, copy});
    return copy;
  }();
  const Tensor x = contiguous(contribution);
  kernel::accumulate(total.device(), {x, 1.0, total});
}

}  // namespace

// ---- Variable ----------------------------------------------------------------
Variable::Variable(Tensor value, bool requires_grad) : impl_(std::make_shared<detail::VariableImpl>()) {
  require(value.defined(), "a Variable needs a tensor");
  require(!requires_grad || is_floating(value.dtype()), "only floating tensors have gradients, got {}", value.str());
  impl_->value = contiguous(value);
  impl_->requires_grad = requires_grad;
}
const Tensor& Variable::tensor() const {
  if (!impl_) throw InternalError("an undefined Variable was read");
  return impl_->value;
}
bool Variable::requires_grad() const { return impl_ && impl_->requires_grad; }
bool Variable::is_leaf() const { return impl_ && !impl_->producer; }
void Variable::set_requires_grad(bool on) {
  require(is_leaf(), "only a leaf's requires_grad can be set");
  impl_->requires_grad = on;
}
Variable Variable::detach() const { return Variable(tensor()); }
const Tensor& Variable::grad() const {
  tensor();
  return impl_->grad;
}
void Variable::clear_grad() { impl_->grad = Tensor(); }
void Variable::set_grad_buffer(Tensor buffer) {
  require(buffer.shape() == shape() && buffer.dtype() == dtype(), "a gradient buffer {} for a parameter {}",
          buffer.str(), tensor().str());
  impl_->grad = Tensor();
  impl_->grad_buffer = std::move(buffer);
}
void Variable::set_tensor(Tensor value) {
  require(is_leaf() && value.shape() == shape() && value.dtype() == dtype() && value.is_contiguous(),
          "a leaf {} cannot hold {}", tensor().str(), value.str());
  impl_->value = std::move(value);
}
void Variable::on_grad_ready(std::function<void(const Tensor&)> hook) {
  require(is_leaf(), "only leaves have gradient-ready hooks");
  impl_->grad_ready = std::move(hook);
}

void detail::VariableImpl::add_grad(const Tensor& contribution) {
  if (!grad_buffer.defined()) {
    add_into(grad, contribution);
    return;
  }
  kernel::strided_copy(value.device(), {contribution, grad.defined(), grad_buffer});
  grad = grad_buffer;
}

NoGrad::NoGrad() : before_(t_grad_enabled) { t_grad_enabled = false; }
NoGrad::~NoGrad() { t_grad_enabled = before_; }
bool grad_enabled() { return t_grad_enabled; }

LeafCollector::LeafCollector() : outer_(t_collector) { t_collector = this; }
LeafCollector::~LeafCollector() { t_collector = outer_; }
int64_t live_nodes() { return t_live_nodes; }

// ---- Context and tape ---------------------------------------------------------
void Context::save(std::initializer_list<Tensor> tensors) {
  if (!recording_) return;
  for (const Tensor& t : tensors) saved_.push_back({t, t.version()});
}
const Tensor& Context::saved(size_t i) const {
  if (i >= saved_.size()) throw InternalError(fmt::format("{}: saved tensor {} of {}", op_, i, saved_.size()));
  const Saved& s = saved_[i];
  if (s.tensor.version() != s.version)
    throw UserError(fmt::format("{}: {} was saved for the backward pass at version {} and has been written since (version {}); "
                                "run backward() before changing it",
                                op_, s.tensor.str(), s.version, s.tensor.version()));
  return s.tensor;
}
Tensor* Context::leaf_grad(size_t input, bool& accumulate) {
  if (!node_ || input >= node_->edges.size()) return nullptr;
  auto& leaf = node_->edges[input].leaf;
  if (!leaf || !leaf->grad_buffer.defined()) return nullptr;
  accumulate = leaf->grad.defined();
  leaf->grad = leaf->grad_buffer;
  return &leaf->grad_buffer;
}

Node::Node() : sequence(++t_sequence) { ++t_live_nodes; }
Node::~Node() {
  --t_live_nodes;
  // A chain of producers would recurse once per node: hand them to the outermost destructor instead.
  thread_local std::vector<std::shared_ptr<Node>>* trash = nullptr;
  if (trash) {
    for (Edge& e : edges)
      if (e.node) trash->push_back(std::move(e.node));
    return;
  }
  std::vector<std::shared_ptr<Node>> mine;
  trash = &mine;
  for (Edge& e : edges)
    if (e.node) mine.push_back(std::move(e.node));
  while (!mine.empty()) {
    std::shared_ptr<Node> next = std::move(mine.back());
    mine.pop_back();
    next.reset();
  }
  trash = nullptr;
}

Tensor Tape::input(const Variable& v) {
  inputs_.push_back(v);
  if (t_collector && v.requires_grad() && v.is_leaf()) t_collector->leaves.push_back(v.impl());
  return v.defined() ? v.tensor() : Tensor();
}
std::vector<Tensor> Tape::input(const std::vector<Variable>& list) {
  std::vector<Tensor> tensors;
  for (const Variable& v : list) tensors.push_back(input(v));
  return tensors;
}
bool Tape::wanted() const {
  return t_grad_enabled &&
         std::any_of(inputs_.begin(), inputs_.end(), [](const Variable& v) { return v.requires_grad(); });
}
void Tape::prepare(Context& context) const { context.op_ = op_; }
void Tape::prepare(Context& context, const std::shared_ptr<Node>& node) {
  context.op_ = op_;
  context.recording_ = true;
  context.node_ = node.get();
  for (const Variable& v : inputs_) {
    const bool needs = v.requires_grad();
    context.needs_.push_back(needs);
    Edge edge;
    if (needs) {
      if (v.is_leaf())
        edge.leaf = v.impl();
      else
        edge = {v.impl()->producer, v.impl()->output, nullptr};
    }
    node->edges.push_back(std::move(edge));
  }
}
Variable Tape::output(Tensor value, const std::shared_ptr<Node>& node, int index) {
  auto impl = std::make_shared<detail::VariableImpl>();
  impl->value = contiguous(value);
  impl->requires_grad = node != nullptr;
  impl->producer = node;
  impl->output = index;
  return Variable(std::move(impl));
}

// ---- backward -----------------------------------------------------------------
void backward(const Variable& loss) {
  require(loss.defined() && loss.tensor().numel() == 1, "backward wants a loss with one element, got {}",
          loss.defined() ? loss.tensor().str() : "an undefined Variable");
  const Tensor one = Tensor::full(loss.shape(), 1.0, loss.dtype(), loss.device());
  backward({&loss, 1}, {&one, 1});
}

void backward(std::span<const Variable> outputs, std::span<const Tensor> cotangents) {
  require(outputs.size() == cotangents.size(), "backward: {} outputs, {} cotangents", outputs.size(), cotangents.size());
  std::vector<std::shared_ptr<Node>> order;
  std::vector<std::shared_ptr<detail::VariableImpl>> direct;  // outputs that are leaves themselves
  std::unordered_set<Node*> seen;
  auto discover = [&](const std::shared_ptr<Node>& n) {
    if (n->done)
      throw InternalError(fmt::format("{}: backward ran over this graph before, and freed it", n->name()));
    if (seen.insert(n.get()).second) order.push_back(n);
  };
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!cotangents[i].defined() || !outputs[i].requires_grad()) continue;
    require(cotangents[i].shape() == outputs[i].shape(), "backward: cotangent {} for an output {}", cotangents[i].str(),
            outputs[i].tensor().str());
    if (outputs[i].is_leaf()) {
      outputs[i].impl()->add_grad(cotangents[i]);
      direct.push_back(outputs[i].impl());
    } else {
      discover(outputs[i].impl()->producer);
      add_into(outputs[i].impl()->producer->pending[size_t(outputs[i].impl()->output)], cotangents[i]);
    }
  }
  // How many contributions each leaf still waits for, so that its hook fires as early as possible.
  std::unordered_map<detail::VariableImpl*, int> waiting;
  for (size_t i = 0; i < order.size(); ++i) {
    for (const Edge& e : order[i]->edges) {
      if (e.node) discover(e.node);
      if (e.leaf) ++waiting[e.leaf.get()];
    }
    for (const auto& leaf : order[i]->inner_leaves) ++waiting[leaf.get()];
  }
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a->sequence > b->sequence; });

  ++t_backward_depth;
  struct Depth { ~Depth() { --t_backward_depth; } } depth;
  auto contributed = [&](detail::VariableImpl& leaf) {
    if (--waiting[&leaf] == 0 && t_backward_depth == 1 && leaf.grad_ready && leaf.grad.defined())
      leaf.grad_ready(leaf.grad);
  };
  for (auto& node : order) {
    Grads grads;
    const bool reached = std::any_of(node->pending.begin(), node->pending.end(), [](const Tensor& g) { return g.defined(); });
    if (reached) {
      grads = node->run_backward(node->pending);
      if (grads.size() != node->edges.size())
        throw InternalError(fmt::format("{}: backward returned {} gradients for {} inputs", node->name(), grads.size(),
                                        node->edges.size()));
    }
    node->pending.clear();
    node->context.release();
    node->done = true;
    for (size_t i = 0; i < node->edges.size(); ++i) {
      Edge& e = node->edges[i];
      if (i < grads.size() && grads[i].defined()) {
        if (e.leaf && !(grads[i].shape() == e.leaf->value.shape()))
          throw InternalError(fmt::format("{}: gradient {} for an input {}", node->name(), grads[i].str(), e.leaf->value.str()));
        if (e.node) add_into(e.node->pending[size_t(e.output)], grads[i]);
        if (e.leaf) e.leaf->add_grad(grads[i]);
        grads[i] = Tensor();
      }
      if (e.leaf) contributed(*e.leaf);
    }
    for (const auto& leaf : node->inner_leaves) contributed(*leaf);
    node->edges.clear();
    node.reset();
  }
  if (t_backward_depth == 1)
    for (const auto& leaf : direct)
      if (leaf->grad_ready && !waiting.contains(leaf.get())) leaf->grad_ready(leaf->grad);
}

}  // namespace reverie
