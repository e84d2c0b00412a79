// The real vocabularies: SmolLM2, Gemma 3 and stories260K. The models' files are those that
// scripts/fetch.py gives, in $REVERIE_PRETRAINED, $REVERIE_DATA or its cache.

#include <filesystem>

#include "datasets/data_support.h"
#include "datasets/sources.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {
namespace {

using testing::data_file;
using ::testing::ElementsAre;

// The .gguf file of a model's folder; "": there is none.
std::string gguf_of(const std::string& model) {
  namespace fs = std::filesystem;
  std::vector<fs::path> roots;
  for (const char* name : {"REVERIE_PRETRAINED", "REVERIE_DATA"})
    if (const char* root = std::getenv(name); root && *root) roots.emplace_back(root);
  roots.emplace_back(cache_directory());
  for (const fs::path& root : roots)
    if (fs::is_directory(root / model))
      for (const auto& entry : fs::directory_iterator(root / model))
        if (entry.path().extension() == ".gguf") return entry.path().string();
  return "";
}

// The first 60,000 characters of WikiText-2's validation text.
std::string wikitext() {
  const std::string text = read_file(data_file("wikitext-2/valid.txt"));
  size_t at = 0;
  for (int characters = 0; at < text.size(); ++at)
    if ((uint8_t(text[at]) & 0xC0u) != 0x80u && characters++ == 60'000) break;
  return text.substr(0, at);
}

// FNV-1a over ids as 32-bit units.
std::string fnv1a(std::span<const int32_t> ids) {
  uint64_t value = 0xCBF29CE484222325u;
  for (const int32_t id : ids) value = (value ^ uint32_t(id)) * 0x100000001B3u;
  return fmt::format("{:016x}", value);
}

#define NEED_MODEL(name)                                                                          \
  NEED_DATA("wikitext-2/valid.txt");                                                              \
  if (gguf_of(name).empty())                                                                      \
  GTEST_SKIP() << "no .gguf of " << (name) << " in REVERIE_PRETRAINED, REVERIE_DATA or the cache" \
               << "; scripts/fetch.py " << (name) << " gets it"

TEST(Pretrained, SmolLm2) {
  NEED_MODEL("smollm2");
  const auto tokenizer = load_tokenizer_for(gguf_of("smollm2"));
  EXPECT_EQ(tokenizer->vocabulary_size(), 49152);
  EXPECT_FALSE(tokenizer->adds_begin_of_text());
  const std::string text = wikitext();
  const auto ids = tokenizer->encode_from_beginning(text);
  EXPECT_EQ(ids.size(), 15'512u);
  EXPECT_THAT(std::vector<int32_t>(ids.begin(), ids.begin() + 5),
              ElementsAre(3717, 446, 12928, 21777, 310));
  EXPECT_EQ(tokenizer->decode(ids), text);
  // The whole text, as tokenizers 0.23.3 encodes it.
  const auto all = tokenizer->encode(read_file(data_file("wikitext-2/valid.txt")));
  EXPECT_EQ(all.size(), 273'868u);
  EXPECT_EQ(fnv1a(all), "c0e8ed8b21fbd11e");
}

TEST(Pretrained, Gemma3) {
  NEED_MODEL("gemma3");
  const auto tokenizer = load_tokenizer_for(gguf_of("gemma3"));
  EXPECT_EQ(tokenizer->vocabulary_size(), 262'144);
  EXPECT_TRUE(tokenizer->adds_begin_of_text());
  EXPECT_EQ(tokenizer->end_of_text(), 1);
  const std::string text = wikitext();
  const auto ids = tokenizer->encode_from_beginning(text);
  EXPECT_EQ(ids.size(), 14'755u);
  EXPECT_THAT(std::vector<int32_t>(ids.begin(), ids.begin() + 5),
              ElementsAre(2, 236743, 107, 578, 20759));
  EXPECT_EQ(tokenizer->decode(std::span(ids).subspan(1)), text);
  // In parallel pieces as in one.
  const size_t cut = tokenizer->cut_after(text, text.size() / 2);
  ASSERT_LT(cut, text.size());
  auto pieces = tokenizer->encode_from_beginning(text.substr(0, cut));
  const auto rest = tokenizer->encode(text.substr(cut));
  pieces.insert(pieces.end(), rest.begin(), rest.end());
  EXPECT_EQ(pieces, ids);
  // The whole text, as transformers 5.23.0 encodes it.
  const auto all = tokenizer->encode(read_file(data_file("wikitext-2/valid.txt")));
  EXPECT_EQ(all.size(), 260'525u);
  EXPECT_EQ(fnv1a(all), "2768b9ec29df4624");
}

TEST(Pretrained, Stories260K) {
  NEED_DATA("stories260K/tok512.bin");
  const auto tokenizer = load_tokenizer_for(data_file("stories260K/tok512.bin"));
  EXPECT_EQ(tokenizer->vocabulary_size(), 512);
  EXPECT_EQ(tokenizer->begin_of_text(), 1);
  const std::string text =
      "Once upon a time, there was a little girl named Lily.\nShe said: "
      "\xE2\x80\x9CHi!\xE2\x80\x9D";
  const auto ids = tokenizer->encode_from_beginning(text);
  // llama2.c's own test: "Once upon a time" begins with these.
  EXPECT_THAT(std::vector<int32_t>(ids.begin(), ids.begin() + 5),
              ElementsAre(1, 403, 407, 261, 378));
  EXPECT_EQ(tokenizer->decode(std::span(ids).subspan(1)), text);
}

}  // namespace
}  // namespace reverie
