// The coprocessor (Liu et al. 2024, "Deliberation in Latent Space via Differentiable Cache
// Augmentation", arXiv 2412.17747): a transformer that reads the base's keys and values of the
// text, and turns learned soft tokens into latents in one pass.

#include <algorithm>
#include <cmath>
#include <optional>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/coprocessor/latent_source.h"
#include "layers/row_context.h"

namespace reverie {
namespace {

struct CoprocessorOptions final : Fieldset {
  int64_t count = 8, rank = 16;
  double alpha = 16;
  std::string initial = "base", reads = "cache", writes = "embeddings", gain = "none",
              last = "state";
  std::optional<int64_t> n_layer, n_embd, n_head, n_hidden;
  void fields(Fields& f) override {
    f.integer("count", count, {1, 4096}, "latents after each text (N_L), one soft token each");
    f.text("initial", initial, {"base", "scratch", "lora"},
           "first weights: the base's own (the paper's default) or random ones; lora: the base's "
           "own, frozen, with trainable low-rank updates of its projections");
    f.integer("rank", rank, {1, 1 << 16}, "rank of the updates (lora)");
    f.number("alpha", alpha, {1e-6, 1e6}, "updates are multiplied by alpha / rank (lora)");
    f.text("reads", reads, {"cache", "last_hidden"},
           "cache: the base's keys and values of every layer; last_hidden: only its final hidden "
           "states (the paper's ablation)");
    f.text("writes", writes, {"embeddings", "cache"},
           "embeddings: final hidden states, which the base reads as input embeddings; cache: "
           "the keys and values of every layer, put into the base's cache before the text's last "
           "token (H1 of arXiv 2510.00494)");
    f.text("gain", gain, {"none", "embeddings", "zero"},
           "one learned factor of the states; none: no factor (the paper); embeddings: begins "
           "where latents are as large as the base's embeddings; zero: begins at 0");
    f.text("last", last, {"state", "token"},
           "form of the last latent, which predicts the next token; state: its own state (the "
           "paper); token: the state plus the embedding of the text's last token, so that it "
           "replaces that token");
    f.integer_or_auto("n_layer", n_layer, {1, 1000},
                      "blocks; auto: as many as the base's L. Block i of n, counted from 1, reads "
                      "the base's layer i L / n, rounded up, and begins with that layer's weights; "
                      "any other number cannot write the cache");
    f.integer_or_auto("n_embd", n_embd, {1, 1 << 20},
                      "width; auto: the base's. Any other width needs initial scratch, and one "
                      "more matrix maps latents to the base's width");
    f.integer_or_auto("n_head", n_head, {1, 4096},
                      "query heads, a multiple of the base's key heads, which they read; auto: "
                      "the base's. Any other number needs initial scratch");
    f.integer_or_auto("n_hidden", n_hidden, {1, 1 << 24},
                      "inner width of the MLPs; auto: the base's, in proportion to n_embd. Any "
                      "other width needs initial scratch");
  }
};

double root_mean_square(const Tensor& t) {
  double sum = 0;
  for (const double x : t.to_vector()) sum += x * x;
  return std::sqrt(sum / double(std::max<int64_t>(1, t.numel())));
}

// Final states are as large as the final norm's weights; embeddings, as rows drawn from the table.
double first_gain(const CoprocessorOptions& o, const LatentSite& site) {
  if (o.gain == "zero" || !site.build.initialize) return 0;
  double norm = 1;
  for (const auto& [name, parameter] : site.base.blocks().final_norm().state())
    if (name == "weight") norm = root_mean_square(parameter);
  Generator random(1);
  return root_mean_square(site.base.typical_rows(256, random)) / norm;
}

// The base's layer that block i of `blocks` reads, both counted from 0.
int64_t layer_read(int64_t i, int64_t blocks, int64_t base_layers) {
  return ((i + 1) * base_layers + blocks - 1) / blocks - 1;
}

TransformerShape shape_beside(const TransformerShape& base, const CoprocessorOptions& o) {
  TransformerShape s = base;
  s.memory = {};
  s.layers = o.n_layer.value_or(base.layers);
  s.features = o.n_embd.value_or(base.features);
  s.heads = o.n_head.value_or(base.heads);
  s.hidden = o.n_hidden.value_or(
      std::max<int64_t>(1, (base.hidden * s.features + base.features / 2) / base.features));
  s.per_layer.clear();
  for (int64_t i = 0; i < s.layers; ++i)
    s.per_layer.push_back(base.per_layer.at(size_t(layer_read(i, s.layers, base.layers))));
  require(
      s.heads % s.kv_heads == 0,
      "a coprocessor with {} query heads (n_head) cannot read the base's {} key heads; wanted a "
      "multiple",
      s.heads, s.kv_heads);
  require(o.initial == "scratch" ||
              (s.features == base.features && s.heads == base.heads && s.hidden == base.hidden),
          "a coprocessor of other widths than its base (n_embd {}, n_head {}, n_hidden {}, the "
          "base's are {}, {}, {}) cannot begin with its weights: wanted \"initial\": \"scratch\"",
          s.features, s.heads, s.hidden, base.features, base.heads, base.hidden);
  require(o.reads == "cache" || s.features == base.features,
          "a coprocessor that reads the base's last hidden states has their width {}; n_embd is {}",
          base.features, s.features);
  require(o.writes == "embeddings" || s.layers == base.layers,
          "a coprocessor that writes into the base's cache fills all its {} layers; n_layer is {}",
          base.layers, s.layers);
  return s;
}

class Coprocessor final : public LatentSource {
 public:
  Coprocessor(const CoprocessorOptions& o, const LatentSite& site)
      : count_(o.count),
        base_layers_(site.base.shape().layers),
        last_hidden_(o.reads == "last_hidden"),
        writes_cache_(o.writes == "cache"),
        last_token_(o.last == "token"),
        base_(site.base) {
    require(
        !writes_cache_ || (o.gain == "none" && !last_token_),
        "a coprocessor that writes into the base's cache has no states to change: leave \"gain\" "
        "none and \"last\" state");
    const TransformerShape &base = site.base.shape(), shape = shape_beside(base, o);
    layers_ = shape.layers;
    soft_tokens_ = parameter("soft_tokens", shape.features == base.features
                                                ? site.base.typical_rows(o.count, site.build.random)
                                                : site.build.weights({o.count, shape.features}, 1));
    Build build = site.build;
    build.initialize = site.build.initialize && o.initial == "scratch";
    blocks_ = &child<BlockStack>("", shape, build);
    if (o.initial != "scratch") begin_with(site.base.blocks(), o, site.build);
    if (writes_cache_) blocks_->freeze_behind_keys();
    if (!writes_cache_ && shape.features != base.features)
      to_base_ = &child<Linear>(
          "to_base", shape.features, base.features,
          LinearOptions{.bias = false, .stddev = 1 / std::sqrt(double(shape.features))},
          site.build);
    if (o.gain != "none")
      gain_ = parameter(
          "gain", Tensor::full({1}, first_gain(o, site), site.build.dtype, site.build.device));
  }

  int64_t count() const override { return count_; }
  bool writes_cache() const override { return writes_cache_; }

  bool asks_for_whole_text() const override { return last_hidden_; }

  Variable latents(const TextView& view) override {
    const Variable rows = for_each_group(soft_tokens_, view.limits());
    if (!last_hidden_) {
      std::vector<int64_t> read;
      for (int64_t i = 0; i < layers_; ++i)
        read.push_back(layer_read(i, layers_, view.base_layers()));
      return latents_of(rows, *view.beside(count_, read), view);
    }
    // Keys and values are the coprocessor's own, made from the base's last states.
    const Variable hidden = view.whole(*this).hidden;
    CausalContext plain(hidden.size(1));
    const KeyValues text = blocks_->keys_and_values(hidden, plain);
    PackedGroupsContext beside(text, view.limits(), count_);
    return latents_of(rows, beside, view);
  }

  double flops_per_group(int64_t length) const override {
    const auto keys = [length](const LayerShape& layer) {
      return double(layer.window > 0 ? std::min(layer.window, length) : length);
    };
    const double of_row = blocks_->forward_flops_per_row(keys) +
                          (to_base_ ? 2 * double(to_base_->weight().tensor().numel()) : 0);
    return double(count_) * of_row;
  }

 private:
  // The embedding of the last token that each group sees, added to its last latent.
  Variable with_last_tokens(const Variable& states, const TextView& view) const {
    const int64_t all_groups = view.batch() * view.groups(), features = states.size(2);
    const Variable grouped = reshape(states, {all_groups, count_, features}),
                   rows = reshape(base_.token_rows(view.last_tokens()), {all_groups, 1, features}),
                   end = add(slice(grouped, 1, count_ - 1, count_), rows);
    const Variable all = count_ == 1 ? end : concat({slice(grouped, 1, 0, count_ - 1), end}, 1);
    return reshape(all, {view.batch(), view.groups() * count_, features});
  }

  void begin_with(const BlockStack& base, const CoprocessorOptions& o, const Build& build) {
    const bool borrowed = o.initial == "lora";
    require(!borrowed || !base.trained(),
            "a coprocessor with \"initial\": \"lora\" computes with the base's own weights, "
            "which must stay frozen: set train_base to false, or \"initial\" to \"base\"");
    const auto take = [&](Module& mine, const Module& its) {
      if (borrowed)
        mine.borrow(its);
      else if (build.initialize)
        mine.load(its.state());
    };
    for (int64_t i = 0; i < layers_; ++i)
      take(blocks_->block(i), base.block(layer_read(i, layers_, base_layers_)));
    take(blocks_->final_norm(), base.final_norm());
    if (borrowed) add_low_rank_updates(*blocks_, o.rank, o.alpha, build);
  }

  Variable latents_of(const Variable& rows, RowContext& context, const TextView& view) {
    if (writes_cache_) return packed_cache(blocks_->keys_and_values(rows, context));
    Variable states = blocks_->forward(rows, context);
    if (to_base_) states = to_base_->forward(states);
    if (gain_) states = multiply(states, gain_);
    return last_token_ ? with_last_tokens(states, view) : states;
  }

  int64_t count_, layers_ = 0, base_layers_;
  bool last_hidden_, writes_cache_, last_token_;
  const Transformer& base_;
  Variable soft_tokens_, gain_;
  BlockStack* blocks_;
  Linear* to_base_ = nullptr;
};

const bool coprocessor_registered = LatentRegistry::instance().add<Coprocessor, CoprocessorOptions>(
    "coprocessor", "a transformer that reads the base's KV cache (Liu et al. 2024)");

}  // namespace
}  // namespace reverie
