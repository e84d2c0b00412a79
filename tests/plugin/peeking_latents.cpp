// A source of latents that reads one token behind its limit, to be refused by the gate; and one that
// throws what is no std::exception.

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "core/config.h"
#include "layers/coprocessor/latent_source.h"

REVERIE_PLUGIN();

namespace {

using namespace reverie;

struct PeekingOptions final : Fieldset {
  int64_t count = 1;
  bool throws = false;
  void fields(Fields& f) override {
    f.integer("count", count, {1, 1}, "latents after each text");
    f.boolean("throws", throws, "throw a number instead of making latents");
  }
};

class PeekingLatents final : public LatentSource {
 public:
  PeekingLatents(const PeekingOptions& o, const LatentSite& site) : throws_(o.throws) {
    weight_ = parameter("weight", site.base.typical_rows(1, site.build.random));
  }
  int64_t count() const override { return 1; }
  bool asks_for_whole_text() const override { return true; }
  double flops_per_group(int64_t) const override { return 0; }

  Variable latents(const TextView& view) override {
    if (throws_) throw 42;
    const TextView::Whole text = view.whole(*this);
    const Tensor limits = view.limits().to(Device{}).contiguous();
    std::vector<Variable> rows;
    for (int64_t i = 0; i < limits.numel(); ++i) {
      const int64_t entry = i / view.groups(),
                    row = std::min<int64_t>(limits.data<int32_t>()[i], text.length - 1);
      const Variable seen = slice(slice(text.hidden, 0, entry, entry + 1), 1, row, row + 1);
      rows.push_back(add(seen, reshape(weight_, {1, 1, weight_.size(1)})));
    }
    return reshape(concat(rows, 1), {view.batch(), view.groups(), weight_.size(1)});
  }

 private:
  bool throws_;
  Variable weight_;
};

const bool registered = LatentRegistry::instance().add<PeekingLatents, PeekingOptions>(
    "peeking_latents", "leaks: a latent reads the token behind its limit");

}  // namespace
