#include "layers/memory/imm.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/error.h"

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
  return matmul(weights_by(matmul(query, keys, false, true)), values);
}

Variable Imm::weights_by(const Variable& scores, const Tensor& valid) const {
  const Variable weights = softmax(scores, 1 / std::sqrt(double(key_size_)), valid);
  return training() ? dropout(weights, dropout_) : weights;
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

Variable Imm::slots_of(const MemoryState& state, const std::string& layer, int64_t batch) const {
  const auto held = state.values.find(layer + "slots");
  const int64_t count = held == state.values.end() ? 0 : held->second.size(1);
  if (count == slots_) return held->second;
  const Variable empty = zeros({batch, slots_ - count, features_}, write_->weight());
  return count == 0 ? empty : concat({empty, held->second}, 1);
}

std::vector<Variable> Imm::readable(const MemoryState& state, int64_t batch) const {
  std::vector<Variable> rows;
  if (!incremental()) return rows;
  for (int64_t i = 0; i < layers_; ++i) {
    const std::string layer = std::to_string(i) + ".";
    if (mode_ != ImmMode::causal_mean) {
      rows.push_back(slots_of(state, layer, batch));
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

Variable rows_of(const Variable& x, int64_t begin, int64_t end) {
  return begin == 0 && end == x.size(1) ? x : slice(x, 1, begin, end);
}
// x [B, n, ..] and, behind it, y; x may be undefined.
Variable joined(const Variable& x, const Variable& y) {
  return x ? concat({x, y}, 1) : y;
}
// The last n, at most.
Variable newest(const Variable& x, int64_t n) {
  const int64_t count = x.size(1);
  return rows_of(x, std::max<int64_t>(0, count - n), count);
}

}  // namespace

Variable Imm::weights_of_pieces(const Variable& scores, int64_t before) const {
  const int64_t batch = scores.size(0), time = scores.size(1), columns = scores.size(2);
  const auto seen_by = [&](int64_t t) { return before + t / piece_; };
  std::vector<int32_t> valid;
  for (int64_t i = 0; i < batch * time; ++i) valid.push_back(int32_t(seen_by(i % time)));
  const Tensor leading = Tensor::from<int32_t>({batch * time}, valid).to(scores.device());
  if (seen_by(time - 1) <= slots_) return weights_by(scores, leading);
  std::vector<double> overwritten(size_t(time * columns), 0);
  for (int64_t t = 0; t < time; ++t)
    for (int64_t j = 0; j < seen_by(t) - slots_; ++j) overwritten[size_t(t * columns + j)] = -1e30;
  const Tensor mask = Tensor::from<double>({time, columns}, overwritten).to(scores.dtype());
  return weights_by(add(scores, Variable(mask.to(scores.device()))), leading);
}

// Rows are taken in pieces that end where a segment (chunk) ends: within a piece the memory does
// not change. What whole pieces write does not depend on what their rows read, so that as many as
// there are slots are taken at once.
Variable Imm::in_pieces(const Variable& x, MemoryState& state, const std::string& layer) {
  const int64_t batch = x.size(0), time = x.size(1);
  int64_t& seen = state.counters[layer + "rows"];
  const Variable gate = mode_ == ImmMode::slots ? sigmoid(merge_gate_->forward(x)) : Variable();
  const Variable query = query_->forward(x);
  const std::string slots_name = layer + "slots", partial_name = layer + "partial";
  // Oldest first. Empty slots count in a segment's softmax, and not in that of gated slots.
  Variable slots, keys, values;
  if (const auto held = state.values.find(slots_name); held != state.values.end())
    slots = held->second;
  require(
      slots || seen < piece_,
      "memory of layer {}: {} rows were read, and no slots are there: it was stored by an earlier "
      "version; train anew",
      layer.substr(0, layer.size() - 1), seen);
  if (mode_ == ImmMode::segment) slots = slots_of(state, layer, batch);
  if (slots) {
    keys = keys_of(slots);
    values = value_->forward(slots);
  }
  std::vector<Variable> reads;
  for (int64_t begin = 0; begin < time;) {
    const int64_t begun = seen % piece_, whole = begun == 0 ? (time - begin) / piece_ : 0,
                  pieces = std::clamp<int64_t>(whole, 1, slots_),
                  end = std::min(time, begin + pieces * piece_ - begun),
                  before = slots ? slots.size(1) : 0;
    const Variable rows =
        reshape(rows_of(x, begin, end), {batch * pieces, (end - begin) / pieces, features_});
    seen += end - begin;
    Variable written;
    if (seen % piece_ == 0) {
      const Variable means =
          begun == 0 ? mean(rows, 1)
                     : scale(add(sum(rows, 1), state.values.at(partial_name)), 1 / double(piece_));
      state.values.erase(partial_name);
      written = written_by(reshape(means, {batch, pieces, features_}), slots);
      slots = newest(joined(slots, written), slots_);
    } else {
      const Variable total = sum(rows, 1);
      state.values[partial_name] = begun == 0 ? total : add(total, state.values.at(partial_name));
    }
    const bool read_again = written && (pieces > 1 || end < time);
    const Variable all_keys = read_again ? joined(keys, keys_of(written)) : keys,
                   all_values = read_again ? joined(values, value_->forward(written)) : values;
    if (pieces > 1 || before > 0) {
      const Variable scores =
          matmul(rows_of(query, begin, end), pieces > 1 ? all_keys : keys, false, true);
      Variable weights = pieces > 1 ? weights_of_pieces(scores, before) : weights_by(scores);
      // gate * (weights V) = (gate * weights) V, and rows of weights are short.
      if (gate) weights = multiply(weights, rows_of(gate, begin, end));
      reads.push_back(matmul(weights, pieces > 1 ? all_values : values));
    } else {
      reads.push_back(zeros({batch, end - begin, features_}, x));
    }
    if (end < time && read_again) {
      keys = newest(all_keys, slots_);
      values = newest(all_values, slots_);
    }
    begin = end;
  }
  if (slots) state.values[slots_name] = slots;
  const Variable r = reads.size() == 1 ? reads[0] : concat(reads, 1);
  return gate ? add(x, r) : merge(x, r);
}

Variable Imm::written_by(const Variable& means, const Variable& slots) const {
  // write() is affine, so the mean of write(x) is write(mean of x).
  const Variable written = write_->forward(means);
  if (mode_ == ImmMode::segment) return written;
  const Variable g = sigmoid(write_gate_->forward(means));  // [B, n, 1]
  const Variable gated = multiply(written, g);
  const int64_t batch = means.size(0), n = means.size(1), held = slots ? slots.size(1) : 0,
                into_empty = std::clamp<int64_t>(slots_ - held, 0, n);
  if (into_empty == n) return gated;
  const Variable overwritten = rows_of(slots, 0, n - into_empty);  // the oldest
  return add(gated,
             multiply(into_empty == 0
                          ? overwritten
                          : concat({zeros({batch, into_empty, features_}, means), overwritten}, 1),
                      affine(g, -1, 1)));
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
