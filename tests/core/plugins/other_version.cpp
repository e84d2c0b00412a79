// A plugin built against headers of another version: the variable that its version is read from
// does not exist here.

#include "core/gadgets.h"

extern "C" const int reverie_plugin_api_999;
extern "C" int reverie_plugin_api_version() {
  return reverie_plugin_api_999;
}

namespace {

struct Options : reverie::Fieldset {
  void fields(reverie::Fields&) override {}
};
struct Stranger : reverie::Gadget {
  Stranger(const Options&, int) {}
  std::string describe() const override { return "stranger"; }
};
const bool registered =
    reverie::GadgetRegistry::instance().add<Stranger, Options>("from_other_version", "never");

}  // namespace
