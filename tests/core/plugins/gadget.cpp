// A plugin as it should be.

#include "core/gadgets.h"
#include "core/plugin.h"

REVERIE_PLUGIN();

namespace {

struct Options : reverie::Fieldset {
  int64_t size = 2;
  void fields(reverie::Fields& f) override {
    f.integer("size", size, reverie::kPositive, "how large");
  }
};
struct PluginGadget : reverie::Gadget {
  PluginGadget(const Options& o, int scale) : size(o.size * scale) {}
  std::string describe() const override { return fmt::format("plugin gadget {}", size); }
  int64_t size;
};
const bool registered =
    reverie::GadgetRegistry::instance().add<PluginGadget, Options>("plugin_gadget", "from outside");

}  // namespace
