// Continuous thoughts after a text (Coconut: Hao et al. 2024, "Training Large Language Models to
// Reason in a Continuous Latent Space", arXiv 2412.06769), as latents of the base itself: each is
// the base's final hidden state at the row before it. They come one after another, so that N_L of
// them cost N_L passes, where a coprocessor makes all of its own in one.

#include <algorithm>

#include "autograd/ops/embedding.h"
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

  // A pass runs over all of a group's thoughts so far, and reads the text's keys and values where
  // they lie: the text, which is most of it, is never read again.
  Variable latents(const TextView& view) override {
    const int64_t batch = view.limits.size(0), groups = view.limits.size(1), all = batch * groups,
                  features = view.hidden.size(2);
    Variable thoughts = reshape(last_rows(view), {all, 1, features});
    for (int64_t known = 1; known < count_; ++known) {
      GroupedRows context(view.text, view.limits, known);
      const Variable rows = reshape(thoughts, {batch, groups * known, features});
      const Variable hidden =
          base_.blocks().forward(base_.placed(rows, context.positions()), context);
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
  // The text's final hidden states at the last row that each group sees, [1, B * G, C].
  static Variable last_rows(const TextView& view) {
    const int64_t batch = view.limits.size(0), groups = view.limits.size(1),
                  time = view.hidden.size(1);
    const Tensor limits = view.limits.to(Device{}).contiguous();
    Tensor row = Tensor::empty({1, batch * groups}, DType::i32);
    for (int64_t i = 0; i < batch * groups; ++i)
      row.mutable_data<int32_t>()[i] = int32_t(i / groups * time + limits.data<int32_t>()[i] - 1);
    return embedding(row.to(view.hidden.device()),
                     reshape(view.hidden, {batch * time, view.hidden.size(2)}));
  }

  int64_t count_;
  const Transformer& base_;
};

const bool registered = LatentRegistry::instance().add<ContinuousThoughts, ThoughtOptions>(
    "continuous_thoughts",
    "the base's own last hidden states, fed back (Coconut, Hao et al. 2024; the base is to be "
    "trained)");

}  // namespace
}  // namespace reverie
