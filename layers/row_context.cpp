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

// Keys and values of one layer, under its own number; the layers before it, which nobody asks,
// stand in with the same.
KeyValues one_layer(int64_t layer, const Variable& key, const Variable& value) {
  KeyValues rows;
  rows.layers.assign(size_t(layer) + 1, {key, value});
  return rows;
}

// One layer of a context that is made of keys and values: owns those that the context reads.
template <class Context>
class OneLayer final : public RowContext {
 public:
  // make(kept): the context, which refers to `kept`.
  template <class Make>
  OneLayer(std::vector<KeyValues> kept, const Make& make)
      : kept_(std::move(kept)), rows_(make(kept_)) {}
  const Tensor& positions() const override { return rows_.positions(); }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override {
    return rows_.attend(layer, query, key, value, spec);
  }
  Variable wanted(const Variable& rows) const override { return rows_.wanted(rows); }
  Variable attend_wanted(int64_t layer, const Variable& query, const Variable& key,
                         const Variable& value, const AttentionSpec& spec) override {
    return rows_.attend_wanted(layer, query, key, value, spec);
  }

 private:
  std::vector<KeyValues> kept_;
  Context rows_;
};

// One layer of a recorded context: leaves its keys and values.
class OneRecordedLayer final : public RowContext {
 public:
  explicit OneRecordedLayer(std::unique_ptr<RowContext> rows) : rows_(std::move(rows)) {}
  const Tensor& positions() const override { return rows_->positions(); }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override {
    left_ = {key, value};
    return rows_->attend(layer, query, key, value, spec);
  }
  std::vector<Variable> left() const override { return left_; }

 private:
  std::unique_ptr<RowContext> rows_;
  std::vector<Variable> left_;
};

// One layer of rows behind a prefix that grows by them; leaves the longer prefix.
class OneGrowingLayer final : public RowContext {
 public:
  // reads: the prefix's keys and values; none before the first rows.
  OneGrowingLayer(const std::vector<Variable>& reads, int64_t first_position,
                  const Tensor& positions)
      : reads_(reads), first_position_(first_position), positions_(positions) {}
  const Tensor& positions() const override { return positions_; }
  Variable attend(int64_t, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override {
    if (reads_.empty()) {
      left_ = {key, value};
      return attention(query, key, value, spec);
    }
    left_ = {concat({reads_[0], key}, 1), concat({reads_[1], value}, 1)};
    AttentionSpec after = spec;
    after.first_position = first_position_;
    return attention(query, left_[0], left_[1], after);
  }
  std::vector<Variable> left() const override { return left_; }

 private:
  std::vector<Variable> reads_, left_;
  int64_t first_position_;
  Tensor positions_;
};

}  // namespace

CausalContext::CausalContext(int64_t time) : positions_(counting(0, time)) {}
RepeatedLayer CausalContext::repeated(int64_t) const {
  const int64_t time = positions_.size(0);
  return {{}, [time](const auto&) { return std::make_unique<CausalContext>(time); }};
}
Variable CausalContext::attend(int64_t, const Variable& query, const Variable& key,
                               const Variable& value, const AttentionSpec& spec) {
  return attention(query, key, value, spec);
}

void RecordingContext::require_next(int64_t layer) const {
  require(int64_t(kept_.layers.size()) == layer,
          "layer {} came after {} recorded ones: keys and values of only one forward are kept",
          layer, kept_.layers.size());
}
Variable RecordingContext::attend(int64_t layer, const Variable& query, const Variable& key,
                                  const Variable& value, const AttentionSpec& spec) {
  require_next(layer);
  kept_.layers.push_back({key, value});
  return rows_.attend(layer, query, key, value, spec);
}
RepeatedLayer RecordingContext::repeated(int64_t layer) const {
  const RepeatedLayer plain = rows_.repeated(layer);
  if (!plain.context) return {};
  return {plain.reads, [plain](const std::vector<Variable>& reads) {
            return std::make_unique<OneRecordedLayer>(plain.context(reads));
          }};
}
void RecordingContext::keep(int64_t layer, const std::vector<Variable>& left) {
  require_next(layer);
  kept_.layers.push_back({left.at(0), left.at(1)});
}

CacheContext::CacheContext(SequenceState& state, int64_t time)
    : state_(state), positions_(counting(state.rows_before + state.position, time)) {}
// Keys and values are read where they lie in the cache.
Variable CacheContext::attend(int64_t layer, const Variable& query, const Variable& key,
                              const Variable& value, const AttentionSpec& spec) {
  require(!grad_enabled(), "a decoding cache keeps no gradients: decode under NoGrad");
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
  options.first_position = length - time;  // a cache may have lost its first rows
  kernel::attention_forward(q.device(),
                            {q.view({batch, time, spec.heads, dim}), heads_of(cache.key()),
                             heads_of(cache.value()), options, output, log_sum_exp});
  return Variable(output.view({batch, time, spec.heads * dim}));
}

PrefixContext::PrefixContext(const KeyValues& prefix, int64_t time,
                             std::optional<int64_t> first_position)
    : prefix_(prefix), positions_(counting(first_position.value_or(prefix.length()), time)) {}
Variable PrefixContext::attend(int64_t layer, const Variable& query, const Variable& key,
                               const Variable& value, const AttentionSpec& spec) {
  if (prefix_.length() == 0) return attention(query, key, value, spec);
  const LayerKeyValues& before = prefix_.layers.at(size_t(layer));
  AttentionSpec after = spec;
  after.first_position = prefix_.length();
  return attention(query, concat({before.key, key}, 1), concat({before.value, value}, 1), after);
}

GrowingPrefixContext::GrowingPrefixContext(KeyValues& known, int64_t time)
    : known_(known), first_position_(known.length()), positions_(counting(first_position_, time)) {}
Variable GrowingPrefixContext::attend(int64_t layer, const Variable& query, const Variable& key,
                                      const Variable& value, const AttentionSpec& spec) {
  const RepeatedLayer now = repeated(layer);
  const auto rows = now.context(now.reads);
  const Variable attended = rows->attend(layer, query, key, value, spec);
  keep(layer, rows->left());
  return attended;
}
RepeatedLayer GrowingPrefixContext::repeated(int64_t layer) const {
  std::vector<Variable> reads;
  if (first_position_ > 0) {
    const LayerKeyValues& all = known_.layers.at(size_t(layer));
    reads = {all.key, all.value};
  }
  return {reads, [first = first_position_, at = positions_](const std::vector<Variable>& given) {
            return std::make_unique<OneGrowingLayer>(given, first, at);
          }};
}
void GrowingPrefixContext::keep(int64_t layer, const std::vector<Variable>& left) {
  if (first_position_ == 0) known_.layers.emplace_back();
  known_.layers.at(size_t(layer)) = {left.at(0), left.at(1)};
}

PackedGroupsContext::PackedGroupsContext(const KeyValues& text, const Tensor& limits,
                                         int64_t rows_per_group, const GroupMask& mask,
                                         int64_t first_wanted)
    : text_(text),
      mask_(mask),
      rows_per_group_(rows_per_group),
      first_wanted_(first_wanted),
      limits_(limits),
      positions_(group_positions(
          mask.latents_see_text ? limits : Tensor::zeros(limits.shape(), limits.dtype()), 0,
          rows_per_group)) {
  require(mask.tokens_see_latents || !mask.tokens_see_text,
          "tokens that see the text must see the latents between them, too");
  require(mask.latents_see_text || (mask.tokens_see_latents && !mask.tokens_see_text),
          "if latents do not see the text, tokens must see the latents alone");
  require(mask.latents >= (mask.tokens_see_text ? 0 : 1) && mask.latents <= rows_per_group,
          "{} latents in groups of {} rows", mask.latents, rows_per_group);
  require(first_wanted >= 0 && first_wanted < rows_per_group,
          "the first wanted row is {} of {} in a group", first_wanted, rows_per_group);
}

Variable PackedGroupsContext::wanted(const Variable& rows) const {
  if (first_wanted_ == 0) return rows;
  const int64_t batch = rows.size(0), groups = limits_.size(1), width = rows.size(2);
  const Variable kept = slice(reshape(rows, {batch, groups, rows_per_group_, width}), 2,
                              first_wanted_, rows_per_group_);
  return reshape(kept, {batch, -1, width});
}

Variable PackedGroupsContext::attend(int64_t layer, const Variable& query, const Variable& key,
                                     const Variable& value, const AttentionSpec& spec) {
  const LayerKeyValues& text = text_.layers.at(size_t(layer));
  if (mask_.tokens_see_text)
    return grouped_attention(query, key, value, text.key, text.value, limits_.to(query.device()),
                             spec);

  // Rows that see nothing but their own group are a short text each.
  const int64_t batch = limits_.size(0), count = batch * limits_.size(1),
                rows = query.size(1) / limits_.size(1), latents = mask_.latents;
  const auto texts = [&](const Variable& x) { return reshape(x, {count, rows, x.size(2)}); };
  const auto groups = [&](const Variable& x) { return reshape(x, {batch, -1, x.size(2)}); };
  const Variable q = texts(query), k = texts(key), v = texts(value);
  if (!mask_.latents_see_text) return groups(attention(q, k, v, spec));
  const auto part = [](const Variable& x, int64_t begin, int64_t end) {
    return slice(x, 1, begin, end);
  };
  const auto front = [&](const Variable& x) { return groups(part(x, 0, latents)); };
  const Variable in_front = grouped_attention(front(q), front(k), front(v), text.key, text.value,
                                              limits_.to(query.device()), spec);
  if (rows == latents) return in_front;
  const int64_t first = mask_.tokens_see_latents ? 0 : latents;
  AttentionSpec after = spec;
  after.first_position = latents - first;
  const Variable behind =
      attention(part(q, latents, rows), part(k, first, rows), part(v, first, rows), after);
  return groups(concat({reshape(in_front, {count, latents, query.size(2)}), behind}, 1));
}

Variable PackedGroupsContext::attend_wanted(int64_t layer, const Variable& query,
                                            const Variable& key, const Variable& value,
                                            const AttentionSpec& spec) {
  if (mask_.tokens_see_text) return attend(layer, wanted(query), key, value, spec);
  return RowContext::attend_wanted(layer, query, key, value, spec);
}

RepeatedLayer PackedGroupsContext::repeated(int64_t layer) const {
  const LayerKeyValues& text = text_.layers.at(size_t(layer));
  return {{text.key, text.value},
          [layer, limits = limits_, rows = rows_per_group_, mask = mask_,
           first = first_wanted_](const std::vector<Variable>& reads) {
            return std::make_unique<OneLayer<PackedGroupsContext>>(
                std::vector<KeyValues>{one_layer(layer, reads[0], reads[1])},
                [&](const std::vector<KeyValues>& kept) {
                  return PackedGroupsContext(kept[0], limits, rows, mask, first);
                });
          }};
}

PrefixedGroupsContext::PrefixedGroupsContext(const KeyValues& text, const Tensor& limits,
                                             const KeyValues& known, int64_t rows_per_group)
    : text_(text),
      known_(known),
      limits_(limits),
      positions_(group_positions(limits, known.length() / limits.size(1), rows_per_group)) {}
// To the kernel the known rows are rows like others, which do not ask.
Variable PrefixedGroupsContext::attend(int64_t layer, const Variable& query, const Variable& key,
                                       const Variable& value, const AttentionSpec& spec) {
  const LayerKeyValues &text = text_.layers.at(size_t(layer)),
                       &known = known_.layers.at(size_t(layer));
  const int64_t groups = limits_.size(1);
  const auto by_group = [&](const Variable& rows) {
    return reshape(rows, {rows.size(0), groups, rows.size(1) / groups, rows.size(2)});
  };
  const auto joined = [&](const Variable& first, const Variable& then) {
    const Variable rows = concat({by_group(first), by_group(then)}, 2);
    return reshape(rows, {rows.size(0), rows.size(1) * rows.size(2), rows.size(3)});
  };
  return grouped_attention(query, joined(known.key, key), joined(known.value, value), text.key,
                           text.value, limits_.to(query.device()), spec);
}

RepeatedLayer PrefixedGroupsContext::repeated(int64_t layer) const {
  const LayerKeyValues &text = text_.layers.at(size_t(layer)),
                       &known = known_.layers.at(size_t(layer));
  const int64_t rows = positions_.size(1) / limits_.size(1);
  return {{text.key, text.value, known.key, known.value},
          [layer, limits = limits_, rows](const std::vector<Variable>& reads) {
            return std::make_unique<OneLayer<PrefixedGroupsContext>>(
                std::vector<KeyValues>{one_layer(layer, reads[0], reads[1]),
                                       one_layer(layer, reads[2], reads[3])},
                [&](const std::vector<KeyValues>& kept) {
                  return PrefixedGroupsContext(kept[0], limits, kept[1], rows);
                });
          }};
}

}  // namespace reverie
