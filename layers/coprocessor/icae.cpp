// The in-context autoencoder (ICAE: Ge et al. 2024, "In-context Autoencoder for Context Compression
// in a Large Language Model", arXiv 2307.06945): the base with a low-rank update (LoRA) reads the
// text and learned memory embeddings behind it; its final hidden states there are slots that the
// frozen base reads instead of the text. They learn to let the base go on with the text, and, told
// by one more learned row, to give the text back.

#include <algorithm>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/coprocessor/latent_source.h"
#include "layers/linear.h"

namespace reverie {
namespace {

struct IcaeOptions final : Fieldset {
  int64_t count = 16, rank = 32;
  double alpha = 32, lm_ratio = 0.5;
  std::optional<int64_t> end_token;
  void fields(Fields& f) override {
    f.integer("count", count, {1, 4096}, "memory slots in place of each text (N_L)");
    f.integer("rank", rank, {1, 1 << 16}, "rank of the encoder's low-rank update (LoRA)");
    f.number("alpha", alpha, {1e-6, 1e6}, "the update is multiplied by alpha / rank");
    f.number(
        "lm_ratio", lm_ratio, {0.0, 1.0},
        "weight of the loss on the tokens ahead; the rest is the loss of reconstructing the text "
        "from its slots");
    f.integer_or_auto("end_token", end_token, kNonNegative,
                      "the token to be predicted at the end of a reconstructed text; auto: none");
  }
};

class Icae final : public LatentSource {
 public:
  Icae(const IcaeOptions& o, const LatentSite& site)
      : count_(o.count), own_share_(1 - o.lm_ratio), end_token_(o.end_token), base_(site.base) {
    require(!base_.blocks().trained(),
            "ICAE's decoder is the frozen base, and its encoder computes with the same weights: "
            "set train_base to false");
    require(!end_token_ || *end_token_ < base_.vocabulary_size(),
            "end_token {} is outside the base's vocabulary of {}", end_token_.value_or(0),
            base_.vocabulary_size());
    memory_ = parameter("memory", base_.typical_rows(count_, site.build.random));
    if (own_share_ > 0)
      give_back_ = parameter("give_back", base_.typical_rows(1, site.build.random));
    Build build = site.build;
    build.initialize = false;
    encoder_ = &child<BlockStack>("encoder", base_.shape(), build);
    encoder_->borrow(base_.blocks());
    add_low_rank_updates(*encoder_, o.rank, o.alpha, site.build);
  }

  int64_t count() const override { return count_; }
  GroupMask mask() const override { return {count_, false, false, true}; }
  bool asks_for_whole_text() const override { return true; }

  Variable latents(const TextView& view) override {
    const Tensor tokens = view.whole(*this).tokens;
    require(tokens.defined(),
            "ICAE reads the text's tokens with its own weights, but got only a cache");
    CausalContext rows(tokens.size(1));
    const KeyValues text =
        encoder_->keys_and_values(base_.placed(base_.token_rows(tokens), rows.positions()), rows);
    PackedGroupsContext context(text, view.limits(), count_);
    return encoder_->forward(
        base_.placed(for_each_group(memory_, view.limits()), context.positions()), context);
  }

  double own_share() const override { return own_share_; }
  // Each group's text, up to its limit, and the end token, from its slots.
  OwnLoss own_loss(const TextView& view, const Variable& latents) override {
    const TextView::Whole texts = view.whole(*this);
    const int64_t all = view.limits().numel(), groups = view.groups(), longest = texts.length;
    const Tensor limits = view.limits().to(Device{}).contiguous(),
                 tokens = texts.tokens.to(Device{}).contiguous();
    const int32_t* limit = limits.data<int32_t>();
    Tensor read = Tensor::empty({all, longest}, DType::i32),
           wanted = Tensor::empty({all, longest + 1}, DType::i32);
    OwnLoss loss;
    for (int64_t i = 0; i < all; ++i) {
      const int32_t* text = tokens.data<int32_t>() + i / groups * longest;
      std::copy(text, text + longest, read.mutable_data<int32_t>() + i * longest);
      int32_t* target = wanted.mutable_data<int32_t>() + i * (longest + 1);
      std::fill(std::copy(text, text + limit[i], target), target + longest + 1, -1);
      if (end_token_) target[limit[i]] = int32_t(*end_token_);
      loss.targets += limit[i] + (end_token_ ? 1 : 0);
    }
    const int64_t features = latents.size(2);
    CausalContext rows(count_ + 1 + longest);
    const Variable x =
        concat({reshape(latents, {all, count_, features}),
                reshape(for_each_group(give_back_, view.limits()), {all, 1, features}),
                base_.token_rows(read)},
               1);
    const Variable hidden = base_.blocks().forward(base_.placed(x, rows.positions()), rows);
    loss.sum = base_.loss_of(slice(hidden, 1, count_, count_ + 1 + longest), wanted, 1.0);
    return loss;
  }

  double flops_per_group(int64_t length) const override {
    const auto keys = [length](const LayerShape& layer) {
      return double(layer.window > 0 ? std::min(layer.window, length) : length);
    };
    return double(count_) * encoder_->forward_flops_per_row(keys);
  }

  double flops_per_text(int64_t length) const override {
    const auto keys = [length](const LayerShape& layer) {
      return double(layer.window > 0 ? std::min(2 * layer.window, length) : length) / 2;
    };
    return double(length) * encoder_->forward_flops_per_row(keys);
  }

 private:
  int64_t count_;
  double own_share_;
  std::optional<int64_t> end_token_;
  const Transformer& base_;
  Variable memory_, give_back_;
  BlockStack* encoder_;
};

const bool icae_registered = LatentRegistry::instance().add<Icae, IcaeOptions>(
    "icae", "memory slots that the frozen base reads instead of the text (ICAE, Ge et al. 2024)");

}  // namespace
}  // namespace reverie
