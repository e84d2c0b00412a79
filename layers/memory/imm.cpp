#include "layers/memory/imm.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"

namespace reverie {
namespace {

const std::map<std::string, ImmMode> kModes = {{"as_published", ImmMode::as_published},
                                               {"full_rank", ImmMode::full_rank},
                                               {"causal_mean", ImmMode::causal_mean},
                                               {"segment", ImmMode::segment},
                                               {"slots", ImmMode::slots}};

Variable zeros(const Shape& shape, const Variable& like) {
  return Variable(Tensor::zeros(shape, like.dtype(), like.device()));
}

REVERIE_REGISTER_MEMORY(
    "imm", Imm, ImmOptions,
    "Implicit Memory Module (arXiv 2502.21030): as published (leaks) and in causal forms");

}  // namespace

void ImmOptions::fields(Fields& f) {
  f.text("mode", mode, {"as_published", "full_rank", "causal_mean", "segment", "slots"},
         "as_published and full_rank read the whole block, future included (they LEAK); the others "
         "are causal");
  f.integer("low_rank_dim", low_rank_dim, kPositive,
            "k: size of queries and keys (not used by full_rank)");
  f.integer_or_auto("num_slots", num_slots, kPositive,
                    "N; \"auto\" is the paper's floor(sqrt(n_embd))");
  f.number("dropout", dropout, {0, 0.99}, "dropout of the read weights");
  f.integer("segment_length", segment_length, kPositive, "rows per write, mode segment");
  f.integer("chunk_length", chunk_length, kPositive, "rows per write, mode slots (1: every row)");
  f.boolean("carry_state", carry_state,
            "keep the memory from one training window to the next of the same text (segment, "
            "slots, causal_mean; sequential batches)");
}

Imm::Imm(const ImmOptions& o, const MemorySite& site)
    : mode_(kModes.at(o.mode)),
      layers_(site.layers),
      features_(site.features),
      key_size_(mode_ == ImmMode::full_rank ? site.features : o.low_rank_dim),
      slots_(o.num_slots.value_or(int64_t(std::sqrt(double(site.features))))),
      piece_(mode_ == ImmMode::slots ? o.chunk_length : o.segment_length),
      dropout_(o.dropout),
      carry_state_(o.carry_state) {
  if (carry_state_ && !incremental())
    throw ConfigError(fmt::format(
        "memory mode {} starts from zero at every block: carry_state does not apply", o.mode));
  const LinearOptions plain;
  write_ = &child<Linear>("write", features_, features_, plain, site.build);
  query_ = &child<Linear>("query", features_, key_size_, plain, site.build);
  if (mode_ != ImmMode::full_rank)
    project_ =
        &child<Linear>("project", features_, key_size_, LinearOptions{.bias = false}, site.build);
  value_ = &child<Linear>("value", features_, features_, plain, site.build);
  if (mode_ == ImmMode::slots) {
    write_gate_ = &child<Linear>("write_gate", features_, 1, plain, site.build);
    merge_gate_ = &child<Linear>("merge_gate", features_, 1, plain, site.build);
  }
}

Variable Imm::after_block(const LayerView& view, MemoryState& state) {
  const std::string layer = std::to_string(view.layer) + ".";
  switch (mode_) {
    case ImmMode::as_published:
    case ImmMode::full_rank:
      return whole_block(view.hidden);
    case ImmMode::causal_mean:
      return running_mean(view.hidden, state, layer);
    case ImmMode::segment:
    case ImmMode::slots:
      return in_pieces(view.hidden, state, layer);
  }
  throw InternalError("an IMM mode without a rule");
}

Variable Imm::keys_of(const Variable& slots) const {
  return project_ ? project_->forward(slots) : slots;
}

Variable Imm::read(const Variable& query, const Variable& keys, const Variable& values) const {
  const Variable scores = matmul(query, keys, false, true);  // [B, T, n]
  Variable weights = softmax(scores, 1 / std::sqrt(double(key_size_)));
  if (training()) weights = dropout(weights, dropout_);
  return matmul(weights, values);
}

Variable Imm::whole_block(const Variable& x) {
  const int64_t batch = x.size(0);
  const Variable block_mean = reshape(mean(write_->forward(x), 1), {batch, 1, features_});
  const Variable slots =
      slots_ == 1 ? block_mean : concat({block_mean, zeros({batch, slots_ - 1, features_}, x)}, 1);
  return merge(x, read(query_->forward(x), keys_of(slots), value_->forward(slots)));
}

// Slot 0 differs from row to row, so its key and value are computed per row; the other slots are
// zero and only weigh in the softmax.
Variable Imm::running_mean(const Variable& x, MemoryState& state, const std::string& layer) {
  const int64_t batch = x.size(0), time = x.size(1);
  const std::string sum_name = layer + "sum", count_name = layer + "count";
  const auto before = state.values.find(sum_name);
  const Variable sums = cumulative_sum(write_->forward(x), 1,
                                       before == state.values.end() ? Variable() : before->second);
  int64_t& count = state.counters[count_name];
  std::vector<double> reciprocal;
  for (int64_t t = 0; t < time; ++t) reciprocal.push_back(1 / double(count + t + 1));
  const Variable factors(Tensor::from<double>({time, 1}, reciprocal).to(x.dtype()).to(x.device()));
  const Variable means = multiply(sums, factors);
  state.values[sum_name] = reshape(slice(sums, 1, time - 1, time), {batch, features_});
  count += time;

  const Variable ones(Tensor::full({key_size_, 1}, 1, x.dtype(), x.device()));
  const Variable product = multiply(query_->forward(x), project_->forward(means));  // [B, T, k]
  const Variable score = matmul(product, ones);                                     // [B, T, 1]
  const Variable scores =
      slots_ == 1 ? score : concat({score, zeros({batch, time, slots_ - 1}, x)}, 2);
  Variable weights = softmax(scores, 1 / std::sqrt(double(key_size_)));
  if (training()) weights = dropout(weights, dropout_);
  // r = w_0 (W_v m + b_v) + (sum of the other weights) b_v, since the value of an empty slot is
  // b_v.
  const Variable own = slice(weights, 2, 0, 1);
  const Variable empty_value = reshape(value_->forward(zeros({1, features_}, x)), {features_});
  Variable r = multiply(value_->forward(means), own);
  if (slots_ > 1) {
    const Variable rest = reshape(sum(slice(weights, 2, 1, slots_), 2), {batch, time, 1});
    r = add(r, matmul(rest, reshape(empty_value, {1, features_})));
  }
  return merge(x, r);
}

Variable Imm::slots_of(const MemoryState& state, const std::string& layer, int64_t batch,
                       int64_t count) const {
  std::vector<Variable> slots;
  for (int64_t i = 0; i < count; ++i) {
    const auto it = state.values.find(layer + "slot" + std::to_string(i));
    const Variable& like = write_->weight();
    slots.push_back(it == state.values.end() ? zeros({batch, 1, features_}, like) : it->second);
  }
  return concat(slots, 1);
}

Variable Imm::slots_by_age(const MemoryState& state, const std::string& layer, int64_t batch,
                           int64_t written) const {
  const int64_t count = mode_ == ImmMode::segment ? slots_ : std::min(written, slots_);
  const Variable slots = slots_of(state, layer, batch, count);
  const int64_t oldest = count == slots_ ? written % slots_ : 0;
  if (oldest == 0) return slots;
  return concat({slice(slots, 1, oldest, count), slice(slots, 1, 0, oldest)}, 1);
}

std::vector<Variable> Imm::readable(const MemoryState& state, int64_t batch) const {
  std::vector<Variable> rows;
  if (!incremental()) return rows;
  for (int64_t i = 0; i < layers_; ++i) {
    const std::string layer = std::to_string(i) + ".";
    if (mode_ != ImmMode::causal_mean) {
      rows.push_back(slots_of(state, layer, batch, slots_));
      continue;
    }
    const auto sum = state.values.find(layer + "sum");
    const auto count = state.counters.find(layer + "count");
    rows.push_back(
        sum == state.values.end() || count == state.counters.end()
            ? zeros({batch, 1, features_}, write_->weight())
            : reshape(scale(sum->second, 1 / double(count->second)), {batch, 1, features_}));
  }
  return rows;
}

namespace {

// Keys and values of the slots that rows may read, the oldest first. Each slot's are computed once.
class Bank {
 public:
  Bank(int64_t capacity, const Variable& keys, const Variable& values)
      : capacity_(size_t(capacity)), keys_(keys), values_(values) {}
  bool empty() const { return count() == 0; }
  void write(const Variable& key, const Variable& value) {
    written_.emplace_back(key, value);
    if (count() <= capacity_) return;
    if (begin_ < held())
      ++begin_;
    else
      written_.erase(written_.begin());
  }
  Variable keys() const {
    return joined(keys_, [](const auto& one) { return one.first; });
  }
  Variable values() const {
    return joined(values_, [](const auto& one) { return one.second; });
  }

 private:
  int64_t held() const { return keys_.defined() ? keys_.size(1) : 0; }
  size_t count() const { return size_t(held() - begin_) + written_.size(); }
  template <class Part>
  Variable joined(const Variable& held_ones, const Part& part) const {
    std::vector<Variable> parts;
    if (begin_ < held())
      parts.push_back(begin_ == 0 ? held_ones : slice(held_ones, 1, begin_, held()));
    for (const auto& one : written_) parts.push_back(part(one));
    return parts.size() == 1 ? parts[0] : concat(parts, 1);
  }

  size_t capacity_;
  Variable keys_, values_;  // of the slots that the window found, [B, n, ..]
  int64_t begin_ = 0;       // those before it were written anew
  std::vector<std::pair<Variable, Variable>> written_;
};

}  // namespace

// Rows are taken in pieces that end where a segment (chunk) ends: within a piece the memory does
// not change.
Variable Imm::in_pieces(const Variable& x, MemoryState& state, const std::string& layer) {
  const int64_t batch = x.size(0), time = x.size(1);
  int64_t& seen = state.counters[layer + "rows"];
  const Variable gate = mode_ == ImmMode::slots ? sigmoid(merge_gate_->forward(x)) : Variable();
  const Variable query = query_->forward(x);
  Variable keys, values;
  // Empty slots count in a segment's softmax, and not in that of gated slots.
  if (mode_ == ImmMode::segment || seen >= piece_) {
    const Variable slots = slots_by_age(state, layer, batch, seen / piece_);
    keys = keys_of(slots);
    values = value_->forward(slots);
  }
  Bank bank(slots_, keys, values);
  std::vector<Variable> reads;
  for (int64_t begin = 0; begin < time;) {
    const int64_t end = std::min(time, begin + piece_ - seen % piece_), number = seen / piece_;
    const Variable piece = slice(x, 1, begin, end);
    reads.push_back(bank.empty() ? zeros(piece.shape(), x)
                                 : read(slice(query, 1, begin, end), bank.keys(), bank.values()));

    const std::string partial_name = layer + "partial",
                      slot_name = layer + "slot" + std::to_string(number % slots_);
    Variable total = sum(piece, 1);
    if (const auto it = state.values.find(partial_name); it != state.values.end())
      total = add(total, it->second);
    seen += end - begin;
    begin = end;
    if (seen % piece_ != 0) {
      state.values[partial_name] = total;
      continue;
    }
    state.values.erase(partial_name);
    // write() is affine, so the mean of write(x) is write(mean of x).
    const Variable mean_x = scale(total, 1 / double(piece_));
    Variable written = reshape(write_->forward(mean_x), {batch, 1, features_});
    if (mode_ == ImmMode::slots) {
      const Variable g = sigmoid(write_gate_->forward(mean_x));  // [B, 1]
      const Variable g3 = reshape(g, {batch, 1, 1});
      written = multiply(written, g3);
      if (const auto it = state.values.find(slot_name); it != state.values.end())
        written = add(written, multiply(it->second, affine(g3, -1, 1)));
    }
    state.values[slot_name] = written;
    if (begin < time) bank.write(keys_of(written), value_->forward(written));
  }
  const Variable r = reads.size() == 1 ? reads[0] : concat(reads, 1);
  return mode_ == ImmMode::slots ? add(x, multiply(r, gate)) : merge(x, r);
}

double Imm::flops_per_token() const {
  const double d = double(features_), k = double(key_size_), n = double(slots_);
  const double keys_and_values = 2 * d * k + 2 * d * d;  // of one slot
  const bool pieces = mode_ == ImmMode::segment || mode_ == ImmMode::slots;
  double writes = 2 * d * d;
  if (mode_ == ImmMode::causal_mean) writes += keys_and_values;  // a slot for each row
  if (pieces) writes = (writes + keys_and_values) / double(piece_);
  return writes + 2 * d * k + 2 * n * (k + d);
}

}  // namespace reverie
