// What each kernel has to do at least: the bytes of its arguments, each touched once, and the
// floating-point operations of those that are bound by them.

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"

namespace reverie {

using profile::Work;

namespace {

template <class... T>
Work touched(const T&... tensors) {
  return {0, ((tensors.defined() ? double(tensors.bytes()) : 0.0) + ...)};
}
template <class... T>
Work computed(double flops, const T&... tensors) {
  return {flops, touched(tensors...).bytes};
}

// Pairs of a query and a key that it sees, over one head.
double visible_pairs(int64_t queries, const AttentionOptions& o) {
  double pairs = 0;
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t seen = o.first_position + i + 1;
    pairs += double(o.window > 0 ? std::min(seen, o.window) : seen);
  }
  return pairs;
}
double visible_pairs(const Tensor& query, const AttentionOptions& o) {
  return double(query.size(0) * query.size(2)) * visible_pairs(query.size(1), o);
}
// Of groups: each query sees its context and, causally, its group. Windows are not counted.
double visible_pairs(const Tensor& query, const Tensor& key, const Tensor& limits) {
  const int64_t groups = limits.size(1);
  if (groups == 0) return 0;
  const double queries = double(query.size(1) / groups), size = double(key.size(1) / groups);
  double context = 0;
  for (double limit : limits.to_vector()) context += limit;
  return double(query.size(2)) * (context * queries + double(query.size(0) * groups) * queries *
                                                          (2 * size - queries + 1) / 2);
}
// Of a pair: two products of head_dim forward, five backward (the scores once more, and the
// gradients of weights, queries, keys and values).
constexpr double kForwardProducts = 2, kBackwardProducts = 5;

}  // namespace

Work work(const UnaryForward& a) {
  return touched(a.x, a.y);
}
Work work(const UnaryBackward& a) {
  return touched(a.x, a.grad_y, a.grad_x);
}
Work work(const BinaryForward& a) {
  return touched(a.a, a.b, a.y);
}
Work work(const Affine& a) {
  return touched(a.x, a.y);
}
Work work(const Accumulate& a) {
  return touched(a.x, a.y);
}
Work work(const BiasActivationForward& a) {
  return a.slope ? touched(a.x, a.bias, a.y, *a.slope) : touched(a.x, a.bias, a.y);
}
Work work(const BiasActivationBackward& a) {
  return touched(a.slope, a.grad_y, a.grad_x);
}
Work work(const GatedForward& a) {
  return touched(a.gate, a.up, a.y);
}
Work work(const GatedBackward& a) {
  return touched(a.gate, a.up, a.grad_y, a.grad_gate, a.grad_up);
}
Work work(const Dropout& a) {
  return touched(a.x, a.y);
}
Work work(const StridedCopy& a) {
  return touched(a.x, a.y);
}
Work work(const Cast& a) {
  return touched(a.x, a.y);
}
Work work(const SumForward& a) {
  return touched(a.x, a.y);
}
Work work(const Repeat& a) {
  return touched(a.grad_y, a.grad_x);
}
Work work(const CumulativeSum& a) {
  return touched(a.x, a.initial, a.y);
}
Work work(const SumSquares& a) {
  return touched(a.x, a.result);
}
Work work(const SoftmaxForward& a) {
  return touched(a.x, a.valid, a.y);
}
Work work(const SoftmaxBackward& a) {
  return touched(a.y, a.grad_y, a.grad_x);
}
Work work(const CrossEntropyForward& a) {
  return touched(a.logits, a.targets, a.loss, a.log_sum_exp);
}
Work work(const CrossEntropyBackward& a) {
  return touched(a.logits, a.targets, a.log_sum_exp, a.grad_loss, a.grad_logits);
}
Work work(const NormForward& a) {
  return touched(a.x, a.residual, a.weight, a.bias, a.sum, a.y, a.mean, a.rstd);
}
Work work(const NormBackward& a) {
  return touched(a.x, a.weight, a.mean, a.rstd, a.grad_y, a.grad_sum, a.grad_x, a.grad_weight,
                 a.grad_bias);
}
Work work(const Rope& a) {
  return touched(a.x, a.positions, a.frequencies, a.y);
}
Work work(const EmbeddingForward& a) {
  return touched(a.indices, a.table, a.positions, a.y);
}
Work work(const EmbeddingBackward& a) {
  return touched(a.indices, a.grad_y, a.grad_table, a.grad_positions);
}
Work work(const AdamW& a) {
  return touched(a.parameter, a.grad, a.m, a.v);
}

Work work(const Matmul& a) {
  return computed(2.0 * double(a.c.numel()) * double(a.a.size(-1)), a.a, a.b, a.c);
}
Work work(const MatmulPair& a) {
  const Work first = work(a.first), second = work(a.second);
  return {first.flops + second.flops, first.bytes + second.bytes};
}
Work work(const LinearForward& a) {
  const Work product = work(Matmul{a.x, a.weight, 1.0, false, a.y});
  return {product.flops, product.bytes + touched(a.bias).bytes};
}
Work work(const LinearBackward& a) {
  const Work weight = work(a.weight), input = a.input != nullptr ? work(*a.input) : Work{};
  return {weight.flops + input.flops,
          weight.bytes + input.bytes + touched(a.grad_y, a.grad_bias).bytes};
}
Work work(const AttentionForward& a) {
  return computed(
      2 * kForwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.options), a.query,
      a.key, a.value, a.output, a.log_sum_exp);
}
Work work(const AttentionBackward& a) {
  return computed(
      2 * kBackwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.options), a.query,
      a.key, a.value, a.output, a.log_sum_exp, a.grad_output, a.grad_query, a.grad_key,
      a.grad_value);
}
Work work(const GroupedAttentionForward& a) {
  return computed(
      2 * kForwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.key, a.limits),
      a.query, a.key, a.value, a.context_key, a.context_value, a.output, a.log_sum_exp);
}
Work work(const GroupedAttentionBackward& a) {
  return computed(
      2 * kBackwardProducts * double(a.query.size(3)) * visible_pairs(a.query, a.key, a.limits),
      a.query, a.key, a.value, a.context_key, a.context_value, a.output, a.log_sum_exp,
      a.grad_output, a.grad_query, a.grad_key, a.grad_value, a.grad_context_key,
      a.grad_context_value);
}

}  // namespace reverie
