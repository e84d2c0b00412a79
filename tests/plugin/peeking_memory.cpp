// A memory that looks one row ahead, to be refused by the causality gate: row t reads what row t +
// 1 wrote.

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "core/config.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

REVERIE_PLUGIN();

namespace {

using namespace reverie;

struct PeekingOptions final : Fieldset {
  void fields(Fields&) override {}
};

class PeekingMemory final : public MemoryModule {
 public:
  PeekingMemory(const PeekingOptions&, const MemorySite& site) {
    write_ = &child<Linear>("write", site.features, site.features, LinearOptions{}, site.build);
  }

  Variable after_block(const LayerView& view, MemoryState&) override {
    const Variable& x = view.hidden;
    const Variable written = write_->forward(x);
    const Variable nothing =
        Variable(Tensor::zeros({x.size(0), 1, x.size(2)}, x.dtype(), x.device()));
    return add(x, slice(concat({written, nothing}, 1), 1, 1, x.size(1) + 1));
  }

  bool incremental() const override {
    return false;
  }  // a row cannot be read before the next one is there

 private:
  Linear* write_;
};

REVERIE_REGISTER_MEMORY("peeking", PeekingMemory, PeekingOptions, "leaks: row t reads row t + 1");

}  // namespace
