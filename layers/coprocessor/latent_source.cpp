#include "layers/coprocessor/latent_source.h"

namespace reverie {

template <>
LatentRegistry& LatentRegistry::instance() {
  static LatentRegistry registry("latent source");
  return registry;
}

}  // namespace reverie
