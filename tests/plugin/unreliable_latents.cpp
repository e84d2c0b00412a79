// A source of latents that does what the environment variable UNRELIABLE_LATENTS says: throw, crash,
// hang; without it, soft embeddings.

#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

#include "core/config.h"
#include "layers/coprocessor/latent_source.h"

REVERIE_PLUGIN();

namespace {

using namespace reverie;

struct UnreliableOptions final : Fieldset {
  int64_t count = 2;
  void fields(Fields& f) override { f.integer("count", count, {1, 64}, "latents after each text"); }
};

class UnreliableLatents final : public LatentSource {
 public:
  UnreliableLatents(const UnreliableOptions& o, const LatentSite& site) : count_(o.count) {
    weight_ = parameter("weight", site.base.typical_rows(count_, site.build.random));
  }
  int64_t count() const override { return count_; }
  double flops_per_group(int64_t) const override { return 0; }

  Variable latents(const TextView& view) override {
    const char* set = std::getenv("UNRELIABLE_LATENTS");
    const std::string what = set ? set : "";
    if (what == "throw") throw std::runtime_error("the latents were lost");
    if (what == "crash") ::raise(SIGSEGV);
    while (what == "hang") std::this_thread::sleep_for(std::chrono::seconds(1));
    return for_each_group(weight_, view.limits());
  }

 private:
  int64_t count_;
  Variable weight_;
};

const bool registered = LatentRegistry::instance().add<UnreliableLatents, UnreliableOptions>(
    "unreliable_latents", "soft embeddings that throw, crash or hang as the environment says");

}  // namespace
