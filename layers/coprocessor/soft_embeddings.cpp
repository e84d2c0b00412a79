// Soft embeddings on a frozen base (pause tokens, Goyal et al. 2024): the same learned rows after
// every text. What a coprocessor gains over them is what it read.

#include "layers/coprocessor/latent_source.h"

namespace reverie {
namespace {

struct SoftEmbeddingOptions final : Fieldset {
  int64_t count = 8;
  void fields(Fields& f) override {
    f.integer("count", count, {1, 4096}, "latents after each text (N_L)");
  }
};

class SoftEmbeddings final : public LatentSource {
 public:
  SoftEmbeddings(const SoftEmbeddingOptions& o, const LatentSite& site) : count_(o.count) {
    embeddings_ = parameter("embeddings", site.base.typical_rows(o.count, site.build.random));
  }
  int64_t count() const override { return count_; }
  Variable latents(const TextView& view) override {
    return for_each_group(embeddings_, view.limits());
  }
  double flops_per_group(int64_t) const override { return 0; }

 private:
  int64_t count_;
  Variable embeddings_;
};

const bool soft_embeddings_registered =
    LatentRegistry::instance().add<SoftEmbeddings, SoftEmbeddingOptions>(
        "soft_embeddings", "the same learned embeddings after every text (pause tokens)");

}  // namespace
}  // namespace reverie
