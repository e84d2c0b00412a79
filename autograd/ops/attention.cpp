#include "autograd/ops/attention.h"

#include <cmath>

#include "autograd/ops/tensors.h"
#include "autograd/precision.h"
#include "core/random.h"
#include "kernels/attention.h"

namespace reverie {
namespace {

// [B, T, heads * D] as [B, T, heads, D], also of a slice of a wider row.
Tensor split_heads(const Tensor& x, int64_t first_head, int64_t heads, int64_t dim) {
  return x.view({x.size(0), x.size(1), x.size(2) / dim, dim})
      .slice(2, first_head, first_head + heads);
}

// Rows [B, T, heads * dim] that split_heads() takes. The kernel demands the rest.
void require_rows(std::string_view op, std::string_view name, const Tensor& x, int64_t heads,
                  int64_t dim) {
  require(x.rank() == 3 && x.size(2) == heads * dim,
          "{}: {} is {}; wanted [batch, time, {}] for {} heads of {}", op, name, x, heads * dim,
          heads, dim);
}
// The size of a head, of rows that hold `heads` of them.
int64_t head_dim(std::string_view op, std::string_view name, const Tensor& x, int64_t heads) {
  require(heads >= 1 && x.rank() == 3 && x.size(2) >= heads && x.size(2) % heads == 0,
          "{}: {} is {} for {} heads; wanted [batch, time, a multiple of the heads]", op, name, x,
          heads);
  return x.size(2) / heads;
}
void require_heads(std::string_view op, const AttentionSpec& spec) {
  require(spec.heads >= 1 && spec.kv_heads >= 1,
          "{}: heads is {} and kv_heads {}; wanted at least 1 of each", op, spec.heads,
          spec.kv_heads);
}

AttentionOptions options_of(const AttentionSpec& spec, int64_t dim, int64_t batch, int64_t queries,
                            int64_t keys) {
  AttentionOptions o;
  o.scale = spec.scale != 0 ? spec.scale : 1 / std::sqrt(double(dim));
  o.first_position = spec.first_position;
  o.softcap = spec.softcap;
  o.window = spec.window;
  if (spec.dropout > 0) {
    Generator& g = default_generator();
    o.dropout_p = spec.dropout;
    o.seed = g.seed();
    o.offset = g.reserve(uint64_t(batch * spec.heads * queries * keys));
  }
  return o;
}

bool in_bf16(const Tensor& query) {
  return matmul_precision() == MatmulPrecision::bf16 && query.dtype() == DType::f32;
}

struct PackedAttentionOp {
  static constexpr std::string_view name = "packed_attention";
  AttentionSpec spec;
  AttentionOptions options;
  int64_t dim = 0;
  struct Parts {
    Tensor q, k, v;
  };
  Parts parts(const Tensor& qkv) const {
    return {split_heads(qkv, 0, spec.heads, dim), split_heads(qkv, spec.heads, spec.kv_heads, dim),
            split_heads(qkv, spec.heads + spec.kv_heads, spec.kv_heads, dim)};
  }
  Tensor forward(Context& ctx, const Tensor& qkv) {
    require_heads(name, spec);
    dim = head_dim(name, "qkv", qkv, spec.heads + 2 * spec.kv_heads);
    const int64_t batch = qkv.size(0), time = qkv.size(1);
    options = options_of(spec, dim, batch, time, time);
    options.bf16 = in_bf16(qkv);
    Tensor output = Tensor::empty({batch, time, spec.heads, dim}, qkv.dtype(), qkv.device());
    Tensor lse = Tensor::empty({batch, spec.heads, time}, qkv.dtype(), qkv.device());
    const Parts p = parts(qkv);
    kernel::attention_forward(qkv.device(), {p.q, p.k, p.v, options, output, lse});
    ctx.save({kept(ctx, qkv), kept(ctx, output), lse});
    return output.view({batch, time, spec.heads * dim});
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    const DType dtype = ctx.saved(2).dtype();
    const Tensor qkv = restored(ctx.saved(0), dtype), output = restored(ctx.saved(1), dtype);
    Tensor grad_qkv = empty_like(qkv);
    const Parts p = parts(qkv);
    Parts g = parts(grad_qkv);
    kernel::attention_backward(qkv.device(), {p.q, p.k, p.v, output, ctx.saved(2),
                                              grad_y.view(output.shape()), options, g.q, g.k, g.v});
    return {grad_qkv};
  }
};

struct AttentionOp {
  static constexpr std::string_view name = "attention";
  AttentionSpec spec;
  AttentionOptions options;
  int64_t dim = 0;
  Tensor forward(Context& ctx, const Tensor& query, const Tensor& key, const Tensor& value) {
    require_heads(name, spec);
    dim = head_dim(name, "query", query, spec.heads);
    require_rows(name, "key", key, spec.kv_heads, dim);
    require_rows(name, "value", value, spec.kv_heads, dim);
    options = options_of(spec, dim, query.size(0), query.size(1), key.size(1));
    options.bf16 = in_bf16(query);
    Tensor output = Tensor::empty({query.size(0), query.size(1), spec.heads, dim}, query.dtype(),
                                  query.device());
    Tensor lse =
        Tensor::empty({query.size(0), spec.heads, query.size(1)}, query.dtype(), query.device());
    kernel::attention_forward(
        query.device(),
        {split_heads(query, 0, spec.heads, dim), split_heads(key, 0, spec.kv_heads, dim),
         split_heads(value, 0, spec.kv_heads, dim), options, output, lse});
    ctx.save({kept(ctx, query), kept(ctx, key), kept(ctx, value), kept(ctx, output), lse});
    return output.view(query.shape());
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    const DType dtype = ctx.saved(4).dtype();
    const Tensor query = restored(ctx.saved(0), dtype), key = restored(ctx.saved(1), dtype),
                 value = restored(ctx.saved(2), dtype), output = restored(ctx.saved(3), dtype);
    Tensor gq = empty_like(query), gk = empty_like(key), gv = empty_like(value);
    Tensor gq4 = split_heads(gq, 0, spec.heads, dim), gk4 = split_heads(gk, 0, spec.kv_heads, dim),
           gv4 = split_heads(gv, 0, spec.kv_heads, dim);
    kernel::attention_backward(
        query.device(),
        {split_heads(query, 0, spec.heads, dim), split_heads(key, 0, spec.kv_heads, dim),
         split_heads(value, 0, spec.kv_heads, dim), output, ctx.saved(4),
         grad_y.view(output.shape()), options, gq4, gk4, gv4});
    return {gq, gk, gv};
  }
};

struct GroupedAttentionOp {
  static constexpr std::string_view name = "grouped_attention";
  AttentionSpec spec;
  Tensor limits;
  AttentionOptions options;
  int64_t dim = 0;
  // [B, T, kv_heads, D], of either form that contexts come in.
  Tensor context_heads(const Tensor& x) const {
    return x.rank() == 4 ? x : split_heads(x, 0, spec.kv_heads, dim);
  }
  Tensor forward(Context& ctx, const Tensor& query, const Tensor& key, const Tensor& value,
                 const Tensor& context_key, const Tensor& context_value) {
    require_heads(name, spec);
    dim = head_dim(name, "query", query, spec.heads);
    require_rows(name, "key", key, spec.kv_heads, dim);
    require_rows(name, "value", value, spec.kv_heads, dim);
    if (context_key.rank() != 4) require_rows(name, "context_key", context_key, spec.kv_heads, dim);
    if (context_value.rank() != 4)
      require_rows(name, "context_value", context_value, spec.kv_heads, dim);
    options = options_of(spec, dim, query.size(0), query.size(1), 0);
    options.bf16 = in_bf16(query);
    Tensor output = Tensor::empty({query.size(0), query.size(1), spec.heads, dim}, query.dtype(),
                                  query.device());
    Tensor lse =
        Tensor::empty({query.size(0), spec.heads, query.size(1)}, query.dtype(), query.device());
    kernel::grouped_attention_forward(
        query.device(),
        {split_heads(query, 0, spec.heads, dim), split_heads(key, 0, spec.kv_heads, dim),
         split_heads(value, 0, spec.kv_heads, dim), context_heads(context_key),
         context_heads(context_value), limits, options, output, lse});
    // Contexts are kept by whoever made them, too.
    ctx.save({kept(ctx, query), kept(ctx, key), kept(ctx, value), context_key, context_value,
              kept(ctx, output), lse});
    return output.view(query.shape());
  }
  Grads backward(Context& ctx, const Tensor& grad_y) {
    const DType dtype = ctx.saved(6).dtype();
    const Tensor output = restored(ctx.saved(5), dtype);
    Grads grads(5);
    Tensor heads[5], grad_heads[5];  // [B, .., .., D]
    for (size_t i = 0; i < 5; ++i) {
      const auto split = [&](const Tensor& x) {
        return i < 3 ? split_heads(x, 0, i == 0 ? spec.heads : spec.kv_heads, dim)
                     : context_heads(x);
      };
      const Tensor x = restored(ctx.saved(i), dtype);
      heads[i] = split(x);
      if (!ctx.needs(i)) continue;
      grads[i] = empty_like(x);
      grad_heads[i] = split(grads[i]);
    }
    kernel::grouped_attention_backward(
        output.device(), {heads[0], heads[1], heads[2], heads[3], heads[4], limits, output,
                          ctx.saved(6), grad_y.view(output.shape()), options, grad_heads[0],
                          grad_heads[1], grad_heads[2], grad_heads[3], grad_heads[4]});
    return grads;
  }
};

struct RopeOp {
  static constexpr std::string_view name = "rope";
  int64_t heads;
  Tensor positions, frequencies;
  Tensor turn(const Tensor& x, bool inverse, Tensor y) const {
    const int64_t dim = head_dim(name, "x", x, heads);
    Tensor y4 = split_heads(y, 0, heads, dim);
    kernel::rope(x.device(),
                 Rope{split_heads(x, 0, heads, dim), positions, frequencies, inverse, y4});
    return y;
  }
  Tensor forward(Context&, const Tensor& x) { return turn(x, false, empty_like(x)); }
  Grads backward(Context&, const Tensor& grad_y) { return {turn(grad_y, true, reused(grad_y))}; }
};

}  // namespace

Variable packed_attention(const Variable& qkv, const AttentionSpec& spec) {
  return apply_op(PackedAttentionOp{spec, {}, 0}, qkv);
}
Variable attention(const Variable& query, const Variable& key, const Variable& value,
                   const AttentionSpec& spec) {
  return apply_op(AttentionOp{spec, {}, 0}, query, key, value);
}
Variable grouped_attention(const Variable& query, const Variable& key, const Variable& value,
                           const Variable& context_key, const Variable& context_value,
                           const Tensor& limits, const AttentionSpec& spec) {
  return apply_op(GroupedAttentionOp{spec, limits, {}, 0}, query, key, value, context_key,
                  context_value);
}
Variable rope(const Variable& x, int64_t heads, const Tensor& positions,
              const Tensor& frequencies) {
  return apply_op(RopeOp{heads, positions, frequencies}, x);
}
Variable rope(const Variable& x, int64_t heads, double base, int64_t first_position) {
  const int64_t dim = head_dim("rope", "x", x.tensor(), heads), time = x.size(1);
  require(first_position >= 0 && first_position + time <= int64_t(1) << 31,
          "rope: {} rows from position {}; wanted positions of 0 and more that fit 32 bits", time,
          first_position);
  Tensor positions = Tensor::empty({time}, DType::i32);
  int32_t* position = positions.mutable_data<int32_t>();
  for (int64_t t = 0; t < time; ++t) position[t] = int32_t(first_position + t);
  const Device device = x.tensor().device();
  return rope(x, heads, positions.to(device), rope_frequencies(dim, base).to(device));
}
Tensor rope_frequencies(int64_t dim, double base) {
  require(dim >= 2 && dim % 2 == 0 && base > 0,
          "rope: frequencies for head_dim {} and base {}; wanted an even size and a positive base",
          dim, base);
  Tensor frequencies = Tensor::empty({dim / 2}, DType::f64);
  auto* frequency = frequencies.mutable_data<double>();
  for (int64_t d = 0; d < dim / 2; ++d) frequency[d] = std::pow(base, -2 * double(d) / double(dim));
  return frequencies;
}

}  // namespace reverie
