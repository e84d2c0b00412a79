// A bank of slots with input and forget gates, read by cross-attention: LM2 (Kang et al. 2025, arXiv
// 2502.06049; convergence-ai/lm2), in a causal form and as published.
//
// The text is taken in chunks of as many rows as there are slots N: row i of a chunk writes slot i.
// With the bank M [N, d] that the chunk begins with (the identity at first) and h = LN(x):
//   e_i  = softmax(W_q h_i (W_k M)^T / sqrt(d)) W_v M
//   M'_i = sigmoid(in_i) tanh(e_i) + sigmoid(W_f h_i) M_i
//   x_i  = x_i + sigmoid(W_o h_i) M'_i,   and M' is the next chunk's bank
//   causal        in_i = W_i h_i, and every row sees all slots
//   as_published  in = W_i mean over the rows of the chunk of relu(w h), the same for all rows: it
//                 LEAKS the future; row i sees slots 0 .. i, which is the published mask
// LM2 demands a window of N rows, and passes one bank from layer to layer; here a window may have any
// number of chunks, and every layer has a bank of its own.

#include <algorithm>
#include <cmath>
#include <vector>

#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie {
namespace {

struct GatedSlotsOptions final : Fieldset {
  std::string mode = "causal";
  int64_t num_slots = 16;
  bool carry_state = false;
  void fields(Fields& f) override {
    f.text(
        "mode", mode, {"causal", "as_published"},
        "as_published: the input gate reads a mean over all rows of a chunk, future included (it "
        "LEAKS); causal: a gate for each row");
    f.integer("num_slots", num_slots, kPositive, "slots, and rows of a chunk");
    f.boolean("carry_state", carry_state,
              "keep the bank from one training window to the next of the same text (causal)");
  }
};

class GatedSlots final : public MemoryModule {
 public:
  GatedSlots(const GatedSlotsOptions& o, const MemorySite& site)
      : o_(o), features_(site.features), layers_(site.layers) {
    if (o.carry_state && !incremental())
      throw ConfigError("gated_slots as_published needs whole chunks: carry_state does not apply");
    const auto linear = [&](const char* name) {
      return &child<Linear>(name, features_, features_, LinearOptions{}, site.build);
    };
    query_ = linear("query");
    key_ = linear("key");
    value_ = linear("value");
    input_gate_ = linear("input_gate");
    forget_gate_ = linear("forget_gate");
    output_gate_ = linear("output_gate");
    if (!incremental())
      mean_weight_ = parameter("mean_weight",
                               Tensor::full({features_}, 1, site.build.dtype, site.build.device));
  }

  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable& x = view.hidden;
    const int64_t batch = x.size(0), time = x.size(1);
    const std::string layer = std::to_string(view.layer) + ".";
    const Variable h = layer_norm(x, {}, {}, 1e-5);
    Variable& bank = state.values[layer + "bank"];
    if (!bank) bank = identity(batch, x);
    int64_t& row = state.counters[layer + "row"];  // of the chunk, where the next row goes
    std::vector<Variable> changed;
    for (int64_t begin = 0; begin < time;) {
      const int64_t end = std::min(time, begin + o_.num_slots - row);
      const Variable written = write(slice(h, 1, begin, end), bank, row);
      changed.push_back(written);
      keep(state, layer + "written", written);
      row += end - begin;
      begin = end;
      if (row < o_.num_slots) continue;
      row = 0;
      bank = state.values.at(layer + "written");
      state.values.erase(layer + "written");
    }
    const Variable slots = changed.size() == 1 ? changed[0] : concat(changed, 1);
    return add(x, multiply(slots, sigmoid(output_gate_->forward(h))));
  }

  // The banks that the next chunk begins with.
  std::vector<Variable> readable(const MemoryState& state, int64_t batch) const override {
    std::vector<Variable> rows;
    for (int64_t i = 0; incremental() && i < layers_; ++i) {
      const auto bank = state.values.find(std::to_string(i) + ".bank");
      rows.push_back(bank == state.values.end() ? identity(batch, query_->weight()) : bank->second);
    }
    return rows;
  }

  bool incremental() const override { return o_.mode == "causal"; }
  bool carries_memory() const override { return o_.carry_state; }
  double flops_per_token() const override {
    const double d = double(features_), n = double(o_.num_slots);
    return 12 * d * d + 4 * n * d;  // the bank's keys and values are of a slot for each row
  }

 private:
  Variable identity(int64_t batch, const Variable& like) const {
    std::vector<double> eye(size_t(o_.num_slots * features_), 0);
    for (int64_t i = 0; i < std::min(o_.num_slots, features_); ++i)
      eye[size_t(i * features_ + i)] = 1;
    const Variable one(
        Tensor::from<double>({1, o_.num_slots, features_}, eye).to(like.dtype()).to(like.device()));
    return expand(one, 0, batch);
  }
  // The slots that rows h [B, n, d] of a chunk write, the first of which is its row `row`.
  Variable write(const Variable& h, const Variable& bank, int64_t row) const {
    const int64_t batch = h.size(0), rows = h.size(1);
    const Variable scores = matmul(query_->forward(h), key_->forward(bank), false, true);
    Tensor valid;
    if (!incremental()) {
      std::vector<int32_t> first;
      for (int64_t b = 0; b < batch; ++b)
        for (int64_t i = 0; i < rows; ++i) first.push_back(int32_t(row + i + 1));
      valid = Tensor::from<int32_t>({batch, rows}, first).to(h.device());
    }
    const Variable weights = softmax(scores, 1 / std::sqrt(double(features_)), valid);
    const Variable read = tanh(matmul(weights, value_->forward(bank)));
    const Variable old =
        multiply(slice(bank, 1, row, row + rows), sigmoid(forget_gate_->forward(h)));
    return add(multiply(read, sigmoid(input_gate(h))), old);
  }
  Variable input_gate(const Variable& h) const {
    if (incremental()) return input_gate_->forward(h);
    const Variable all = mean(relu(multiply(h, mean_weight_)), 1);  // [B, d], over the whole chunk
    return expand(reshape(input_gate_->forward(all), {h.size(0), 1, features_}), 1, h.size(1));
  }
  static void keep(MemoryState& state, const std::string& name, const Variable& written) {
    const auto before = state.values.find(name);
    state.values[name] =
        before == state.values.end() ? written : concat({before->second, written}, 1);
  }

  GatedSlotsOptions o_;
  int64_t features_, layers_;
  Variable mean_weight_;
  Linear *query_, *key_, *value_, *input_gate_, *forget_gate_, *output_gate_;
};

REVERIE_REGISTER_MEMORY("gated_slots", GatedSlots, GatedSlotsOptions,
                        "slots with input and forget gates (LM2, arXiv 2502.06049): causal, and as "
                        "published (leaks)");

}  // namespace
}  // namespace reverie
