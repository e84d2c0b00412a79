// Continuous thoughts after a text (Coconut: Hao et al. 2024, "Training Large Language Models to
// Reason in a Continuous Latent Space", arXiv 2412.06769), as latents of the base itself: each is
// the base's final hidden state at the row before it. They come one after another, so that N_L of
// them cost N_L passes, where a coprocessor makes all of its own in one.

#include <algorithm>

#include "autograd/ops/shape.h"
#include "layers/coprocessor/latent_source.h"

namespace reverie {
namespace {

struct ThoughtOptions final : Fieldset {
  int64_t count = 4;
  void fields(Fields& f) override {
    f.integer("count", count, {1, 4096}, "thoughts after each text (N_L), one pass each");
  }
};

class ContinuousThoughts final : public LatentSource {
 public:
  ContinuousThoughts(const ThoughtOptions& o, const LatentSite& site)
      : count_(o.count), base_(site.base) {}
  int64_t count() const override { return count_; }
  int64_t base_forwards() const override { return count_ - 1; }

  // A pass runs over all of a group's thoughts so far, and reads the text's keys and values where
  // they lie: the text, which is most of it, is never read again.
  Variable latents(const TextView& view) override {
    const Variable last = view.last_hidden();
    const int64_t batch = view.batch(), groups = view.groups(), all = batch * groups,
                  features = last.size(2);
    Variable thoughts = reshape(last, {all, 1, features});
    for (int64_t known = 1; known < count_; ++known) {
      const auto context = view.beside(known);
      const Variable rows = reshape(thoughts, {batch, groups * known, features});
      const Variable hidden =
          base_.blocks().forward(base_.placed(rows, context->positions()), *context);
      thoughts = concat(
          {thoughts, slice(reshape(hidden, {all, known, features}), 1, known - 1, known)}, 1);
    }
    return reshape(thoughts, {batch, groups * count_, features});
  }
  double flops_per_group(int64_t length) const override {
    const auto keys = [length](const LayerShape& layer) {
      return double(layer.window > 0 ? std::min(layer.window, length) : length);
    };
    return double(count_ * (count_ - 1) / 2) * base_.blocks().forward_flops_per_row(keys);
  }

 private:
  int64_t count_;
  const Transformer& base_;
};

const bool continuous_thoughts_registered =
    LatentRegistry::instance().add<ContinuousThoughts, ThoughtOptions>(
        "continuous_thoughts",
        "the base's own last hidden states, fed back (Coconut, Hao et al. 2024; needs train_base)");

}  // namespace
}  // namespace reverie
