// Gist tokens (Mu et al. 2023, "Learning to Compress Prompts with Gist Tokens", arXiv 2304.08467):
// one new vocabulary row, repeated after the text. Nothing behind it sees the text itself, so that
// the text's content must go through the keys and values of these rows; they alone are kept when
// the model is used. The mask is all there is to it: in the paper the whole model is trained
// (train_base), and rows and tokens keep the positions that they have in the text.

#include "autograd/ops/shape.h"
#include "layers/coprocessor/latent_source.h"

namespace reverie {
namespace {

struct GistOptions final : Fieldset {
  int64_t count = 4;
  std::string tokens_see = "gist";
  void fields(Fields& f) override {
    f.integer("count", count, {1, 4096}, "gist tokens after each text (N_L)");
    f.text("tokens_see", tokens_see, {"gist", "all", "nothing"},
           "what the tokens behind the gist tokens see; gist: these alone (the paper's mask); "
           "two controls: all: the text, too, so that nothing need be compressed; nothing: "
           "neither");
  }
};

class GistTokens final : public LatentSource {
 public:
  GistTokens(const GistOptions& o, const LatentSite& site)
      : mask_{o.count, true, o.tokens_see == "all", o.tokens_see != "nothing"} {
    const Build& build = site.build;
    embedding_ = parameter("embedding", build.initialize
                                            ? site.base.mean_row()
                                            : build.weights({1, site.base.shape().features}, 0));
  }
  int64_t count() const override { return mask_.latents; }
  Variable latents(const TextView& view) override {
    return for_each_group(expand(embedding_, 0, count()), view.limits());
  }
  GroupMask mask() const override { return mask_; }
  double flops_per_group(int64_t) const override { return 0; }

 private:
  GroupMask mask_;
  Variable embedding_;
};

const bool gist_tokens_registered = LatentRegistry::instance().add<GistTokens, GistOptions>(
    "gist", "gist tokens that hide the text before them (Mu et al. 2023; needs train_base)");

}  // namespace
}  // namespace reverie
