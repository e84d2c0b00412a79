// A memory that fades: an exponential moving average of a projection of the hidden state, read back
// through a gate.
//
//   v_t = W h_t                                what is written at row t
//   m_t = decay * m_(t-1) + (1 - decay) * v_t  the memory
//   out_t = h_t + sigmoid(G h_t) * m_t         read, as far as the gate lets it through
//
// m_t depends on rows 0..t alone, so it is causal.

#include <cmath>
#include <string>
#include <vector>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/shape.h"
#include "core/config.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

REVERIE_PLUGIN();

namespace {

using namespace reverie;

struct DecayOptions final : Fieldset {
  double decay = 0.9;
  bool carry_state = false;
  void fields(Fields& f) override {
    f.number("decay", decay, {0, 0.9999},
             "share of the memory that stays from one row to the next");
    f.boolean("carry_state", carry_state, "keep the memory from one training window to the next");
  }
};

class DecayMemory final : public MemoryModule {
 public:
  DecayMemory(const DecayOptions& options, const MemorySite& site)
      : decay_(options.decay), carry_state_(options.carry_state), features_(site.features) {
    write_ = &child<Linear>("write", features_, features_, LinearOptions{}, site.build);
    gate_ = &child<Linear>("gate", features_, features_, LinearOptions{}, site.build);
  }

  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable& x = view.hidden;  // [B, T, features]
    const int64_t batch = x.size(0), time = x.size(1);

    // The memory before the first row stands in front of what is written: [B, 1 + T, features].
    Variable& memory = state.values[std::to_string(view.layer) + ".memory"];
    if (!memory) memory = Variable(Tensor::zeros({batch, 1, features_}, x.dtype(), x.device()));
    const Variable written = concat({memory, write_->forward(x)}, 1);

    // One matrix product does all rows at once.
    const Variable memories =
        matmul(expand(weights(time, x), 0, batch), written);  // [B, T, features]
    memory = slice(memories, 1, time - 1, time);
    return add(x, multiply(memories, sigmoid(gate_->forward(x))));
  }

  bool incremental() const override { return true; }  // the state holds all that earlier rows left
  bool carries_memory() const override { return carry_state_; }
  double flops_per_token() const override { return 4.0 * double(features_ * features_); }

 private:
  // [1, T, 1 + T]: how much row t keeps of the memory before row 0 (first column) and of what row s
  // wrote.
  Variable weights(int64_t time, const Variable& like) const {
    std::vector<double> w(size_t(time * (time + 1)), 0.0);
    for (int64_t t = 0; t < time; ++t) {
      double* row = &w[size_t(t * (time + 1))];
      row[0] = std::pow(decay_, double(t + 1));
      for (int64_t s = 0; s <= t; ++s) row[1 + s] = (1 - decay_) * std::pow(decay_, double(t - s));
    }
    const Tensor made = Tensor::from<double>({1, time, time + 1}, w);
    return Variable(made.to(like.dtype()).to(like.device()));
  }

  double decay_;
  bool carry_state_;
  int64_t features_;
  Linear *write_, *gate_;
};

REVERIE_REGISTER_MEMORY("decay", DecayMemory, DecayOptions,
                        "exponential moving average of a projection, read through a gate");

}  // namespace
