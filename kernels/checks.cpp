// What each row demands of its arguments; called by the row before any implementation.

#include <cmath>

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
namespace {

void defined(std::string_view op, std::string_view name, const Tensor& t) {
  require(t.defined(), "{}: {} is undefined", op, name);
}
void contiguous(std::string_view op, std::string_view name, const Tensor& t) {
  defined(op, name, t);
  require(t.is_contiguous(),
          "{}: {} {} with strides {} must be contiguous; call contiguous() first", op, name, t,
          t.strides());
}
void floating(std::string_view op, std::string_view name, const Tensor& t) {
  defined(op, name, t);
  require(t.dtype() == DType::f32 || t.dtype() == DType::f64, "{}: {} is {}; wanted f32 or f64", op,
          name, t);
}
void alike(std::string_view op, std::string_view name, const Tensor& t,
           std::string_view reference_name, const Tensor& reference) {
  defined(op, name, t);
  require(t.dtype() == reference.dtype(), "{}: {} is {} but {} is {}; wanted one dtype", op, name,
          t, reference_name, reference);
  require(t.device() == reference.device(), "{}: {} is {} but {} is {}; wanted one device", op,
          name, t, reference_name, reference);
}
// A contiguous tensor of `count` elements, of the dtype and device of `reference`.
void buffer(std::string_view op, std::string_view name, const Tensor& t, int64_t count,
            std::string_view reference_name, const Tensor& reference) {
  alike(op, name, t, reference_name, reference);
  contiguous(op, name, t);
  require(t.numel() == count, "{}: {} is {}; wanted {} elements to go with {} {}", op, name, t,
          count, reference_name, reference);
}
// The same, or in bf16 where the reference is f32: what a product will read.
void operand_buffer(std::string_view op, std::string_view name, const Tensor& t, int64_t count,
                    std::string_view reference_name, const Tensor& reference) {
  defined(op, name, t);
  if (t.dtype() != DType::bf16 || reference.dtype() != DType::f32)
    return buffer(op, name, t, count, reference_name, reference);
  buffer(op, name, t, count, name, t);
  require(t.device() == reference.device(), "{}: {} is {} but {} is {}; wanted one device", op,
          name, t, reference_name, reference);
}
void optional_buffer(std::string_view op, std::string_view name, const Tensor& t, int64_t count,
                     std::string_view reference_name, const Tensor& reference) {
  if (t.defined()) buffer(op, name, t, count, reference_name, reference);
}
void integers(std::string_view op, std::string_view name, const Tensor& t, int64_t count,
              const Tensor& reference) {
  contiguous(op, name, t);
  require(t.dtype() == DType::i32, "{}: {} is {}; wanted i32", op, name, t);
  require(t.device() == reference.device(), "{}: {} is {} but the data is {}; wanted one device",
          op, name, t, reference);
  require(t.numel() == count, "{}: {} is {}; wanted {} elements", op, name, t, count);
}
void rows_of(std::string_view op, std::string_view name, const Tensor& t) {
  floating(op, name, t);
  contiguous(op, name, t);
  require(t.rank() >= 1, "{}: {} is {}; wanted at least one dimension", op, name, t);
}
int64_t columns_of(const Tensor& t) {
  return t.size(-1);
}
int64_t count_rows(const Tensor& t) {
  return columns_of(t) == 0 ? 0 : t.numel() / columns_of(t);
}
void probability(std::string_view op, double p) {
  require(p >= 0 && p < 1, "{}: p is {}; wanted 0 <= p < 1", op, p);
}

// Every index within [low, high): read on the host, so only for tensors there.
void within(std::string_view op, std::string_view name, const Tensor& t, int64_t low,
            int64_t high) {
  if (t.device().kind != DeviceKind::cpu) return;
  const int32_t* indices = t.data<int32_t>();
  const int64_t count = t.numel();
  for (int64_t i = 0; i < count; ++i)
    require(indices[i] >= low && indices[i] < high, "{}: {}[{}] is {}; wanted {} <= index < {}", op,
            name, i, indices[i], low, high);
}

// [a, b, heads, d] with a contiguous last dimension.
void head_layout(std::string_view op, std::string_view name, const Tensor& t) {
  floating(op, name, t);
  require(t.rank() == 4, "{}: {} is {}; wanted [batch, time, heads, head_dim]", op, name, t);
  require(t.strides()[3] == 1 || t.size(3) == 1,
          "{}: the last dimension of {} {} must be contiguous, its stride is {}", op, name, t,
          t.strides()[3]);
}
void same_shape(std::string_view op, std::string_view name, const Tensor& t, const Shape& wanted) {
  require(t.shape() == wanted, "{}: {} is {}; wanted {}", op, name, t, wanted);
}
void attention_options(std::string_view op, const AttentionOptions& o) {
  probability(op, o.dropout_p);
  require(o.softcap >= 0 && std::isfinite(o.softcap),
          "{}: softcap is {}; wanted a positive number, or 0 for none", op, o.softcap);
  require(o.window >= 0, "{}: window is {}; wanted a number of keys, or 0 for all", op, o.window);
}

}  // namespace

void check(const UnaryForward& a) {
  floating("unary_forward", "x", a.x);
  contiguous("unary_forward", "x", a.x);
  buffer("unary_forward", "y", a.y, a.x.numel(), "x", a.x);
}
void check(const UnaryBackward& a) {
  floating("unary_backward", "x", a.x);
  contiguous("unary_backward", "x", a.x);
  buffer("unary_backward", "grad_y", a.grad_y, a.x.numel(), "x", a.x);
  buffer("unary_backward", "grad_x", a.grad_x, a.x.numel(), "x", a.x);
}
void check(const BinaryForward& a) {
  floating("binary_forward", "a", a.a);
  contiguous("binary_forward", "a", a.a);
  require(a.outer >= 1 && a.inner >= 1, "binary_forward: outer {} and inner {} must be at least 1",
          a.outer, a.inner);
  buffer("binary_forward", "b", a.b, a.a.numel() / (a.outer * a.inner), "a", a.a);
  buffer("binary_forward", "y", a.y, a.outer * a.inner * a.b.numel(), "b", a.b);
  buffer("binary_forward", "a", a.a, a.y.numel(), "y", a.y);
}
void check(const Affine& a) {
  floating("affine", "x", a.x);
  contiguous("affine", "x", a.x);
  buffer("affine", "y", a.y, a.x.numel(), "x", a.x);
}
void check(const Accumulate& a) {
  floating("accumulate", "x", a.x);
  contiguous("accumulate", "x", a.x);
  buffer("accumulate", "y", a.y, a.x.numel(), "x", a.x);
}
void check(const BiasActivationForward& a) {
  rows_of("bias_activation_forward", "x", a.x);
  optional_buffer("bias_activation_forward", "bias", a.bias, columns_of(a.x), "x", a.x);
  operand_buffer("bias_activation_forward", "y", a.y, a.x.numel(), "x", a.x);
  if (a.slope) buffer("bias_activation_forward", "slope", *a.slope, a.x.numel(), "x", a.x);
}
void check(const BiasActivationBackward& a) {
  floating("bias_activation_backward", "slope", a.slope);
  contiguous("bias_activation_backward", "slope", a.slope);
  const int64_t count = a.slope.numel();
  buffer("bias_activation_backward", "grad_y", a.grad_y, count, "slope", a.slope);
  operand_buffer("bias_activation_backward", "grad_x", a.grad_x, count, "slope", a.slope);
}
void check(const GatedForward& a) {
  floating("gated_forward", "gate", a.gate);
  contiguous("gated_forward", "gate", a.gate);
  buffer("gated_forward", "up", a.up, a.gate.numel(), "gate", a.gate);
  buffer("gated_forward", "y", a.y, a.gate.numel(), "gate", a.gate);
}
void check(const GatedBackward& a) {
  floating("gated_backward", "gate", a.gate);
  contiguous("gated_backward", "gate", a.gate);
  buffer("gated_backward", "up", a.up, a.gate.numel(), "gate", a.gate);
  buffer("gated_backward", "grad_y", a.grad_y, a.gate.numel(), "gate", a.gate);
  buffer("gated_backward", "grad_gate", a.grad_gate, a.gate.numel(), "gate", a.gate);
  buffer("gated_backward", "grad_up", a.grad_up, a.gate.numel(), "gate", a.gate);
}
void check(const Dropout& a) {
  floating("dropout", "x", a.x);
  contiguous("dropout", "x", a.x);
  buffer("dropout", "y", a.y, a.x.numel(), "x", a.x);
  probability("dropout", a.p);
}

void check(const SumForward& a) {
  floating("sum_forward", "x", a.x);
  buffer("sum_forward", "x", a.x, a.outer * a.dim * a.inner, "x", a.x);
  buffer("sum_forward", "y", a.y, a.outer * a.inner, "x", a.x);
}
void check(const Repeat& a) {
  floating("repeat", "grad_y", a.grad_y);
  buffer("repeat", "grad_y", a.grad_y, a.outer * a.inner, "grad_y", a.grad_y);
  buffer("repeat", "grad_x", a.grad_x, a.outer * a.dim * a.inner, "grad_y", a.grad_y);
}
void check(const CumulativeSum& a) {
  floating("cumulative_sum", "x", a.x);
  buffer("cumulative_sum", "x", a.x, a.outer * a.dim * a.inner, "x", a.x);
  buffer("cumulative_sum", "y", a.y, a.outer * a.dim * a.inner, "x", a.x);
  optional_buffer("cumulative_sum", "initial", a.initial, a.outer * a.inner, "x", a.x);
  require(!(a.reverse && a.initial.defined()),
          "cumulative_sum: an initial value does not go with reverse");
}
void check(const SumSquares& a) {
  floating("sum_squares", "x", a.x);
  contiguous("sum_squares", "x", a.x);
  defined("sum_squares", "result", a.result);
  require(a.result.dtype() == DType::f64 && a.result.numel() == 1,
          "sum_squares: result is {}; wanted f64[1]", a.result);
  require(a.result.device() == a.x.device(),
          "sum_squares: result is {} but x is {}; wanted one device", a.result, a.x);
}

void check(const SoftmaxForward& a) {
  rows_of("softmax_forward", "x", a.x);
  buffer("softmax_forward", "y", a.y, a.x.numel(), "x", a.x);
  if (a.valid.defined()) integers("softmax_forward", "valid", a.valid, count_rows(a.x), a.x);
}
void check(const SoftmaxBackward& a) {
  rows_of("softmax_backward", "y", a.y);
  buffer("softmax_backward", "grad_y", a.grad_y, a.y.numel(), "y", a.y);
  buffer("softmax_backward", "grad_x", a.grad_x, a.y.numel(), "y", a.y);
}
void check(const CrossEntropyForward& a) {
  rows_of("cross_entropy_forward", "logits", a.logits);
  integers("cross_entropy_forward", "targets", a.targets, count_rows(a.logits), a.logits);
  within("cross_entropy_forward", "targets", a.targets, -1, columns_of(a.logits));
  buffer("cross_entropy_forward", "loss", a.loss, count_rows(a.logits), "logits", a.logits);
  buffer("cross_entropy_forward", "log_sum_exp", a.log_sum_exp, count_rows(a.logits), "logits",
         a.logits);
}
void check(const CrossEntropyBackward& a) {
  rows_of("cross_entropy_backward", "logits", a.logits);
  integers("cross_entropy_backward", "targets", a.targets, count_rows(a.logits), a.logits);
  within("cross_entropy_backward", "targets", a.targets, -1, columns_of(a.logits));
  buffer("cross_entropy_backward", "log_sum_exp", a.log_sum_exp, count_rows(a.logits), "logits",
         a.logits);
  buffer("cross_entropy_backward", "grad_loss", a.grad_loss, count_rows(a.logits), "logits",
         a.logits);
  buffer("cross_entropy_backward", "grad_logits", a.grad_logits, a.logits.numel(), "logits",
         a.logits);
}

void check(const NormForward& a) {
  const char* op = "norm_forward";
  rows_of(op, "x", a.x);
  optional_buffer(op, "residual", a.residual, a.x.numel(), "x", a.x);
  optional_buffer(op, "weight", a.weight, columns_of(a.x), "x", a.x);
  optional_buffer(op, "bias", a.bias, columns_of(a.x), "x", a.x);
  if (a.residual.defined()) buffer(op, "sum", a.sum, a.x.numel(), "x", a.x);
  operand_buffer(op, "y", a.y, a.x.numel(), "x", a.x);
  if (a.kind == Norm::layer) buffer(op, "mean", a.mean, count_rows(a.x), "x", a.x);
  buffer(op, "rstd", a.rstd, count_rows(a.x), "x", a.x);
}
void check(const NormBackward& a) {
  const char* op = "norm_backward";
  rows_of(op, "x", a.x);
  optional_buffer(op, "weight", a.weight, columns_of(a.x), "x", a.x);
  if (a.kind == Norm::layer) buffer(op, "mean", a.mean, count_rows(a.x), "x", a.x);
  buffer(op, "rstd", a.rstd, count_rows(a.x), "x", a.x);
  buffer(op, "grad_y", a.grad_y, a.x.numel(), "x", a.x);
  optional_buffer(op, "grad_sum", a.grad_sum, a.x.numel(), "x", a.x);
  optional_buffer(op, "grad_x", a.grad_x, a.x.numel(), "x", a.x);
  optional_buffer(op, "grad_weight", a.grad_weight, columns_of(a.x), "x", a.x);
  optional_buffer(op, "grad_bias", a.grad_bias, columns_of(a.x), "x", a.x);
}

namespace {

// Rows of unit stride, or columns of unit stride (a transposed view); a stride along a dimension of
// one element is never used.
void matrix(std::string_view name, const Tensor& t) {
  const int64_t rows = t.size(-2), columns = t.size(-1), row_stride = t.strides()[-2],
                column_stride = t.strides()[-1];
  const bool row_major =
      (column_stride == 1 || columns <= 1) && (row_stride >= columns || rows <= 1);
  const bool column_major =
      (row_stride == 1 || rows <= 1) && (column_stride >= rows || columns <= 1);
  require(
      row_major || column_major,
      "matmul: {} {} with strides {} is neither row-major nor transposed; call contiguous() first",
      name, t, t.strides());
}

}  // namespace

void check(const Matmul& a) {
  defined("matmul", "a", a.a);
  alike("matmul", "b", a.b, "a", a.a);
  if (a.a.dtype() == DType::bf16) {
    defined("matmul", "c", a.c);
    require(a.c.dtype() == DType::f32 && a.c.device() == a.a.device(),
            "matmul: c is {}; wanted f32 on the device of a {}", a.c, a.a);
  } else {
    floating("matmul", "a", a.a);
    alike("matmul", "c", a.c, "a", a.a);
  }
  const int rank = a.a.rank();
  require(rank == 2 || rank == 3, "matmul: a is {}; wanted 2 or 3 dimensions", a.a);
  require(a.c.rank() == rank && (a.b.rank() == rank || a.b.rank() == 2),
          "matmul: a {}, b {} and c {} differ in rank", a.a, a.b, a.c);
  require(a.a.size(-1) == a.b.size(-2), "matmul: a {} has {} columns but b {} has {} rows", a.a,
          a.a.size(-1), a.b, a.b.size(-2));
  require(a.c.size(-2) == a.a.size(-2) && a.c.size(-1) == a.b.size(-1),
          "matmul: c is {}; wanted {} rows and {} columns", a.c, a.a.size(-2), a.b.size(-1));
  if (rank == 3) {
    require(a.c.size(0) == a.a.size(0) && (a.b.rank() == 2 || a.b.size(0) == a.a.size(0)),
            "matmul: the batches of a {}, b {} and c {} differ", a.a, a.b, a.c);
  }
  matrix("a", a.a);
  matrix("b", a.b);
  require((a.c.strides()[-1] == 1 || a.c.size(-1) <= 1) &&
              (a.c.strides()[-2] >= a.c.size(-1) || a.c.size(-2) <= 1),
          "matmul: c {} with strides {} must be row-major", a.c, a.c.strides());
}

void check(const MatmulPair& a) {
  check(a.first);
  check(a.second);
  require(a.first.c.device() == a.second.c.device(), "matmul_pair: c {} and {} on two devices",
          a.first.c, a.second.c);
}

void check(const LinearForward& a) {
  const char* op = "linear_forward";
  check(Matmul{a.x, a.weight, 1.0, false, a.y});
  require(a.y.rank() == 2, "{}: y is {}; wanted [rows, out]", op, a.y);
  contiguous(op, "y", a.y);
  buffer(op, "bias", a.bias, a.y.size(1), "y", a.y);
}
void check(const LinearBackward& a) {
  const char* op = "linear_backward";
  rows_of(op, "grad_y", a.grad_y);
  require(a.grad_y.rank() == 2, "{}: grad_y is {}; wanted [rows, out]", op, a.grad_y);
  check(a.weight);
  require(a.weight.a.rank() == 2 && a.weight.a.size(1) == a.grad_y.size(0),
          "{}: the weight's product sums over {} rows of {}; wanted the {} of grad_y {}", op,
          a.weight.a.size(-1), a.weight.a, a.grad_y.size(0), a.grad_y);
  if (a.input != nullptr) check(*a.input);
  buffer(op, "grad_bias", a.grad_bias, a.grad_y.size(1), "grad_y", a.grad_y);
}

void check(const AttentionForward& a) {
  const char* op = "attention_forward";
  head_layout(op, "query", a.query);
  head_layout(op, "key", a.key);
  head_layout(op, "value", a.value);
  alike(op, "key", a.key, "query", a.query);
  alike(op, "value", a.value, "query", a.query);
  const int64_t batch = a.query.size(0), queries = a.query.size(1), heads = a.query.size(2),
                dim = a.query.size(3);
  same_shape(op, "value", a.value, a.key.shape());
  require(a.key.size(0) == batch && a.key.size(3) == dim,
          "{}: query {} and key {} differ in batch or head_dim", op, a.query, a.key);
  require(a.key.size(2) > 0 && heads % a.key.size(2) == 0,
          "{}: {} query heads are not a multiple of {} key heads", op, heads, a.key.size(2));
  require(a.options.first_position >= 0 && a.key.size(1) >= a.options.first_position + queries,
          "{}: queries at positions {}..{} need as many keys, got {}", op, a.options.first_position,
          a.options.first_position + queries - 1, a.key.size(1));
  require(!a.options.bf16 || a.query.dtype() == DType::f32,
          "{}: products in bf16 are of f32 tensors; query is {}", op, a.query);
  attention_options(op, a.options);
  buffer(op, "output", a.output, a.query.numel(), "query", a.query);
  buffer(op, "log_sum_exp", a.log_sum_exp, batch * heads * queries, "query", a.query);
}
void check(const AttentionBackward& a) {
  const char* op = "attention_backward";
  Tensor output = a.output, log_sum_exp = a.log_sum_exp;
  check(AttentionForward{a.query, a.key, a.value, a.options, output, log_sum_exp});
  buffer(op, "grad_output", a.grad_output, a.query.numel(), "query", a.query);
  for (const auto& [name, gradient, input] : {std::tuple{"grad_query", &a.grad_query, &a.query},
                                              std::tuple{"grad_key", &a.grad_key, &a.key},
                                              std::tuple{"grad_value", &a.grad_value, &a.value}}) {
    head_layout(op, name, *gradient);
    alike(op, name, *gradient, "query", a.query);
    same_shape(op, name, *gradient, input->shape());
  }
}
void check(const GroupedAttentionForward& a) {
  const char* op = "grouped_attention_forward";
  head_layout(op, "query", a.query);
  for (const auto& [name, t] :
       {std::pair{"key", &a.key}, std::pair{"value", &a.value},
        std::pair{"context_key", &a.context_key}, std::pair{"context_value", &a.context_value}}) {
    head_layout(op, name, *t);
    alike(op, name, *t, "query", a.query);
  }
  const int64_t batch = a.query.size(0), rows = a.query.size(1), heads = a.query.size(2),
                dim = a.query.size(3);
  require(
      a.key.size(0) == batch && a.key.size(1) >= rows && a.key.size(3) == dim && dim > 0,
      "{}: query {} and key {} differ in batch or head_dim, or there are more queries than keys",
      op, a.query, a.key);
  require(a.key.size(2) > 0 && heads % a.key.size(2) == 0,
          "{}: {} query heads are not a multiple of {} key heads", op, heads, a.key.size(2));
  same_shape(op, "value", a.value, a.key.shape());
  same_shape(op, "context_key", a.context_key, {batch, a.context_key.size(1), a.key.size(2), dim});
  same_shape(op, "context_value", a.context_value, a.context_key.shape());
  defined(op, "limits", a.limits);
  require(a.limits.rank() == 2 && a.limits.size(0) == batch && a.limits.size(1) > 0 && rows > 0 &&
              rows % a.limits.size(1) == 0 && a.key.size(1) % a.limits.size(1) == 0,
          "{}: limits is {}; wanted [{}, groups], where the groups share {} queries and {} keys "
          "evenly",
          op, a.limits, batch, rows, a.key.size(1));
  integers(op, "limits", a.limits, a.limits.numel(), a.query);
  within(op, "limits", a.limits, 0, a.context_key.size(1) + 1);
  attention_options(op, a.options);
  require(a.options.dropout_p == 0 && a.options.first_position == 0,
          "{}: takes no dropout ({}) and no first position ({}); limits place the groups", op,
          a.options.dropout_p, a.options.first_position);
  require(!a.options.bf16 || a.query.dtype() == DType::f32,
          "{}: products in bf16 are of f32 tensors; query is {}", op, a.query);
  buffer(op, "output", a.output, a.query.numel(), "query", a.query);
  buffer(op, "log_sum_exp", a.log_sum_exp, batch * heads * rows, "query", a.query);
}
void check(const GroupedAttentionBackward& a) {
  const char* op = "grouped_attention_backward";
  Tensor output = a.output, log_sum_exp = a.log_sum_exp;
  check(GroupedAttentionForward{a.query, a.key, a.value, a.context_key, a.context_value, a.limits,
                                a.options, output, log_sum_exp});
  buffer(op, "grad_output", a.grad_output, a.query.numel(), "query", a.query);
  for (const auto& [name, gradient, input] :
       {std::tuple{"grad_query", &a.grad_query, &a.query},
        std::tuple{"grad_key", &a.grad_key, &a.key},
        std::tuple{"grad_value", &a.grad_value, &a.value},
        std::tuple{"grad_context_key", &a.grad_context_key, &a.context_key},
        std::tuple{"grad_context_value", &a.grad_context_value, &a.context_value}}) {
    if (!gradient->defined()) continue;
    head_layout(op, name, *gradient);
    alike(op, name, *gradient, "query", a.query);
    same_shape(op, name, *gradient, input->shape());
  }
}
void check(const Rope& a) {
  head_layout("rope", "x", a.x);
  head_layout("rope", "y", a.y);
  alike("rope", "y", a.y, "x", a.x);
  same_shape("rope", "y", a.y, a.x.shape());
  require(a.x.size(3) % 2 == 0, "rope: head_dim {} is odd; wanted an even number of pairs' members",
          a.x.size(3));
  integers("rope", "positions", a.positions, a.positions.numel(), a.x);
  require(a.positions.shape() == Shape{a.x.size(1)} ||
              a.positions.shape() == Shape{a.x.size(0), a.x.size(1)},
          "rope: positions is {}; wanted [{}] or [{}, {}] to go with x {}", a.positions,
          a.x.size(1), a.x.size(0), a.x.size(1), a.x);
  within("rope", "positions", a.positions, 0, int64_t(1) << 31);
  contiguous("rope", "frequencies", a.frequencies);
  require(a.frequencies.dtype() == DType::f64 && a.frequencies.numel() == a.x.size(3) / 2 &&
              a.frequencies.device() == a.x.device(),
          "rope: frequencies is {}; wanted f64[{}], one a pair, beside x {}", a.frequencies,
          a.x.size(3) / 2, a.x);
}

void check(const EmbeddingForward& a) {
  const char* op = "embedding_forward";
  rows_of(op, "table", a.table);
  require(a.table.rank() == 2, "{}: table is {}; wanted [vocabulary, channels]", op, a.table);
  const int64_t channels = a.table.size(1);
  integers(op, "indices", a.indices, a.indices.numel(), a.table);
  within(op, "indices", a.indices, 0, a.table.size(0));
  buffer(op, "y", a.y, a.indices.numel() * channels, "table", a.table);
  if (a.positions.defined()) {
    alike(op, "positions", a.positions, "table", a.table);
    contiguous(op, "positions", a.positions);
    require(a.positions.rank() == 2 && a.positions.size(1) == channels,
            "{}: positions is {}; wanted [.., {}]", op, a.positions, channels);
    require(a.period >= 1 && a.first_position >= 0 &&
                a.first_position + a.period <= a.positions.size(0),
            "{}: positions {}..{} are outside the table of {}", op, a.first_position,
            a.first_position + a.period - 1, a.positions.size(0));
  }
}
void check(const EmbeddingBackward& a) {
  const char* op = "embedding_backward";
  rows_of(op, "grad_y", a.grad_y);
  const int64_t channels = columns_of(a.grad_y);
  integers(op, "indices", a.indices, count_rows(a.grad_y), a.grad_y);
  if (a.grad_table.defined()) {
    alike(op, "grad_table", a.grad_table, "grad_y", a.grad_y);
    contiguous(op, "grad_table", a.grad_table);
    require(a.grad_table.rank() == 2 && a.grad_table.size(1) == channels,
            "{}: grad_table is {}; wanted [.., {}]", op, a.grad_table, channels);
    within(op, "indices", a.indices, 0, a.grad_table.size(0));
  }
  if (a.grad_positions.defined()) {
    alike(op, "grad_positions", a.grad_positions, "grad_y", a.grad_y);
    contiguous(op, "grad_positions", a.grad_positions);
    require(a.grad_positions.rank() == 2 && a.grad_positions.size(1) == channels,
            "{}: grad_positions is {}; wanted [.., {}]", op, a.grad_positions, channels);
    require(a.period >= 1 && a.first_position >= 0 &&
                a.first_position + a.period <= a.grad_positions.size(0),
            "{}: positions {}..{} are outside the table of {}", op, a.first_position,
            a.first_position + a.period - 1, a.grad_positions.size(0));
  }
}

void check(const AdamW& a) {
  floating("adamw", "parameter", a.parameter);
  contiguous("adamw", "parameter", a.parameter);
  buffer("adamw", "grad", a.grad, a.parameter.numel(), "parameter", a.parameter);
  buffer("adamw", "m", a.m, a.parameter.numel(), "parameter", a.parameter);
  buffer("adamw", "v", a.v, a.parameter.numel(), "parameter", a.parameter);
  require(a.step >= 1, "adamw: step {} must count from 1", a.step);
}

void check(const StridedCopy& a) {
  defined("strided_copy", "x", a.x);
  alike("strided_copy", "y", a.y, "x", a.x);
  same_shape("strided_copy", "y", a.y, a.x.shape());
  if (a.accumulate) floating("strided_copy", "x", a.x);
}
void check(const Cast& a) {
  defined("cast", "x", a.x);
  defined("cast", "y", a.y);
  require((a.x.dtype() == DType::f32 && a.y.dtype() == DType::bf16) ||
              (a.x.dtype() == DType::bf16 && a.y.dtype() == DType::f32),
          "cast: x is {} and y {}; wanted one in f32 and one in bf16", a.x, a.y);
  require(a.x.device() == a.y.device(), "cast: x is {} but y is {}; wanted one device", a.x, a.y);
  same_shape("cast", "y", a.y, a.x.shape());
  contiguous("cast", "x", a.x);
  contiguous("cast", "y", a.y);
}

}  // namespace reverie
