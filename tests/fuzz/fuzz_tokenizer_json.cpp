#include <vector>

#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "fuzz/fuzz_support.h"

// Reads any bytes as each of the tokenizer files, then encodes and decodes with what came of it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  using namespace reverie;
  static fuzz::FileInMemory file("fuzz.tokenizer");
  const std::string path = file.holding(data, bytes);
  const auto use = [](SubwordSpec spec) {
    const SubwordTokenizer tokenizer(std::move(spec));
    for (const char* text : {"", "a b", "Hello, world's 12\n\n  \xE2\x96\x81 caf\xC3\xA9 <s>"}) {
      const std::vector<int32_t> ids = tokenizer.encode(text);
      tokenizer.decode(ids);
      tokenizer.cut_after(text, 1);
    }
    SubwordTokenizer::from_definition(tokenizer.definition());
  };
  fuzz::refusing([&] { use(read_hugging_face(path)); });
  fuzz::refusing([&] { use(read_sentencepiece(path)); });
  fuzz::refusing([&] { use(read_llama2c(path)); });
  return fuzz::refusing([&] { use(read_gguf_tokenizer(read_gguf(path))); });
}
