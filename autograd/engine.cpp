// Variables, the tape, and the walk back over it.

#include <algorithm>
#include <atomic>
#include <unordered_map>
#include <unordered_set>

#include "autograd/node.h"
#include "autograd/unsaved_graph.h"
#include "core/compact_weights.h"
#include "core/error.h"
#include "core/profile.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace reverie {
namespace {

thread_local bool t_grad_enabled = true;
thread_local int t_no_grads = 0;  // that are alive
thread_local bool t_saves = true;
// Shared by all threads, so that the order holds in a graph that several threads made one after
// another.
std::atomic<uint64_t> last_sequence{0};
std::atomic<int64_t> live{0};
thread_local int t_backward_depth = 0;
thread_local LeafCollector* t_collector = nullptr;

Tensor copy_of(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernel::strided_copy(x.device(), {x, false, y});
  return y;
}
Tensor contiguous(const Tensor& x) {
  return x.is_contiguous() ? x : copy_of(x);
}

// total += contribution, in place only where nobody else can see it.
void add_into(Tensor& total, const Tensor& contribution) {
  if (!total.defined()) {
    total = contiguous(contribution);
    return;
  }
  if (!total.unique()) total = copy_of(total);
  kernel::accumulate(total.device(), {contiguous(contribution), 1.0, total});
}

}  // namespace

// ---- Variable ----------------------------------------------------------------
Variable::Variable(Tensor value, bool requires_grad)
    : impl_(std::make_shared<detail::VariableImpl>()) {
  require(value.defined(), "a Variable needs a tensor");
  require(!requires_grad || is_floating(value.dtype()),
          "only floating tensors have gradients, got {}", value);
  impl_->value = contiguous(value);
  impl_->requires_grad = requires_grad;
}
const Tensor& Variable::tensor() const {
  if (!impl_) throw InternalError("an undefined Variable was read");
  return impl_->value;
}
bool Variable::requires_grad() const {
  return impl_ && impl_->requires_grad;
}
bool Variable::is_leaf() const {
  return impl_ && !impl_->producer;
}
void Variable::set_requires_grad(bool on) {
  require(is_leaf(), "only a leaf's requires_grad can be set");
  require(!on || is_floating(dtype()), "only floating tensors have gradients, got {}", tensor());
  impl_->requires_grad = on;
}
Variable Variable::detach() const {
  return Variable(tensor());
}
const Tensor& Variable::grad() const {
  tensor();
  return impl_->grad;
}
void Variable::clear_grad() {
  tensor();
  impl_->grad = Tensor();
}
void Variable::set_grad_buffer(Tensor buffer) {
  require(
      is_leaf() && buffer.defined() && buffer.shape() == shape() && buffer.dtype() == dtype() &&
          buffer.device() == device() && buffer.is_contiguous(),
      "a gradient buffer {} for a {} {}; wanted the same shape and dtype, contiguous, for a leaf",
      buffer, is_leaf() ? "parameter" : "result", tensor());
  impl_->grad = Tensor();
  impl_->grad_buffer = std::move(buffer);
}
void Variable::set_tensor(Tensor value) {
  require(is_leaf() && value.shape() == shape() && value.dtype() == dtype() &&
              (value.is_contiguous() || is_compact(value)),
          "a leaf {} cannot hold {}", tensor(), value);
  impl_->value = std::move(value);
}
ReadBy Variable::read_by() const {
  tensor();
  return impl_->read_by;
}
void Variable::set_read_by(ReadBy read_by) {
  require(is_leaf(), "only of a leaf can be said what reads it");
  impl_->read_by = read_by;
}
void Variable::on_grad_ready(std::function<void(const Tensor&)> hook) {
  require(is_leaf(), "only leaves have gradient-ready hooks");
  impl_->grad_ready = std::move(hook);
}

void detail::VariableImpl::add_grad(Tensor contribution) {
  if (grad_buffer.defined()) {
    kernel::strided_copy(value.device(), {contribution, grad.defined(), grad_buffer});
    grad = grad_buffer;
  } else if (grad.defined()) {
    add_into(grad, contribution);
  } else {
    const bool own = contribution.unique() && contribution.is_contiguous() &&
                     contribution.bytes() == contribution.storage()->bytes();
    grad = own ? std::move(contribution) : copy_of(contribution);
  }
}

NoGrad::NoGrad() : before_(t_grad_enabled) {
  t_grad_enabled = false;
  ++t_no_grads;
}
NoGrad::~NoGrad() {
  --t_no_grads;
  t_grad_enabled = before_;
}
WithGrad::WithGrad() : before_(t_grad_enabled) {
  t_grad_enabled = true;
}
WithGrad::~WithGrad() {
  t_grad_enabled = before_;
}
bool grad_enabled() {
  return t_grad_enabled;
}
UnsavedGraph::UnsavedGraph() : before_(t_saves) {
  t_saves = false;
}
UnsavedGraph::~UnsavedGraph() {
  t_saves = before_;
}

LeafCollector::LeafCollector() : outer_(t_collector), no_grads_(t_no_grads) {
  t_collector = this;
}
LeafCollector::~LeafCollector() {
  t_collector = outer_;
}
int64_t live_nodes() {
  return live.load(std::memory_order_relaxed);
}

// ---- Context and tape ---------------------------------------------------------
void Context::save(std::initializer_list<Tensor> tensors) {
  if (!recording_ || !t_saves) return;
  for (const Tensor& t : tensors) saved_.push_back({t, t.version()});
}
const Tensor& Context::saved(size_t i) const {
  if (i >= saved_.size())
    throw InternalError(fmt::format("{}: saved tensor {} of {}{}", op_, i, saved_.size(),
                                    saved_.empty() ? ": was it recorded in an UnsavedGraph?" : ""));
  const Saved& s = saved_[i];
  if (s.tensor.version() != s.version)
    throw UserError(
        fmt::format("{}: {} was saved for the backward pass at version {} and has been written "
                    "since (version {}); "
                    "run backward() before changing it",
                    op_, s.tensor, s.version, s.tensor.version()));
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

Tensor* Context::sum_so_far(size_t input) {
  if (!node_ || input >= node_->edges.size()) return nullptr;
  const Edge& edge = node_->edges[input];
  if (!edge.node) return nullptr;
  Tensor& sum = edge.node->pending[size_t(edge.output)];
  return sum.defined() && sum.unique() && sum.is_contiguous() ? &sum : nullptr;
}

Node::Node() : sequence(last_sequence.fetch_add(1, std::memory_order_relaxed) + 1) {
  live.fetch_add(1, std::memory_order_relaxed);
}
Node::~Node() {
  live.fetch_sub(1, std::memory_order_relaxed);
  // A chain of producers would recurse once per node: hand them to the outermost destructor
  // instead.
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
  // Inside a NoGrad of the collected function's own, nothing is recorded either way.
  if (v && t_collector && t_collector->no_grads_ == t_no_grads)
    depends_ = depends_ || v.requires_grad() || v.impl()->depends;
  if (v.requires_grad()) {
    for (LeafCollector* c = t_collector; c; c = c->outer_) {
      if (v.is_leaf())
        c->leaves.push_back(v.impl());
      else
        c->recorded = v.impl()->producer;
    }
  }
  return v.defined() ? v.tensor() : Tensor();
}
std::vector<Tensor> Tape::input(const std::vector<Variable>& list) {
  std::vector<Tensor> tensors;
  for (const Variable& v : list) tensors.push_back(input(v));
  return tensors;
}
bool Tape::wanted() const {
  return t_grad_enabled && std::any_of(inputs_.begin(), inputs_.end(),
                                       [](const Variable& v) { return v.requires_grad(); });
}
void Tape::prepare(Context& context) const {
  context.op_ = op_;
}
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
Variable Tape::output(Tensor value, const std::shared_ptr<Node>& node, int index) const {
  auto impl = std::make_shared<detail::VariableImpl>();
  impl->value = contiguous(value);
  impl->requires_grad = node != nullptr;
  impl->depends = depends_;
  impl->producer = node;
  impl->output = index;
  if (node) {
    // Values in bf16 are operands of products (autograd/precision.h): their cotangents are f32.
    const DType dtype = impl->value.dtype() == DType::bf16 ? DType::f32 : impl->value.dtype();
    node->outputs.push_back({impl->value.shape(), dtype});
    node->pending.resize(node->outputs.size());
  }
  return Variable(std::move(impl));
}

// ---- backward -----------------------------------------------------------------
namespace {

// The nodes that some outputs depend on, and how often their leaves will be contributed to.
class Walk {
 public:
  Walk() { ++t_backward_depth; }
  // Whatever a throw left behind is freed: a graph that was walked in part cannot be walked again.
  ~Walk() {
    --t_backward_depth;
    for (auto& node : order_) free(node);
  }
  Walk(const Walk&) = delete;
  Walk& operator=(const Walk&) = delete;

  // Everything below `outputs`, newest first. Throws, with nothing changed, where a backward has
  // been before.
  void discover(std::span<const Variable> outputs, std::span<const Tensor> cotangents) {
    std::vector<std::shared_ptr<Node>> found;
    std::unordered_set<Node*> seen;
    auto visit = [&](const std::shared_ptr<Node>& node) {
      if (node->done)
        throw InternalError(
            fmt::format("{}: backward ran over this graph before, and freed it", node->name()));
      if (seen.insert(node.get()).second) found.push_back(node);
    };
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!cotangents[i].defined() || !outputs[i].requires_grad()) continue;
      if (outputs[i].is_leaf())
        ++waiting_[outputs[i].impl().get()];
      else
        visit(outputs[i].impl()->producer);
    }
    for (size_t i = 0; i < found.size(); ++i) {
      for (const Edge& e : found[i]->edges) {
        if (e.node) visit(e.node);
        if (e.leaf) ++waiting_[e.leaf.get()];
      }
      for (const auto& leaf : found[i]->inner_leaves) ++waiting_[leaf.get()];
    }
    std::sort(found.begin(), found.end(),
              [](const auto& a, const auto& b) { return a->sequence > b->sequence; });
    order_ = std::move(found);
  }

  void run(std::span<const Variable> outputs, Grads cotangents) {
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!cotangents[i].defined() || !outputs[i].requires_grad()) continue;
      const auto& impl = outputs[i].impl();
      if (!impl->producer) {
        impl->add_grad(std::move(cotangents[i]));
        contributed(*impl);
      } else {
        add_into(impl->producer->pending[size_t(impl->output)], cotangents[i]);
        cotangents[i] = Tensor();
      }
    }
    for (auto& node : order_) {
      run_node(*node);
      free(node);
    }
  }

 private:
  void run_node(Node& node) {
    Grads grads;
    if (std::any_of(node.pending.begin(), node.pending.end(),
                    [](const Tensor& g) { return g.defined(); })) {
      const profile::Scope scope(profile::Kind::backward, node.name());
      grads = node.run_backward(node.pending);
      if (grads.size() != node.edges.size())
        throw InternalError(fmt::format("{}: backward returned {} gradients for {} inputs",
                                        node.name(), grads.size(), node.edges.size()));
    }
    grads.resize(node.edges.size());
    // Before the gradients are passed on: what nobody else holds is then added to in place.
    node.pending.clear();
    node.context.release();
    for (size_t i = 0; i < node.edges.size(); ++i) {
      const Edge& e = node.edges[i];
      if (grads[i].defined() && e.node) {
        const Node::Output& wanted = e.node->outputs[size_t(e.output)];
        check(node, i, grads[i], wanted.shape, wanted.dtype);
        add_into(e.node->pending[size_t(e.output)], grads[i]);
      } else if (grads[i].defined() && e.leaf) {
        check(node, i, grads[i], e.leaf->value.shape(), e.leaf->value.dtype());
        e.leaf->add_grad(std::move(grads[i]));
      }
      grads[i] = Tensor();
      if (e.leaf) contributed(*e.leaf);
    }
    for (const auto& leaf : node.inner_leaves) contributed(*leaf);
  }

  static void check(const Node& node, size_t input, const Tensor& grad, const Shape& shape,
                    DType dtype) {
    if (!(grad.shape() == shape) || grad.dtype() != dtype)
      throw InternalError(fmt::format("{}: backward made a gradient {} for input {}, which is {}{}",
                                      node.name(), grad, input, name_of(dtype), shape));
  }

  // Hooks fire with a leaf's last contribution; those inside a nested backward count as one, made
  // when its node is done.
  void contributed(detail::VariableImpl& leaf) {
    if (--waiting_[&leaf] == 0 && t_backward_depth == 1 && leaf.grad_ready && leaf.grad.defined())
      leaf.grad_ready(leaf.grad);
  }

  static void free(std::shared_ptr<Node>& node) {
    if (!node) return;
    node->done = true;
    node->pending.clear();
    node->context.release();
    node->edges.clear();
    node->inner_leaves.clear();
    node.reset();
  }

  std::vector<std::shared_ptr<Node>> order_;
  std::unordered_map<detail::VariableImpl*, int> waiting_;
};

}  // namespace

void backward(const Variable& loss) {
  require(loss.defined() && loss.tensor().numel() == 1,
          "backward wants a loss with one element, got {}",
          loss.defined() ? loss.tensor().str() : "an undefined Variable");
  require(loss.requires_grad(),
          "backward: the loss depends on nothing that requires a gradient (is every parameter "
          "frozen, or was it computed under NoGrad?)");
  const Tensor one = Tensor::full(loss.shape(), 1.0, loss.dtype(), loss.device());
  backward({&loss, 1}, {&one, 1});
}

void backward(std::span<const Variable> outputs, std::span<const Tensor> cotangents) {
  backward_taking(outputs, Grads(cotangents.begin(), cotangents.end()));
}

void backward_taking(std::span<const Variable> outputs, Grads cotangents) {
  require(outputs.size() == cotangents.size(), "backward: {} outputs, {} cotangents",
          outputs.size(), cotangents.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!cotangents[i].defined()) continue;
    require(
        cotangents[i].shape() == outputs[i].shape() && cotangents[i].dtype() == outputs[i].dtype(),
        "backward: cotangent {} for an output {}", cotangents[i], outputs[i].tensor());
  }
  const NoGrad guard;  // backward passes are not differentiated themselves
  Walk walk;
  walk.discover(outputs, cotangents);
  walk.run(outputs, std::move(cotangents));
}

}  // namespace reverie
