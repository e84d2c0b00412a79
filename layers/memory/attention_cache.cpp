// Attention over rows of earlier windows, whose hidden states are kept without their gradient, as in
// Transformer-XL (Dai et al. 2019, arXiv 1901.02860). There the block's own attention reads the cached
// rows; here an attention of its own does, behind each block, with weights that all layers share:
//   h = LN(x), keys and values of [cached h; h], queries of h, rotary positions that go on
//   x_t = x_t + W_o attention of row t to rows t - length .. t
// The cache holds the last `length` rows of every layer's h, so that the reach grows by `length` a
// layer.

#include "autograd/ops/attention.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie {
namespace {

constexpr double kRotaryBase = 10000;

struct AttentionCacheOptions final : Fieldset {
  int64_t length = 64, heads = 2;
  double dropout = 0;
  bool carry_state = false;
  void fields(Fields& f) override {
    f.integer("length", length, kPositive, "rows before its own that a row sees");
    f.integer("heads", heads, kPositive, "attention heads");
    f.number("dropout", dropout, {0, 0.99}, "dropout of the attention's probabilities");
    f.boolean("carry_state", carry_state,
              "keep the cache from one training window to the next of the same text");
  }
};

class AttentionCache final : public MemoryModule {
 public:
  AttentionCache(const AttentionCacheOptions& o, const MemorySite& site)
      : o_(o), features_(site.features), layers_(site.layers) {
    require(features_ % (2 * o.heads) == 0,
            "attention_cache: n_embd {} is not heads {} times an even number", features_, o.heads);
    const auto linear = [&](const char* name) {
      return &child<Linear>(name, features_, features_, LinearOptions{}, site.build);
    };
    query_ = linear("query");
    key_ = linear("key");
    value_ = linear("value");
    output_ = linear("output");
  }

  Variable after_block(const LayerView& view, MemoryState& state) override {
    const Variable h = layer_norm(view.hidden, {}, {}, 1e-5);
    Variable& cached = state.values[std::to_string(view.layer) + ".rows"];
    const int64_t before = cached ? cached.size(1) : 0;
    const Variable seen = before > 0 ? concat({cached, h}, 1) : h;
    AttentionSpec spec;
    spec.heads = spec.kv_heads = o_.heads;
    spec.first_position = before;
    spec.window = o_.length + 1;
    if (training()) spec.dropout = o_.dropout;
    const Variable query = rope(query_->forward(h), o_.heads, kRotaryBase, before),
                   key = rope(key_->forward(seen), o_.heads, kRotaryBase, 0);
    const Variable read = attention(query, key, value_->forward(seen), spec);
    const int64_t rows = seen.size(1);
    cached = slice(seen, 1, std::max<int64_t>(0, rows - o_.length), rows).detach();
    return add(view.hidden, output_->forward(read));
  }

  // The cached rows, behind zeros where the text was shorter.
  std::vector<Variable> readable(const MemoryState& state, int64_t batch) const override {
    std::vector<Variable> rows;
    for (int64_t i = 0; i < layers_; ++i) {
      const auto cached = state.values.find(std::to_string(i) + ".rows");
      const Variable known = cached == state.values.end() ? Variable() : cached->second;
      const int64_t missing = o_.length - (known ? known.size(1) : 0);
      if (missing == 0) {
        rows.push_back(known);
        continue;
      }
      const Variable zeros(Tensor::zeros({batch, missing, features_}, query_->weight().dtype(),
                                         query_->weight().device()));
      rows.push_back(known ? concat({zeros, known}, 1) : zeros);
    }
    return rows;
  }

  bool incremental() const override { return true; }
  bool carries_memory() const override { return o_.carry_state; }
  double flops_per_token() const override {
    return 8 * double(features_ * features_) + 4 * double(features_ * o_.length);
  }

 private:
  AttentionCacheOptions o_;
  int64_t features_, layers_;
  Linear *query_, *key_, *value_, *output_;
};

REVERIE_REGISTER_MEMORY("attention_cache", AttentionCache, AttentionCacheOptions,
                        "attention to hidden states of earlier windows, gradient stopped "
                        "(Transformer-XL, arXiv 1901.02860)");

}  // namespace
}  // namespace reverie
