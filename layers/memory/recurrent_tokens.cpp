// Memory rows in front of every window: the Recurrent Memory Transformer (Bulatov et al. 2022, arXiv
// 2207.06881) with a causal write. There, rows behind the window write; here, the window's last rows
// do, which know what is in front of them:
//   rows of the first window   P              learned, [N, d]
//   rows of each later one     P + W z + b    z: final states of the last N rows before it
// Without carry_state every window is a first one.
// Every row of a window sees the memory rows. The gradient flows from window to window.

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie {
namespace {

struct RecurrentTokensOptions final : Fieldset {
  int64_t count = 8;
  bool carry_state = false;
  void fields(Fields& f) override {
    f.integer("count", count, kPositive, "memory rows in front of a window");
    f.boolean("carry_state", carry_state,
              "write them from one training window of a text for the next");
  }
};

class RecurrentTokens final : public MemoryModule {
 public:
  RecurrentTokens(const RecurrentTokensOptions& o, const MemorySite& site) : o_(o) {
    rows_ = parameter("rows", site.build.weights({o.count, site.features}, 0.02));
    if (o.carry_state)
      write_ = &child<Linear>("write", site.features, site.features, LinearOptions{}, site.build);
  }

  Variable rows_before(int64_t batch, MemoryState& state) override {
    const Variable learned = expand(reshape(rows_, {1, o_.count, rows_.size(1)}), 0, batch);
    const auto last = state.values.extract("last");
    return last ? add(learned, write_->forward(last.mapped())) : learned;
  }
  void after_rows(const Variable& final_states, MemoryState& state) override {
    if (!o_.carry_state) return;
    Variable& last = state.values["last"];
    const Variable all = last ? concat({last, final_states}, 1) : final_states;
    last = slice(all, 1, all.size(1) - o_.count, all.size(1));
  }

  // The rows that write the next window's, of no layer in particular.
  std::vector<Variable> readable(const MemoryState& state, int64_t batch) const override {
    if (!o_.carry_state) return {};
    if (const auto last = state.values.find("last"); last != state.values.end())
      return {last->second};
    return {
        Variable(Tensor::zeros({batch, o_.count, rows_.size(1)}, rows_.dtype(), rows_.device()))};
  }

  bool incremental() const override { return true; }
  bool carries_memory() const override { return o_.carry_state; }

 private:
  RecurrentTokensOptions o_;
  Variable rows_;
  Linear* write_ = nullptr;
};

REVERIE_REGISTER_MEMORY(
    "recurrent_tokens", RecurrentTokens, RecurrentTokensOptions,
    "memory rows in front of each window, written by the one before (RMT, arXiv "
    "2207.06881)");

}  // namespace
}  // namespace reverie
