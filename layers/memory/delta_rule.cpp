// Fast weights written by the delta rule (Schlag et al. 2021, arXiv 2102.11174), with decay (Yang et
// al. 2024, arXiv 2412.06464) and with momentum: the linear case of Titans' neural memory (Behrouz et
// al. 2025, arXiv 2501.00663).
//
// Each head has a matrix S [key, value]. Row t writes, then reads:
//   r_t = v_t - a_t S_(t-1)^T k_t               what the memory gets wrong
//   U_t = e_t U_(t-1) + b_t k_t r_t^T           momentum; without it e_t = 0
//   S_t = a_t S_(t-1) + U_t                     decay; without it a_t = 1
//   out_t = x_t + W_o S_t^T q_t
// k, q and v are projections of LN(x) behind a short causal convolution; k and q have length 1; b_t =
// write_limit * sigmoid(.), a_t and e_t are sigmoids, one a head and row.

#include <algorithm>
#include <cmath>

#include "autograd/ops/conv1d.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie {
namespace {

struct DeltaRuleOptions final : Fieldset {
  std::string variant = "decay", form = "chunked";
  int64_t heads = 2, chunk_length = 16, taps = 4;
  double write_limit = 1;
  bool carry_state = false;
  void fields(Fields& f) override {
    f.text("variant", variant, {"plain", "decay", "momentum"},
           "plain: the delta rule; decay: it forgets besides; momentum: its writes go on, too");
    f.text(
        "form", form, {"chunked", "stepwise"},
        "chunked: by matrix products, chunk by chunk; stepwise: row by row, the same to rounding "
        "and slower");
    f.integer("heads", heads, kPositive, "matrices of n_embd / heads by n_embd / heads");
    f.integer("chunk_length", chunk_length, {1, 4096}, "rows of a chunk, form chunked");
    f.integer("taps", taps, {1, 64},
              "rows, its own included, that a row's key, query and value are made of, by a causal "
              "convolution a feature; 1: none");
    f.number("write_limit", write_limit, {0, 2},
             "largest share of an error that a row writes; above 1 the memory may turn a value's "
             "sign (negative eigenvalues, arXiv 2411.12537)");
    f.boolean("carry_state", carry_state,
              "keep the memory from one training window to the next of the same text");
  }
};

// [N, C, C], 1 where row t and column s have `keeps(t, s)`.
template <class Keeps>
Variable mask(int64_t n, int64_t size, const Variable& like, const Keeps& keeps) {
  std::vector<double> values;
  for (int64_t t = 0; t < size; ++t)
    for (int64_t s = 0; s < size; ++s) values.push_back(keeps(t, s) ? 1 : 0);
  const Variable one(
      Tensor::from<double>({1, size, size}, values).to(like.dtype()).to(like.device()));
  return expand(one, 0, n);
}

// What rows of one length and their decays need in every chunk. N: chunks, heads and texts.
struct Rows {
  Variable key, query, value;  // [N, C, D]
  Variable write;              // b [N, C, 1]
  Variable log_keep, log_go;   // log a, log e [N, C, 1]; undefined: a is 1, e is 0
};

// products of decays: [t, s] = exp(sum of log over s + 1 .. t), s <= t, else 0. sums: [N, C, 1].
Variable decays(const Variable& sums) {
  const int64_t n = sums.size(0), size = sums.size(1);
  const Variable lower = mask(n, size, sums, [](int64_t t, int64_t s) { return s <= t; });
  const Variable of_row = expand(sums, 2, size),
                 of_column = expand(reshape(sums, {n, 1, size}), 1, size);
  // Masked before exp as well: above the diagonal it would overflow.
  return multiply(exp(multiply(subtract(of_row, of_column), lower)), lower);
}

// (I + G)^-1 for strictly lower G [N, C, C]: inverses of diagonal blocks, twice as large each time.
Variable unit_lower_inverse(const Variable& g) {
  const int64_t n = g.size(0), size = g.size(1);
  Variable inverse = mask(n, size, g, [](int64_t t, int64_t s) { return t == s; });
  for (int64_t block = 1; block < size; block *= 2) {
    const Variable between =
        multiply(g, mask(n, size, g, [&](int64_t t, int64_t s) {
                   return t / (2 * block) == s / (2 * block) && t / block > s / block;
                 }));
    const Variable below = block == 1 ? between : matmul(matmul(inverse, between), inverse);
    inverse = subtract(inverse, below);
  }
  return inverse;
}

class DeltaRule final : public MemoryModule {
 public:
  DeltaRule(const DeltaRuleOptions& o, const MemorySite& site)
      : o_(o), features_(site.features), head_size_(site.features / o.heads), layers_(site.layers) {
    require(site.features % o.heads == 0, "delta_rule: heads {} do not divide n_embd {}", o.heads,
            site.features);
    const auto linear = [&](const char* name, int64_t size) {
      return &child<Linear>(name, features_, size, LinearOptions{}, site.build);
    };
    key_ = linear("key", features_);
    query_ = linear("query", features_);
    value_ = linear("value", features_);
    output_ = linear("output", features_);
    const auto taps = [&](const char* name) {
      return o.taps > 1 ? parameter(name, first_taps(site.build)) : Variable();
    };
    key_taps_ = taps("key_taps");
    query_taps_ = taps("query_taps");
    value_taps_ = taps("value_taps");
    write_gate_ = linear("write_gate", o.heads);
    if (o.variant != "plain") keep_gate_ = linear("keep_gate", o.heads);
    if (o.variant == "momentum") momentum_gate_ = linear("momentum_gate", o.heads);
  }

  Variable after_block(const LayerView& view, MemoryState& state) override {
    const int64_t batch = view.hidden.size(0), time = view.hidden.size(1),
                  step = o_.form == "stepwise" ? 1 : std::min(time, o_.chunk_length);
    const std::string layer = std::to_string(view.layer);
    Variable before = value_or_none(state, layer + ".rows");
    const Rows rows = rows_of(layer_norm(view.hidden, {}, {}, 1e-5), before);
    if (before) state.values[layer + ".rows"] = before;
    Variable memory = read_state(state, layer + ".memory", rows.key);
    Variable going = momentum_gate_ ? read_state(state, layer + ".momentum", rows.key) : Variable();
    std::vector<Variable> reads;
    const int64_t whole = time / step * step;
    const auto part = [&](int64_t begin, int64_t end, int64_t length) {
      if (begin == end) return;
      reads.push_back(o_.form == "stepwise"
                          ? stepwise(rows, memory, going)
                          : chunked(slice_rows(rows, begin, end), length, memory, going));
    };
    part(0, whole, step);
    part(whole, time, time - whole);
    const Shape stored{batch, o_.heads, head_size_, head_size_};
    state.values[layer + ".memory"] = reshape(memory, stored);
    if (going) state.values[layer + ".momentum"] = reshape(going, stored);
    const Variable read = reads.size() == 1 ? reads[0] : concat(reads, 1);  // [B H, T, D]
    const Variable joined = transpose(reshape(read, {batch, o_.heads, time, head_size_}), 1, 2);
    return add(view.hidden, output_->forward(reshape(joined, {batch, time, features_})));
  }

  // Row i of a layer is what key feature i stores, in all heads: S[i, :] of each, side by side.
  std::vector<Variable> readable(const MemoryState& state, int64_t batch) const override {
    std::vector<Variable> rows;
    for (int64_t i = 0; i < layers_; ++i) {
      const auto memory = state.values.find(std::to_string(i) + ".memory");
      const Shape shape{batch, head_size_, features_};
      rows.push_back(
          memory == state.values.end()
              ? Variable(Tensor::zeros(shape, key_->weight().dtype(), key_->weight().device()))
              : reshape(transpose(memory->second, 1, 2), shape));
    }
    return rows;
  }

  bool incremental() const override { return true; }
  bool carries_memory() const override { return o_.carry_state; }
  double flops_per_token() const override {
    const double d = double(features_), h = double(head_size_), c = double(o_.chunk_length);
    return 8 * d * d + d * (8 * h + 6 * c);
  }

 private:
  // Nearly the row itself.
  Tensor first_taps(const Build& build) const {
    const NoGrad no_grad;
    std::vector<double> own(size_t(features_ * o_.taps), 0);
    for (int64_t i = 0; i < features_; ++i) own[size_t((i + 1) * o_.taps - 1)] = 1;
    const Variable noise(build.weights({features_, o_.taps}, 0.02));
    const Tensor one = Tensor::from<double>({features_, o_.taps}, own);
    return add(noise, Variable(one.to(build.dtype).to(build.device))).tensor();
  }
  // [B, T, H * D] -> [B H, T, D].
  Variable by_head(const Variable& x) const {
    const int64_t batch = x.size(0), time = x.size(1), size = x.size(2) / o_.heads;
    return reshape(transpose(reshape(x, {batch, time, o_.heads, size}), 1, 2),
                   {batch * o_.heads, time, size});
  }
  // The heads of x, each scaled to length 1.
  Variable direction(const Variable& x) const {
    const Variable ones(
        Tensor::full({head_size_}, 1 / std::sqrt(double(head_size_)), x.dtype(), x.device()));
    return rms_norm(by_head(x), ones, 1e-6);
  }
  // log(sigmoid(x + shift)).
  Variable log_gate(const Linear* gate, const Variable& x, double shift) const {
    return scale(softplus(affine(by_head(gate->forward(x)), -1, -shift)), -1);
  }
  // A projection, and over it a causal convolution a feature, so that a row may be known by those
  // right before it. `seen`: rows of before, `first` of them, and the rows at hand.
  Variable projected(const Linear* linear, const Variable& taps, const Variable& seen,
                     int64_t first) const {
    const Variable rows = linear->forward(seen);
    return taps ? slice(conv1d(rows, taps), 1, first, rows.size(1)) : rows;
  }
  // x [B, T, C], normed. `before`: rows that convolutions still see, kept for the next call.
  Rows rows_of(const Variable& x, Variable& before) const {
    const int64_t first = before ? before.size(1) : 0;
    const Variable seen = first > 0 ? concat({before, x}, 1) : x;
    Rows rows;
    rows.key = direction(projected(key_, key_taps_, seen, first));
    rows.query = direction(projected(query_, query_taps_, seen, first));
    rows.value = by_head(projected(value_, value_taps_, seen, first));
    if (key_taps_)
      before = slice(seen, 1, std::max<int64_t>(0, seen.size(1) - o_.taps + 1), seen.size(1));
    rows.write = scale(sigmoid(by_head(write_gate_->forward(x))), o_.write_limit);
    if (keep_gate_) rows.log_keep = log_gate(keep_gate_, x, 4);  // at first it keeps nearly all
    if (momentum_gate_) rows.log_go = log_gate(momentum_gate_, x, 0);
    return rows;
  }
  static Rows slice_rows(const Rows& rows, int64_t begin, int64_t end) {
    if (begin == 0 && end == rows.key.size(1)) return rows;
    const auto cut = [&](const Variable& v) { return v ? slice(v, 1, begin, end) : v; };
    return {cut(rows.key),   cut(rows.query),    cut(rows.value),
            cut(rows.write), cut(rows.log_keep), cut(rows.log_go)};
  }
  static Variable value_or_none(const MemoryState& state, const std::string& name) {
    const auto it = state.values.find(name);
    return it == state.values.end() ? Variable() : it->second;
  }
  // [B H, D, D]; zero at the beginning of a text.
  Variable read_state(const MemoryState& state, const std::string& name,
                      const Variable& like) const {
    const Shape shape{like.size(0), head_size_, head_size_};
    const auto it = state.values.find(name);
    if (it != state.values.end()) return reshape(it->second, shape);
    return Variable(Tensor::zeros(shape, like.dtype(), like.device()));
  }

  // The recurrence as it is written above.
  Variable stepwise(const Rows& rows, Variable& memory, Variable& going) const {
    std::vector<Variable> reads;
    for (int64_t t = 0; t < rows.key.size(1); ++t) {
      const Rows r = slice_rows(rows, t, t + 1);
      if (r.log_keep) memory = multiply(memory, exp(r.log_keep));
      const Variable wrong = subtract(r.value, matmul(r.key, memory));  // [B H, 1, D]
      Variable written = matmul(r.key, multiply(wrong, r.write), true);
      if (going) written = going = add(multiply(going, exp(r.log_go)), written);
      memory = add(memory, written);
      reads.push_back(matmul(r.query, memory));
    }
    return reads.size() == 1 ? reads[0] : concat(reads, 1);
  }

  // The same for rows that are whole chunks of `length`. S_t is linear in the memory before the chunk
  // and in the errors of its rows,
  //   S_t = A_t S + D_t U + sum over i <= t of C[t, i] b_i k_i r_i^T,
  // with A and E the products of a and of e, and C = A E; and each error is linear in those before
  // it, so that a triangular system gives all errors of a chunk: with
  //   G[t, i] = a_t C[t - 1, i] b_i (k_t . k_i), i < t,
  //   (I + G) r = v - A (K S) - (a_t D_(t-1)) (K U).
  // All of that but S and U is computed for all chunks at once.
  Variable chunked(const Rows& all, int64_t length, Variable& memory, Variable& going) const {
    const int64_t texts = all.key.size(0), chunks = all.key.size(1) / length, n = texts * chunks;
    const auto cut = [&](const Variable& v) { return v ? reshape(v, {n, length, v.size(2)}) : v; };
    const Variable k = cut(all.key), q = cut(all.query), v = cut(all.value), b = cut(all.write);
    const Variable log_keep = all.log_keep
                                  ? cut(all.log_keep)
                                  : Variable(Tensor::zeros({n, length, 1}, k.dtype(), k.device()));
    const Variable sums = cumulative_sum(log_keep, 1);  // of log a over 0 .. t
    const Variable a = exp(sums), keeps = decays(sums);
    Variable shares = keeps, go, go_from_start, start;  // C; E; E_t and D_t of the start
    if (going) {
      const Variable go_sums = cumulative_sum(cut(all.log_go), 1);
      go = decays(go_sums);
      go_from_start = exp(go_sums);
      shares = matmul(keeps, go);
      start = matmul(keeps, go_from_start);
    }
    // a_t C[t - 1, i] is C[t, i] without what row t itself adds, E[t, i].
    const Variable columns = expand(reshape(b, {n, 1, length}), 1, length);
    const Variable unit = mask(n, length, k, [](int64_t t, int64_t s) { return t == s; });
    const Variable before = subtract(shares, going ? go : unit);
    const Variable likeness = matmul(k, k, false, true);
    const Variable solved = unit_lower_inverse(multiply(multiply(likeness, before), columns));
    const Variable errors = matmul(solved, v), errors_of_memory = matmul(solved, multiply(k, a));
    const Variable errors_of_going =
        going ? matmul(solved, multiply(k, subtract(start, go_from_start))) : Variable();
    const Variable written = multiply(shares, columns);  // C[t, i] b_i
    const Variable reads_within = multiply(matmul(q, k, false, true), written);
    const Variable q_memory = multiply(q, a), q_going = going ? multiply(q, start) : Variable();
    const auto last = [&](const Variable& rows) {  // the last row of each chunk, as a column
      return reshape(slice(rows, 1, length - 1, length), {n, -1, 1});
    };
    const Variable k_end = multiply(k, last(written)), a_end = last(a);
    const Variable k_going = going ? multiply(k, last(multiply(go, columns))) : Variable(),
                   start_end = going ? last(start) : Variable(),
                   go_end = going ? last(go_from_start) : Variable();

    std::vector<Variable> reads;
    for (int64_t i = 0; i < chunks; ++i) {
      // Takes chunk i of every text.
      const auto at = [&](const Variable& x) {
        const Shape shape{texts, chunks, x.size(1), x.size(2)};
        return chunks == 1
                   ? x
                   : reshape(slice(reshape(x, shape), 1, i, i + 1), {texts, x.size(1), x.size(2)});
      };
      Variable error = subtract(at(errors), matmul(at(errors_of_memory), memory));
      Variable read = matmul(at(q_memory), memory);
      if (going) {
        error = subtract(error, matmul(at(errors_of_going), going));
        read = add(read, matmul(at(q_going), going));
      }
      reads.push_back(add(read, matmul(at(reads_within), error)));
      memory = add(multiply(memory, at(a_end)), matmul(at(k_end), error, true));
      if (!going) continue;
      memory = add(memory, multiply(going, at(start_end)));
      going = add(multiply(going, at(go_end)), matmul(at(k_going), error, true));
    }
    return reads.size() == 1 ? reads[0] : concat(reads, 1);
  }

  DeltaRuleOptions o_;
  int64_t features_, head_size_, layers_;
  Variable key_taps_, query_taps_, value_taps_;
  Linear *key_, *query_, *value_, *output_, *write_gate_;
  Linear *keep_gate_ = nullptr, *momentum_gate_ = nullptr;
};

REVERIE_REGISTER_MEMORY("delta_rule", DeltaRule, DeltaRuleOptions,
                        "fast weights written by the delta rule (arXiv 2102.11174), with decay "
                        "(2412.06464) and momentum (linear Titans, 2501.00663)");

}  // namespace
}  // namespace reverie
