// What fuzzing found worth keeping, tests/fuzz/corpus/<target>/, through the targets themselves:
// each file is read or refused. A reader that crashes, or throws what is no refusal, ends this
// program.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "support/tests_directory.h"

// LLVMFuzzerTestOneInput of each fuzz_<target>.cpp, which this build gives the target's name.
extern "C" {
int fuzz_base(const uint8_t* data, size_t bytes);
int fuzz_gguf(const uint8_t* data, size_t bytes);
int fuzz_safetensors(const uint8_t* data, size_t bytes);
int fuzz_tokenizer_json(const uint8_t* data, size_t bytes);
}

namespace reverie {
namespace {

void replay(const char* target, int (*run)(const uint8_t*, size_t)) {
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(testing::test_directory() + "/fuzz/corpus/" + target)) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), {});
    SCOPED_TRACE(entry.path());
    EXPECT_EQ(run(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()), 0);
    ++files;
  }
  EXPECT_GE(files, 20) << "the corpus of " << target << " is not here";
}

TEST(Corpus, Base) {
  replay("base", fuzz_base);
}
TEST(Corpus, Gguf) {
  replay("gguf", fuzz_gguf);
}
TEST(Corpus, Safetensors) {
  replay("safetensors", fuzz_safetensors);
}
TEST(Corpus, TokenizerJson) {
  replay("tokenizer_json", fuzz_tokenizer_json);
}

}  // namespace
}  // namespace reverie
