#include "trainers/distributed/gradient_reducer.h"

#include <algorithm>

#include "autograd/node.h"
#include "core/error.h"
#include "core/profile.h"
#include "kernels/elementwise.h"

namespace reverie {
namespace {

void add_to(Tensor sum, const Tensor& term) {
  kernel::accumulate(sum.device(), {term, 1.0, sum});
}

Tensor slice_of(const Tensor& flat, int64_t begin, int64_t end) {
  return Tensor::over(flat.storage(), {end - begin}, flat.dtype(), flat.offset() + begin);
}

}  // namespace

GradientReducer::GradientReducer(std::vector<FlatGradients> gradients, Communicator& communicator,
                                 SumTree tree, bool part_is_term, int64_t bucket_bytes)
    : gradients_(std::move(gradients)),
      communicator_(communicator),
      tree_(std::move(tree)),
      part_is_term_(part_is_term) {
  size_t parameters = 0;
  for (const FlatGradients& flat : gradients_) parameters += flat.parts.size();
  reached_.resize(parameters);
  make_buckets(bucket_bytes);
  if (communicator_.size() == 1) return;
  for (size_t i = 0; i < buckets_.size(); ++i)
    for (size_t p : buckets_[i].parts)
      gradients_[buckets_[i].flat].parts[p].variable.on_grad_ready(
          [this, i](const Tensor&) { ready(i); });
}

GradientReducer::~GradientReducer() {
  for (FlatGradients& flat : gradients_)
    for (auto& part : flat.parts) part.variable.on_grad_ready({});
}

void GradientReducer::make_buckets(int64_t bucket_bytes) {
  for (size_t f = 0; f < gradients_.size(); ++f) {
    const FlatGradients& flat = gradients_[f];
    const auto width = int64_t(size_of(flat.gradients.dtype()));
    int64_t end = flat.gradients.numel();
    Bucket next;
    for (size_t p = flat.parts.size(); p-- > 0;) {
      next.parts.push_back(p);
      if ((end - flat.parts[p].offset) * width < bucket_bytes && p > 0) continue;
      next.flat = f;
      next.begin = flat.parts[p].offset;
      next.end = end;
      next.first_order = flat.parts[p].order;
      end = next.begin;
      buckets_.push_back(std::move(next));
      next = {};
    }
  }
  std::stable_sort(buckets_.begin(), buckets_.end(),
                   [](const Bucket& a, const Bucket& b) { return a.first_order > b.first_order; });
}

void GradientReducer::begin_part(bool last) {
  if (idle()) return;
  last_ = last;
  if (!last) return;
  launched_ = 0;
  for (Bucket& b : buckets_) b.missing = b.parts.size();
}

// All ranks must send the same bucket at the same time, so that one waits for those before it.
void GradientReducer::ready(size_t bucket) {
  if (!last_) return;
  --buckets_[bucket].missing;
  while (launched_ < buckets_.size() && buckets_[launched_].missing == 0)
    launch(buckets_[launched_++]);
}

void GradientReducer::end_part() {
  if (idle()) return;
  if (!last_) {
    note_reached();
    if (part_is_term_) keep_apart();
    return;
  }
  last_ = false;
  overlapped_ = int64_t(launched_);
  while (launched_ < buckets_.size()) launch(buckets_[launched_++]);
  note_reached();
}

void GradientReducer::note_reached() {
  for (const FlatGradients& flat : gradients_)
    for (const auto& part : flat.parts)
      if (part.variable.grad().defined()) reached_[size_t(part.order)] = true;
}

void GradientReducer::zero_unreached(const FlatGradients& flat, const std::vector<size_t>& parts) {
  for (size_t p : parts) {
    const auto& part = flat.parts[p];
    if (!part.variable.grad().defined())
      slice_of(flat.gradients, part.offset, part.offset + part.variable.tensor().numel()).fill(0);
  }
}

void GradientReducer::keep_apart() {
  std::vector<Tensor> copy;
  for (FlatGradients& flat : gradients_) {
    std::vector<size_t> all(flat.parts.size());
    for (size_t p = 0; p < all.size(); ++p) all[p] = p;
    zero_unreached(flat, all);
    copy.push_back(flat.gradients.clone());
    for (auto& part : flat.parts) part.variable.clear_grad();
  }
  sums_.push_back(std::move(copy));
  append_node(tree_, nodes_, tree_.node_of(tree_.begin(communicator_.rank()) + term_++),
              [&](size_t at) {
                for (size_t f = 0; f < gradients_.size(); ++f)
                  add_to(sums_[at][f], sums_[at + 1][f]);
                sums_.pop_back();
              });
}

void GradientReducer::launch(const Bucket& b) {
  const profile::Scope profiled(profile::Kind::step, "send gradients");
  const FlatGradients& flat = gradients_[b.flat];
  zero_unreached(flat, b.parts);
  const Tensor gradient = slice_of(flat.gradients, b.begin, b.end);
  std::vector<Tensor> partials;
  if (part_is_term_) {
    std::vector<SumNode> nodes = nodes_;
    for (const auto& sum : sums_) partials.push_back(slice_of(sum[b.flat], b.begin, b.end));
    partials.push_back(gradient);
    append_node(tree_, nodes, tree_.node_of(tree_.begin(communicator_.rank()) + term_),
                [&](size_t at) {
                  add_to(partials[at], partials[at + 1]);
                  partials.pop_back();
                });
  } else {
    partials.push_back(gradient);
  }
  pending_.push_back(communicator_.sum_terms(tree_, partials, gradient));
}

void GradientReducer::wait() {
  const profile::Scope profiled(profile::Kind::step, "wait for gradients");
  for (const Pending& p : pending_) p.wait();
  pending_.clear();
  nodes_.clear();
  sums_.clear();
  term_ = 0;
}

std::vector<bool> GradientReducer::reached() const {
  return reached_;
}

void GradientReducer::set_reached(const std::vector<bool>& reached) {
  if (idle()) return;
  for (FlatGradients& flat : gradients_)
    for (auto& part : flat.parts) {
      auto& impl = *part.variable.impl();
      impl.grad = reached[size_t(part.order)] ? impl.grad_buffer : Tensor();
    }
  reached_.assign(reached_.size(), false);
}

}  // namespace reverie
