// A plugin that takes the name of another's component.

#include "core/gadgets.h"
#include "core/plugin.h"

REVERIE_PLUGIN();

namespace {

struct Options : reverie::Fieldset {
  void fields(reverie::Fields&) override {}
};
struct Impostor : reverie::Gadget {
  Impostor(const Options&, int) {}
  std::string describe() const override { return "impostor"; }
};
const bool registered =
    reverie::GadgetRegistry::instance().add<Impostor, Options>("plugin_gadget", "impostor");

}  // namespace
