#include "layers/memory/memory_module.h"

namespace reverie {

template <>
MemoryRegistry& MemoryRegistry::instance() {
  static MemoryRegistry registry("memory module");
  return registry;
}

}  // namespace reverie
