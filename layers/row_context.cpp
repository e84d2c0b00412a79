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

// i32 [B, G * S]: the rows of group g of entry b are at limits[b, g] + shift and what follows.
Tensor group_positions(const Tensor& limits, int64_t shift, int64_t rows_per_group) {
  require(limits.rank() == 2 && limits.dtype() == DType::i32,
          "the limits of groups are i32 [B, G], got {}", limits);
  const Tensor host = limits.to(Device{}).contiguous();
  Tensor positions = Tensor::empty({limits.size(0), limits.size(1) * rows_per_group}, DType::i32);
  int32_t* position = positions.mutable_data<int32_t>();
  for (int64_t i = 0; i < limits.numel(); ++i)
    for (int64_t s = 0; s < rows_per_group; ++s)
      *position++ = host.data<int32_t>()[i] + int32_t(shift + s);
  return positions;
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
    : text_(text), limits_(limits), positions_(group_positions(limits, 0, rows_per_group)) {}
Variable GroupedRows::attend(int64_t layer, const Variable& query, const Variable& key,
                             const Variable& value, const AttentionSpec& spec) {
  const LayerKeyValues& text = text_.layers.at(size_t(layer));
  return grouped_attention(query, key, value, text.key, text.value, limits_, spec);
}

PrecededGroups::PrecededGroups(const KeyValues& text, const Tensor& limits, const KeyValues& known,
                               int64_t rows_per_group)
    : text_(text),
      known_(known),
      limits_(limits),
      positions_(group_positions(limits, known.length() / limits.size(1), rows_per_group)) {}
// To the kernel the known rows are rows like others, whose queries are zeros and whose output is
// dropped: it wants as many queries as keys.
Variable PrecededGroups::attend(int64_t layer, const Variable& query, const Variable& key,
                                const Variable& value, const AttentionSpec& spec) {
  const LayerKeyValues &text = text_.layers.at(size_t(layer)),
                       &known = known_.layers.at(size_t(layer));
  const int64_t groups = limits_.size(1), before = known.key.size(1) / groups;
  const auto by_group = [&](const Variable& rows) {
    return reshape(rows, {rows.size(0), groups, rows.size(1) / groups, rows.size(2)});
  };
  const auto flat = [](const Variable& rows) {
    return reshape(rows, {rows.size(0), rows.size(1) * rows.size(2), rows.size(3)});
  };
  const auto joined = [&](const Variable& first, const Variable& then) {
    return flat(concat({by_group(first), by_group(then)}, 2));
  };
  const Variable idle(Tensor::zeros({query.size(0), groups * before, query.size(2)}, query.dtype(),
                                    query.device()));
  const Variable all =
      by_group(grouped_attention(joined(idle, query), joined(known.key, key),
                                 joined(known.value, value), text.key, text.value, limits_, spec));
  return flat(slice(all, 2, before, all.size(2)));
}

}  // namespace reverie
