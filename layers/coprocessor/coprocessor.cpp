// The coprocessor (Liu et al. 2024, "Deliberation in Latent Space via Differentiable Cache
// Augmentation", arXiv 2412.17747): a transformer of the base's shape that reads the base's keys
// and values of the text, and turns learned soft tokens into latents in one pass.

#include <algorithm>

#include "core/error.h"
#include "layers/coprocessor/latent_source.h"
#include "layers/row_context.h"

namespace reverie {
namespace {

struct CoprocessorOptions final : Fieldset {
  int64_t count = 8, rank = 16;
  double alpha = 16;
  std::string initial = "base", reads = "cache";
  void fields(Fields& f) override {
    f.integer("count", count, {1, 4096}, "latents after each text (N_L), one soft token each");
    f.text("initial", initial, {"base", "scratch", "lora"},
           "first weights: the base's own (the paper's default) or random ones; lora: the base's "
           "own, frozen, with trainable low-rank updates of its projections");
    f.integer("rank", rank, {1, 1 << 16}, "of the updates (lora)");
    f.number("alpha", alpha, {1e-6, 1e6}, "updates are multiplied by alpha / rank (lora)");
    f.text("reads", reads, {"cache", "last_hidden"},
           "of the text: the base's keys and values of every layer, or only its final hidden "
           "states (the paper's ablation)");
  }
};

class Coprocessor final : public LatentSource {
 public:
  Coprocessor(const CoprocessorOptions& o, const LatentSite& site)
      : count_(o.count), last_hidden_(o.reads == "last_hidden") {
    const TransformerShape& shape = site.base.shape();
    soft_tokens_ = parameter("soft_tokens", site.base.typical_rows(o.count, site.build.random));
    Build build = site.build;
    build.initialize = site.build.initialize && o.initial == "scratch";
    blocks_ = &child<BlockStack>("", shape, build);
    if (o.initial == "base") blocks_->load(site.base.blocks().state());
    if (o.initial == "lora") {
      require(
          !site.base.trained(),
          "a coprocessor with \"initial\": \"lora\" computes with the base's own weights, which "
          "stay as they are: leave train_base false, or begin with \"base\"");
      blocks_->borrow(site.base.blocks());
      add_low_rank_updates(*blocks_, o.rank, o.alpha, site.build);
    }
  }

  int64_t count() const override { return count_; }

  Variable latents(const TextView& view) override {
    const Variable rows = for_each_group(soft_tokens_, view.limits);
    if (!last_hidden_) {
      GroupedRows context(view.text, view.limits, count_);
      return blocks_->forward(rows, context);
    }
    // Keys and values of the text are then the coprocessor's own, made from the base's last states.
    KeyValues own;
    RecordedRows text(view.hidden.size(1), own);
    blocks_->forward(view.hidden, text);
    GroupedRows context(own, view.limits, count_);
    return blocks_->forward(rows, context);
  }

  double flops_per_group(int64_t length) const override {
    const auto keys = [length](const LayerShape& layer) {
      return double(layer.window > 0 ? std::min(layer.window, length) : length);
    };
    return double(count_) * blocks_->forward_flops_per_row(keys);
  }

 private:
  int64_t count_;
  bool last_hidden_;
  Variable soft_tokens_;
  BlockStack* blocks_;
};

const bool registered = LatentRegistry::instance().add<Coprocessor, CoprocessorOptions>(
    "coprocessor", "a transformer of the base's shape that reads its KV cache (Liu et al. 2024)");

}  // namespace
}  // namespace reverie
