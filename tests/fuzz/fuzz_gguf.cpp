#include <cstring>

#include "core/gguf.h"
#include "fuzz/fuzz_support.h"

// Reads any bytes as a GGUF file, then everything in it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace reverie;
  static fuzz::FileInMemory file("fuzz.gguf");
  return fuzz::refusing([&] {
    const GgufFile read = read_gguf(file.holding(data, bytes));
    for (const auto& entry : read.metadata) {
      const std::string& key = entry.first;
      const GgufValue& value = entry.second;
      if (value.type() == GgufValueType::array) value.elements();
      fuzz::refusing([&] { read.text(key); });
      fuzz::refusing([&] { read.integer(key); });
      fuzz::refusing([&] { read.texts(key); });
      fuzz::refusing([&] { read.numbers(key); });
      fuzz::refusing([&] { read.integers(key); });
    }
    for (const GgufTensor& tensor : read.tensors)
      fuzz::refusing([&] {
        const Tensor values = read.dequantize(tensor);
        const size_t last = values.bytes();
        if (last > 0 && static_cast<const char*>(values.raw())[last - 1] == 1)
          std::fputs("", stderr);
      });
  });
}
