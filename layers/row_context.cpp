#include "layers/row_context.h"

#include <cmath>
#include <numeric>

#include "autograd/ops/shape.h"
#include "kernels/attention.h"

namespace reverie {
namespace {

// i32 [count]: first, first + 1, ...
Tensor counting(int64_t first, int64_t count) {
  Tensor t = Tensor::empty({count}, DType::i32);
  std::iota(t.mutable_data<int32_t>(), t.mutable_data<int32_t>() + count, int32_t(first));
  return t;
}

}  // namespace

PlainRows::PlainRows(int64_t time) : positions_(counting(0, time)) {}
Variable PlainRows::attend(int64_t, const Variable& query, const Variable& key,
                           const Variable& value, const AttentionSpec& spec) {
  return attention(query, key, value, spec);
}

Variable RecordedRows::attend(int64_t layer, const Variable& query, const Variable& key,
                              const Variable& value, const AttentionSpec& spec) {
  require(int64_t(kept_.layers.size()) == layer,
          "layer {} came after {} recorded ones: keys and values are kept of one forward", layer,
          kept_.layers.size());
  kept_.layers.push_back({key, value});
  return attention(query, key, value, spec);
}

DecodedRows::DecodedRows(SequenceState& state, int64_t time)
    : state_(state), positions_(counting(state.position, time)) {}
// Keys and values are read where they lie in the cache.
Variable DecodedRows::attend(int64_t layer, const Variable& query, const Variable& key,
                             const Variable& value, const AttentionSpec& spec) {
  require(!grad_enabled(), "a decoding cache holds no gradients: decode under NoGrad");
  KvCache& cache = state_.layers.at(size_t(layer));
  cache.append(key.tensor(), value.tensor());
  const int64_t batch = query.size(0), time = query.size(1), dim = query.size(2) / spec.heads,
                length = cache.length();
  // [B, length, kv_heads * D] of a larger buffer -> [B, length, kv_heads, D].
  const auto heads_of = [&](const Tensor& rows) {
    const int64_t capacity = rows.strides()[0] / rows.strides()[1];
    return Tensor::over(rows.storage(), {batch, capacity, spec.kv_heads, dim}, rows.dtype(),
                        rows.offset())
        .slice(1, 0, length);
  };
  const Tensor& q = query.tensor();
  Tensor output = Tensor::empty({batch, time, spec.heads, dim}, q.dtype(), q.device());
  Tensor log_sum_exp = Tensor::empty({batch, spec.heads, time}, q.dtype(), q.device());
  AttentionOptions options;
  options.scale = spec.scale != 0 ? spec.scale : 1 / std::sqrt(double(dim));
  options.softcap = spec.softcap;
  options.window = spec.window;
  options.first_position = state_.position;
  kernel::attention_forward(q.device(),
                            {q.view({batch, time, spec.heads, dim}), heads_of(cache.key()),
                             heads_of(cache.value()), options, output, log_sum_exp});
  return Variable(output.view({batch, time, spec.heads * dim}));
}

ContinuedRows::ContinuedRows(const KeyValues& prefix, int64_t time)
    : prefix_(prefix), positions_(counting(prefix.length(), time)) {}
Variable ContinuedRows::attend(int64_t layer, const Variable& query, const Variable& key,
                               const Variable& value, const AttentionSpec& spec) {
  const LayerKeyValues& before = prefix_.layers.at(size_t(layer));
  AttentionSpec after = spec;
  after.first_position = prefix_.length();
  return attention(query, concat({before.key, key}, 1), concat({before.value, value}, 1), after);
}

GroupedRows::GroupedRows(const KeyValues& text, const Tensor& limits, int64_t rows_per_group)
    : text_(text), limits_(limits) {
  require(limits.rank() == 2 && limits.dtype() == DType::i32,
          "the limits of groups are i32 [B, G], got {}", limits);
  const int64_t batch = limits.size(0), groups = limits.size(1), rows = groups * rows_per_group;
  const Tensor host = limits.to(Device{}).contiguous();
  positions_ = Tensor::empty({batch, rows}, DType::i32);
  int32_t* position = positions_.mutable_data<int32_t>();
  for (int64_t i = 0; i < batch * groups; ++i)
    for (int64_t s = 0; s < rows_per_group; ++s) *position++ = host.data<int32_t>()[i] + int32_t(s);
}
Variable GroupedRows::attend(int64_t layer, const Variable& query, const Variable& key,
                             const Variable& value, const AttentionSpec& spec) {
  const LayerKeyValues& text = text_.layers.at(size_t(layer));
  return grouped_attention(query, key, value, text.key, text.value, limits_.to(query.device()),
                           spec);
}

}  // namespace reverie
