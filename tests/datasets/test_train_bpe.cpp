// Vocabularies learnt from text, against those of Hugging Face's trainer.

#include "datasets/tokenizers/train_bpe.h"

#include <nlohmann/json.hpp>

#include "core/json.h"
#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using testing::TemporaryDirectory;
using testing::write_bytes;

Json golden() {
  return parse_json(read_file(testing::test_directory() + "/golden/trained_bpe.json"));
}

TEST(TrainBpe, LearnsWhatTokenizersLearns) {
  const Json file = golden();
  for (const Json& wanted : file.at("cases")) {
    const auto texts = wanted.at("texts").get<std::vector<std::string>>();
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    const SubwordSpec spec = train_bpe(views, wanted.at("vocabulary_size"), true);
    EXPECT_EQ(spec.tokens, wanted.at("tokens").get<std::vector<std::string>>());
    Json merges = Json::array();
    for (const Merge& merge : spec.merges) merges.push_back({merge.left, merge.right});
    EXPECT_EQ(merges, wanted.at("merges"));
    const SubwordTokenizer tokenizer(spec);
    EXPECT_EQ(tokenizer.encode(texts[0]), wanted.at("ids").get<std::vector<int32_t>>());
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(texts[0])), texts[0]);
  }
}

TEST(TrainBpe, WholeBooksToo) {
  NEED_DATA("gutenberg/war-and-peace.txt");
  const Json file = golden();
  for (const auto& [name, wanted] : file.at("files").items()) {
    const std::string text = read_file(testing::data_file(name));
    const std::string_view view = text;
    const SubwordSpec spec = train_bpe({&view, 1}, 4096, true);
    uint64_t hash = 0xCBF29CE484222325u;
    for (const Merge& merge : spec.merges)
      for (const char byte :
           spec.tokens[size_t(merge.left)] + " " + spec.tokens[size_t(merge.right)] + "\n")
        hash = (hash ^ uint8_t(byte)) * 0x100000001B3u;
    EXPECT_EQ(int64_t(spec.merges.size()), wanted.at("merges").get<int64_t>()) << name;
    EXPECT_EQ(fmt::format("{:016x}", hash), wanted.at("fnv1a").get<std::string>()) << name;
  }
}

TEST(TrainBpe, EndOfTextIsNoWord) {
  const std::string_view text = "end<|endoftext|>end<|endoftext|>end";
  const SubwordTokenizer tokenizer(train_bpe({&text, 1}, 300, true));
  EXPECT_EQ(tokenizer.vocabulary_size(), 259) << "en and end alone are learnt";
  EXPECT_THAT(tokenizer.encode("end<|endoftext|>"), ::testing::ElementsAre(258, 0));
  EXPECT_EQ(tokenizer.end_of_text(), 0);
  EXPECT_GT(train_bpe({&text, 1}, 300, false).tokens.size(), 265u);
}

TEST(TrainBpe, WhatCannotBeLearntFromIsRefused) {
  const std::string_view broken = "a\xFF", empty = "";
  EXPECT_THROWS_SAYING(train_bpe({&broken, 1}, 300, true), DataError, "byte offset 1");
  EXPECT_THROWS_SAYING(train_bpe({&empty, 1}, 256, true), UserError, "257");
  EXPECT_EQ(train_bpe({&empty, 1}, 300, true).tokens.size(), 257u);
}

// The held-out part is not learnt from; the data keep the vocabulary.
TEST(TrainBpe, IsAKindOfTokenizerOfADataset) {
  const TemporaryDirectory directory;
  std::string training, held_out;
  for (int i = 0; i < 90; ++i) training += "the cat ";
  for (int i = 0; i < 10; ++i) held_out += "zyx zyx ";
  write_bytes(directory / "t.txt", training + held_out);
  DataOptions options;
  options.path = directory / "t.txt";
  options.prepared_directory = directory / "prepared";
  options.tokenizer = "bpe";
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "train_bpe");
  options.train_bpe = 270;
  const Dataset data = prepare_and_open(options);
  const std::string_view seen = training;
  EXPECT_EQ(data.tokenizer->hash(), SubwordTokenizer(train_bpe({&seen, 1}, 270, true)).hash());
  EXPECT_EQ(data.vocabulary_size(), data.tokenizer->vocabulary_size());
  std::vector<int32_t> tokens(size_t(data.validation.count()));
  data.validation.copy(0, tokens);
  EXPECT_EQ(data.tokenizer->decode(tokens), held_out);
  EXPECT_EQ(prepare_and_open(options).hash, data.hash);
  options.train_bpe = 260;
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "train_bpe: 270 -> 260");
}

}  // namespace
}  // namespace reverie
