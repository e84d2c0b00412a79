// Several sources whose latents follow one another: each reads the text by itself, and the base
// reads them all.

#include <algorithm>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/coprocessor/latent_source.h"

namespace reverie {
namespace {

struct SeveralOptions final : Fieldset {
  std::vector<Component> sources;
  void fields(Fields& f) override {
    f.components("sources", sources, LatentRegistry::instance(),
                 "the sources, in the order in which the base reads their latents");
  }
};

class SeveralSources final : public LatentSource {
 public:
  SeveralSources(const SeveralOptions& o, const LatentSite& site) {
    for (size_t i = 0; i < o.sources.size(); ++i)
      sources_.push_back(static_cast<LatentSource*>(
          &adopt(std::to_string(i), LatentRegistry::instance().make(o.sources[i], site))));
    for (size_t i = 0; i < sources_.size(); ++i)
      require(sources_[i]->writes_cache() == sources_[0]->writes_cache(),
              "{}: some sources write embeddings and others write into the cache; wanted the "
              "same \"writes\" for all",
              o.sources[i].path);
    for (size_t i = 0; i < sources_.size(); ++i)
      require(sources_[i]->mask().tokens_see_text,
              "{}: \"{}\" hides the text from the tokens behind it, which a source among several "
              "cannot do: use it alone",
              o.sources[i].path, o.sources[i].type);
  }

  int64_t base_forwards() const override {
    int64_t most = 0;
    for (const LatentSource* s : sources_) most = std::max(most, s->base_forwards());
    return most;
  }
  int64_t count() const override {
    int64_t sum = 0;
    for (const LatentSource* s : sources_) sum += s->count();
    return sum;
  }
  bool writes_cache() const override { return sources_[0]->writes_cache(); }
  bool asks_for_whole_text() const override {
    return std::any_of(sources_.begin(), sources_.end(),
                       [](const LatentSource* s) { return s->asks_for_whole_text(); });
  }
  Variable latents(const TextView& view) override {
    const int64_t batch = view.batch(), groups = view.groups();
    std::vector<Variable> parts;
    for (LatentSource* s : sources_) {
      const Variable rows = s->latents(view);
      parts.push_back(reshape(rows, {batch, groups, s->count(), rows.size(2)}));
    }
    const Variable all = concat(parts, 2);
    return reshape(all, {batch, groups * all.size(2), all.size(3)});
  }
  double flops_per_group(int64_t length) const override {
    double sum = 0;
    for (const LatentSource* s : sources_) sum += s->flops_per_group(length);
    return sum;
  }

  double flops_per_text(int64_t length) const override {
    double sum = 0;
    for (const LatentSource* s : sources_) sum += s->flops_per_text(length);
    return sum;
  }

 private:
  std::vector<LatentSource*> sources_;
};

const bool several_sources_registered =
    LatentRegistry::instance().add<SeveralSources, SeveralOptions>(
        "several", "a list of sources whose latents follow one another");

}  // namespace
}  // namespace reverie
