#include "core/safetensors.h"
#include "fuzz/fuzz_support.h"

// Reads any bytes as a safetensors file, then the last byte of every tensor.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace reverie;
  static fuzz::FileInMemory file("fuzz.safetensors");
  return fuzz::refusing([&] {
    const SafetensorsFile read = read_safetensors(file.holding(data, bytes));
    for (const auto& [name, tensor] : read.tensors) {
      const size_t last = tensor.bytes();
      if (last > 0 && static_cast<const char*>(tensor.raw())[last - 1] == 1) std::fputs("", stderr);
    }
  });
}
