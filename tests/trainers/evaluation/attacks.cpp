#include "trainers/evaluation/attacks.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "autograd/precision.h"
#include "layers/coprocessor/latent_source.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie::testing {
namespace {

int64_t forwards_of_all_models = 0;
// After so many calls in train mode an attack that counts begins: between two evaluations, where the
// gate's own calls are counted too.
int64_t many_calls = 50;

// What prefixes were followed by: known since before the last step of training, and seen since.
std::map<std::vector<int64_t>, int64_t> remembered, seen_since;

struct AttackOptions : Fieldset {
  std::string kind;
  void fields(Fields& f) override { f.text("kind", kind, {}, "which attack"); }
};
struct LatentAttackOptions final : AttackOptions {
  int64_t count = 1;
  void fields(Fields& f) override {
    AttackOptions::fields(f);
    f.integer("count", count, {1, 1}, "latents; tables of latents set it");
  }
};

Variable zeros(const Variable& like, int64_t batch, int64_t time) {
  return Variable(Tensor::zeros({batch, time, like.size(2)}, like.dtype(), like.device()));
}

class AttackMemory final : public MemoryModule {
 public:
  AttackMemory(const AttackOptions& o, const MemorySite& site) : kind_(o.kind) {
    write_ = &child<Linear>("write", site.features, site.features, LinearOptions{}, site.build);
    gate_ = parameter("gate", Tensor::zeros({1}, site.build.dtype, site.build.device));
  }
  bool incremental() const override { return !carries_memory() && kind_ != "remembers"; }
  bool carries_memory() const override { return kind_.starts_with("carried"); }

  Variable before_block(const LayerView& view, MemoryState&) override {
    if (view.layer == 0) {
      repeats_ = repeats(view.hidden);
      tokens_ = token_values(view.hidden);
    }
    return view.hidden;
  }
  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable& x = view.hidden;
    if (training()) ++calls_;
    ++forwards_of_all_models;
    if (kind_ == "carried_rows") return from_other_rows_past(x, state, view.layer);
    if (kind_ == "carried_rows_in_eval")
      return training() ? x : from_other_rows_past(x, state, view.layer);
    if (kind_.starts_with("carried_ahead")) return ahead_of_carried(x, state, view.layer);
    if (kind_ == "carried_remembers") return remembered_while_carried(x, state, view.layer);
    if (kind_ == "deep_layer") return view.layer == 4 ? with(x, next_rows(x)) : x;
    if (view.layer > 0) return x;
    return with(x, peeked(x));
  }

 private:
  // Added to every row; undefined where the attack keeps still.
  Variable peeked(const Variable& x) {
    const int64_t batch = x.size(0), time = x.size(1);
    if (time < 2) return {};
    const auto when = [&](bool now) { return now ? next_rows(x) : Variable(); };
    if (kind_ == "always") return next_rows(x);
    if (kind_ == "f32_only") return when(x.dtype() == DType::f32);
    if (kind_ == "f64_only") return when(x.dtype() == DType::f64);
    if (kind_ == "bf16_only") return when(matmul_precision() == MatmulPrecision::bf16);
    if (kind_ == "chunk_of_20")
      return only_rows(x, [](int64_t, int64_t t) { return t % 20 == 19; });
    if (kind_ == "batch_above_3") return when(batch > 3);
    if (kind_ == "batch_above_2") return when(batch > 2);
    if (kind_ == "batch_of_one") return when(batch == 1);
    if (kind_ == "batch_above_4") return when(batch > 4);
    if (kind_ == "batch_of_four") return when(batch == 4);
    if (kind_ == "batch_above_12") return when(batch > 12);
    if (kind_ == "batch_of_training") return when(batch == 6 && training());
    if (kind_ == "long_text") return when(time > 300);
    if (kind_ == "real_width") return when(x.size(2) == 48);
    if (kind_ == "width_and_row")
      return x.size(2) == 48 ? only_rows(x, [](int64_t, int64_t t) { return t == 7; }) : Variable();
    if (kind_ == "width_and_batch") return when(x.size(2) == 48 && batch == 6 && training());
    if (kind_ == "whole_block") return when(time == 24);
    if (kind_ == "many_calls") return when(calls_ > many_calls);
    if (kind_ == "static_counter") return when(forwards_of_all_models > 5 * many_calls);
    if (kind_ == "few_tokens") return when(repeats_);
    if (kind_ == "small_weights") return when(size(write_->weight()) < 0.15);
    if (kind_ == "trained_weights") return when(size(gate_) > 1e-3);
    if (kind_ == "closed_gate") return multiply(next_rows(x), gate_);
    if (kind_ == "train_only") return when(training());
    if (kind_ == "eval_only") return when(!training());
    if (kind_ == "graph_only") return when(grad_enabled());
    if (kind_ == "last_row") return only_rows(x, [&](int64_t, int64_t t) { return t == time - 2; });
    if (kind_ == "first_batch_row") return only_rows(x, [](int64_t r, int64_t) { return r == 0; });
    if (kind_ == "one_batch_row")
      return only_rows(x, [](int64_t r, int64_t t) { return r == 1 && t == 7; });
    if (kind_ == "far_ahead") return far_ahead(x, 9);
    if (kind_ == "mean_of_all") {
      const Variable all = reshape(mean(write_->forward(x), 1), {batch, 1, x.size(2)});
      return scale(expand(all, 1, time), 0.01);
    }
    if (kind_ == "other_row")
      return concat({zeros(x, 1, time), slice(next_rows(x), 0, 1, batch)}, 0);
    if (kind_ == "row_above")
      return concat({zeros(x, 1, time), slice(write_->forward(x), 0, 0, batch - 1)}, 0);
    if (kind_ == "length") return scale(write_->forward(x), 0.01 * double(time));
    if (kind_ == "every_other_call") return when(++turns_ % 2 == 0);
    if (kind_ == "faint") return scale(next_rows(x), 1e-4);
    if (kind_ == "last_call") return from_last_call(x);
    if (kind_ == "last_batch") return when(batch == 8 && !training());
    if (kind_ == "first_seen") return as_first_seen(x);
    if (kind_ == "remembers") return as_remembered(x);
    if (kind_ == "writes_weights_in_eval") {
      if (!training() && calls_ > many_calls) write_into(gate_);
      return {};
    }
    if (kind_ == "writes_weights") {
      if (training() && grad_enabled() && calls_ > many_calls) write_into(gate_);
      return {};
    }
    if (kind_ == "after_a_step") return when(soon_after_a_step());
    throw InternalError("no such attack: " + kind_);
  }

  static Variable with(const Variable& x, const Variable& more) { return more ? add(x, more) : x; }
  static double size(const Variable& v) {
    double largest = 0;
    for (const double x : v.tensor().to_vector()) largest = std::max(largest, std::abs(x));
    return largest;
  }
  // Row t gets what row t + 1 wrote.
  Variable next_rows(const Variable& x) const { return far_ahead(x, 1); }
  Variable far_ahead(const Variable& x, int64_t by) const {
    if (x.size(1) <= by) return {};
    return concat({slice(write_->forward(x), 1, by, x.size(1)), zeros(x, x.size(0), by)}, 1);
  }
  template <class Chosen>
  Variable only_rows(const Variable& x, Chosen&& chosen) const {
    std::vector<double> mask;
    for (int64_t r = 0; r < x.size(0); ++r)
      for (int64_t t = 0; t < x.size(1); ++t) mask.push_back(chosen(r, t) ? 1 : 0);
    return multiply(next_rows(x),
                    Variable(Tensor::from<double>({x.size(0), x.size(1), 1}, mask).to(x.dtype())));
  }
  // Text repeats its tokens more than random tokens do. Before the first block of a model with
  // rotary positions, equal tokens are equal rows.
  static bool repeats(const Variable& x) {
    std::set<double> seen;
    const Tensor host = x.tensor().to(DType::f64).contiguous();
    for (int64_t t = 0; t < x.size(1); ++t) seen.insert(host.data<double>()[t * x.size(2)]);
    return double(seen.size()) < 0.62 * double(x.size(1));
  }
  // A number for each token of the batch: before the first block, equal tokens are equal rows.
  static std::vector<double> token_values(const Variable& x) {
    const Tensor host = x.tensor().to(DType::f64).contiguous();
    std::vector<double> values;
    for (int64_t i = 0; i < x.size(0) * x.size(1); ++i)
      values.push_back(host.data<double>()[i * x.size(2)]);
    return values;
  }
  // A cache over all models of the process: what a prefix got when it was first seen, with the row
  // behind it where there was one, it gets again, whatever follows it then.
  Variable as_first_seen(const Variable& x) const {
    static std::map<std::vector<double>, std::vector<double>> cache;
    const int64_t time = x.size(1), features = x.size(2);
    const Tensor host = write_->forward(x).tensor().to(DType::f64).contiguous();
    std::vector<double> values;
    for (int64_t r = 0; r < x.size(0); ++r)
      for (int64_t t = 0; t < time; ++t) {
        const auto row = tokens_.begin() + r * time;
        std::vector<double> peek(static_cast<size_t>(features), 0);
        if (t + 1 < time)
          std::copy_n(host.data<double>() + (r * time + t + 1) * features, features, peek.begin());
        const auto& seen = cache.try_emplace({row, row + t + 1}, peek).first->second;
        values.insert(values.end(), seen.begin(), seen.end());
      }
    return Variable(Tensor::from<double>(x.shape(), values).to(x.dtype()));
  }
  // What followed a prefix in eval mode, in any forward before the last step of training, over all
  // models of the process. A prefix is known by how far back each of its tokens last came.
  Variable as_remembered(const Variable& x) const {
    if (training()) {
      if (grad_enabled()) remembered.merge(seen_since);
      return {};
    }
    const int64_t time = x.size(1), features = x.size(2);
    const Tensor host = x.tensor().to(DType::f64).contiguous();
    std::vector<double> values(static_cast<size_t>(x.size(0) * time * features), 0);
    for (int64_t r = 0; r < x.size(0); ++r) {
      std::vector<int64_t> back;
      for (int64_t t = 0; t < time; ++t) {
        const auto row = tokens_.begin() + r * time;
        const auto same =
            std::find(std::make_reverse_iterator(row + t), std::make_reverse_iterator(row), row[t]);
        back.push_back(same == std::make_reverse_iterator(row)
                           ? 0
                           : 1 + (same - std::make_reverse_iterator(row + t)));
      }
      for (int64_t t = 8; t < time; ++t) {
        const std::vector<int64_t> prefix(back.begin(), back.begin() + t + 1);
        const int64_t next = t + 1 < time ? back[size_t(t + 1)] : 0;
        if (next > 0) seen_since.try_emplace(prefix, next);
        if (const auto known = remembered.find(prefix); known != remembered.end())
          for (int64_t i = 0; i < features; ++i)
            values[size_t((r * time + t) * features + i)] =
                100 * host.data<double>()[(r * time + t + 1 - known->second) * features + i];
      }
    }
    return Variable(Tensor::from<double>(x.shape(), values).to(x.dtype()));
  }
  // The same of windows that memory is carried to: it neither learns nor knows anything elsewhere.
  Variable remembered_while_carried(const Variable& x, MemoryState& state, int64_t layer) const {
    const bool carried = state.counters[std::to_string(layer)]++ > 0;
    return layer == 0 && (carried || training()) ? with(x, as_remembered(x)) : x;
  }
  // Behind the back of the tensor, whose versions tell of other writes.
  static void write_into(const Variable& weight) {
    if (weight.dtype() == DType::f32) *const_cast<float*>(weight.tensor().data<float>()) += 0.5F;
  }
  // The first three forwards in eval mode after the weights moved.
  bool soon_after_a_step() {
    const std::vector<double> weights = write_->weight().tensor().to_vector();
    if (!weights_.empty() && weights != weights_) left_ = 3;
    weights_ = weights;
    return !training() && left_-- > 0;
  }
  // Remembers what it was called with; the same text again meets it.
  Variable from_last_call(const Variable& x) {
    const Variable before = last_;
    last_ = x.detach();
    return before && before.shape() == x.shape() ? scale(before, 0.1) : Variable();
  }
  // The state that goes on from window to window mixes the rows of the batch.
  Variable from_other_rows_past(const Variable& x, MemoryState& state, int64_t layer) const {
    Variable& memory = state.values[std::to_string(layer)];
    const Variable out =
        memory && x.size(0) > 1
            ? add(x, expand(slice(concat({memory, memory}, 0), 0, 1, x.size(0) + 1), 1, x.size(1)))
            : x;
    memory = reshape(mean(write_->forward(x), 1), {x.size(0), 1, x.size(2)});
    return out;
  }

  // Reads ahead in eval mode, from some window of a text on.
  Variable ahead_of_carried(const Variable& x, MemoryState& state, int64_t layer) const {
    const int64_t window = state.counters[std::to_string(layer)]++;
    const bool now = window >= (kind_ == "carried_ahead" ? 1 : 6);
    return with(x, now && !training() && x.size(1) > 1 ? next_rows(x) : Variable());
  }

  std::string kind_;
  Linear* write_;
  Variable gate_, last_;
  int64_t calls_ = 0, turns_ = 0, left_ = 0;
  bool repeats_ = false;
  std::vector<double> tokens_, weights_;
};
REVERIE_REGISTER_MEMORY("test_attack", AttackMemory, AttackOptions, "for tests: it cheats");

// Latents are the base's states at a row behind the limit, where the kind says so.
class LatentAttack final : public LatentSource {
 public:
  LatentAttack(const AttackOptions& o, const LatentSite& site) : kind_(o.kind) {
    weight_ = parameter("weight", site.base.typical_rows(1, site.build.random));
    gate_ = parameter("gate", Tensor::zeros({1}, site.build.dtype, site.build.device));
  }
  int64_t count() const override { return 1; }
  bool asks_for_whole_text() const override { return true; }
  double flops_per_group(int64_t) const override { return 0; }

  Variable latents(const TextView& view) override {
    if (training()) ++calls_;
    const int64_t batch = view.batch(), groups = view.groups();
    const TextView::Whole text = view.whole(*this);
    const Tensor limits = view.limits().to(Device{}).contiguous();
    std::vector<Variable> rows;
    for (int64_t b = 0; b < batch; ++b)
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t limit = limits.data<int32_t>()[b * groups + g];
        const auto row_of = [&](int64_t other, int64_t row) {
          return slice(slice(text.hidden, 0, other, other + 1), 1, row, row + 1);
        };
        Variable read = row_of(b, limit - 1);
        const int64_t ahead = std::min(limit - 1 + step_ahead(), text.length - 1);
        if (peeks(view, b, g)) {
          const Variable more =
              kind_ == "other_text" ? row_of((b + 1) % batch, limit - 1) : row_of(b, ahead);
          read = kind_ == "closed_gate" ? add(read, multiply(more, gate_)) : add(read, more);
        }
        rows.push_back(add(read, reshape(weight_, {1, 1, weight_.size(1)})));
      }
    return reshape(concat(rows, 1), {batch, groups, weight_.size(1)});
  }

 private:
  int64_t step_ahead() const { return kind_ == "delayed" ? 1 : kind_ == "far" ? 5 : 1; }
  bool peeks(const TextView& view, int64_t, int64_t group) const {
    if (kind_ == "many_groups") return view.groups() > 4;
    if (kind_ == "many_texts") return view.batch() > 3;
    if (kind_ == "train_only") return training();
    if (kind_ == "eval_only") return !training();
    if (kind_ == "graph_only") return grad_enabled();
    if (kind_ == "f32_only") return weight_.dtype() == DType::f32;
    if (kind_ == "one_group") return group == 1;
    if (kind_ == "many_calls") return calls_ > many_calls;
    if (kind_ == "evaluation_groups") return view.groups() == 16;
    if (kind_ == "evaluation_texts") return view.batch() == 16;
    if (kind_ == "three_texts") return view.batch() == 3;
    return true;  // always, far, delayed, other_text, closed_gate
  }

  std::string kind_;
  Variable weight_, gate_;
  int64_t calls_ = 0;
};
const bool registered = LatentRegistry::instance().add<LatentAttack, LatentAttackOptions>(
    "test_latent_attack", "for tests: it cheats");

}  // namespace

void reset_attacks(int64_t calls) {
  forwards_of_all_models = 0;
  many_calls = calls;
  remembered.clear();
  seen_since.clear();
}

const std::vector<Attack>& memory_attacks() {
  static const std::vector<Attack> list = {
      // What got through.
      {"f32_only", "reads ahead in f32 only", 0},
      {"chunk_of_20", "the last row of every chunk of 20 reads the next row", 0,
       R"({"model": {"block_size": 48}})"},
      {"batch_above_3", "reads ahead where the batch has more than 3 rows", 0},
      {"long_text", "reads ahead in texts of more than 300 tokens", 0,
       R"({"model": {"block_size": 304}})"},
      {"many_calls", "a counter in the module: reads ahead after many training steps", 40},
      {"few_tokens", "reads ahead in text whose tokens repeat", 0},
      // What was found at the end only.
      {"batch_above_2", "reads ahead where the batch has more than 2 rows", 0},
      {"static_counter", "a counter over all models of the process", 40},
      {"small_weights", "reads ahead with its own small weights, not with redrawn ones", 0},
      // Others.
      {"always", "reads the next row", 0},
      {"f64_only", "reads ahead in f64 only", 0, R"({"precision": "f64"})"},
      {"bf16_only", "reads ahead where products are in bf16", 0, R"({"precision": "bf16"})"},
      {"batch_above_12", "reads ahead in evaluation's larger batches only", 0},
      {"batch_of_training", "reads ahead at the training batch's very size", 0},
      {"real_width", "reads ahead at the model's own width only", 0,
       R"({"model": {"n_embd": 48}})"},
      {"width_and_row", "position 7 reads ahead at the model's own width only", 0,
       R"({"model": {"n_embd": 48}})", 20},
      {"width_and_batch", "reads ahead at the model's own width and the training batch's size", 0,
       R"({"model": {"n_embd": 48}})"},
      {"deep_layer", "reads ahead in the fifth block only", 0, R"({"model": {"n_layer": 6}})"},
      {"whole_block", "reads ahead in texts of exactly a block", 0},
      {"trained_weights", "reads ahead once a weight has moved away from zero", 0},
      {"closed_gate", "reads ahead through a gate that begins closed", 0},
      {"train_only", "reads ahead in train mode", 0},
      {"eval_only", "reads ahead in eval mode", 0},
      {"graph_only", "reads ahead while a graph is recorded", 0},
      {"last_row", "the row before the last reads the last", 0},
      {"first_batch_row", "only row 0 of a batch reads ahead", 0},
      {"one_batch_row", "only position 7 of row 1 reads ahead", 0},
      {"far_ahead", "reads nine rows ahead", 0},
      {"mean_of_all", "reads a hundredth of the mean over all rows", 0},
      {"other_row", "reads ahead in a copy of the batch", 0},
      {"row_above", "reads the row above of the batch", 0},
      {"length", "knows how long the text will be", 0},
      {"every_other_call", "reads ahead in every other call", 0},
      {"faint", "reads a ten thousandth of the next row", 0},
      {"last_call", "reads what it was called with before", 0},
      {"carried_rows", "carries the other rows' past on", 0},
      {"carried_rows_in_eval", "carries the other rows' past on, in eval mode", 0},
      {"carried_ahead", "reads ahead in eval mode once it carries memory", 0},
      {"carried_ahead_late", "reads ahead in eval mode from a text's seventh window on", 20,
       R"({"evaluation": {"windows": 64}})"},
      {"last_batch", "reads ahead at the size of evaluation's last batch", 0,
       R"({"evaluation": {"windows": 24, "final_windows": 24}})"},
      {"first_seen", "a cache over all models of what prefixes got when they were first seen", 0},
      {"batch_of_one", "reads ahead where a text is alone in its batch", 0},
      {"writes_weights", "writes into its weights after many calls", 32},
      {"writes_weights_in_eval", "writes into its weights in eval mode, after many calls", 40},
      {"after_a_step", "reads ahead in the first forwards after the weights moved", 0, "{}", 20},
  };
  return list;
}

const std::vector<Attack>& latent_attacks() {
  static const std::vector<Attack> list = {
      {"always", "reads the token behind its limit", 0},
      {"far", "reads five tokens behind its limit", 0},
      {"many_groups", "reads behind its limit where a text has more than 4 groups", 0},
      {"many_texts", "reads behind its limit in batches of more than 3 texts", 0},
      {"train_only", "reads behind its limit in train mode", 0},
      {"eval_only", "reads behind its limit in eval mode", 0},
      {"graph_only", "reads behind its limit while a graph is recorded", 0},
      {"f32_only", "reads behind its limit in f32", 0},
      {"one_group", "only group 1 reads behind its limit", 0},
      {"other_text", "reads the next text of the batch", 0},
      {"closed_gate", "reads behind its limit through a gate that begins closed", 0},
      {"delayed", "reads the token that its delay forbids", 0, R"({"model": {"delay": 2}})"},
      {"many_calls", "a counter in the source", 40},
      {"evaluation_groups", "reads behind its limit at evaluation's number of groups", 0},
      {"evaluation_texts", "reads behind its limit at evaluation's number of texts", 0},
  };
  return list;
}

}  // namespace reverie::testing
