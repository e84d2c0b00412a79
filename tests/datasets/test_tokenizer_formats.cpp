// Tokenizer files that are malformed, hostile or of a kind that is not known.

#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/json.h"
#include "datasets/data_support.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using testing::TemporaryDirectory;
using testing::write_bytes;

std::string golden(const std::string& name) {
  return testing::test_directory() + "/golden/tokenizers/" + name;
}

class HuggingFaceFile : public ::testing::Test {
 protected:
  // A sound file, changed.
  std::shared_ptr<const Tokenizer> load(const std::function<void(Json&)>& change) {
    Json json = parse_json(R"({
      "added_tokens": [{"id": 4, "content": "<s>", "special": true, "normalized": false}],
      "normalizer": null, "pre_tokenizer": null, "post_processor": null,
      "decoder": {"type": "Fuse"},
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": ["a b"]}})");
    change(json);
    write_bytes(directory / "tokenizer.json", json_text(json));
    return load_tokenizer_for(directory.path());
  }
  void refuses(const std::function<void(Json&)>& change, const char* saying) {
    EXPECT_THROWS_SAYING(load(change), DataError, saying);
  }
  TemporaryDirectory directory;
};

TEST_F(HuggingFaceFile, TheSmallFileIsSound) {
  const auto tokenizer = load([](Json&) {});
  EXPECT_THAT(tokenizer->encode("cab<s>b"), ::testing::ElementsAre(3, 2, 4, 1));
  EXPECT_THROWS_SAYING(tokenizer->encode("az"), UserError, "no token for 'z'");
  EXPECT_FALSE(tokenizer->adds_begin_of_text());
}

TEST_F(HuggingFaceFile, WhatIsNotKnownIsNamedByItsPath) {
  const auto set = [](const char* pointer, Json value) {
    return [=](Json& json) { json[Json::json_pointer(pointer)] = value; };
  };
  refuses(set("/model/type", "WordPiece"), "model.type is \"WordPiece\"");
  refuses(set("/model/dropout", 0.1), "model.dropout");
  refuses(set("/model/continuing_subword_prefix", "##"), "model.continuing_subword_prefix");
  refuses(set("/model/unk_token", "zz"), "model.unk_token");
  refuses(set("/model/vocab", 3), "model.vocab is no object");
  refuses(set("/model/vocab/a", -1), "model.vocab[\"a\"] is -1");
  refuses(set("/model/vocab/a", 1), "gives the id 1 to");
  refuses(set("/model/vocab/a", 1'000'000'000), "twice the number");
  refuses(set("/model/vocab/a", "0"), "wanted an id");
  refuses(set("/model/merges", "a b"), "model.merges is no array");
  refuses(set("/model/merges/0", "ab"), "model.merges[0] is no pair");
  refuses(set("/model/merges/0", Json::array({"a", "b", "c"})), "model.merges[0] is no pair");
  refuses(set("/model/merges/0", "a x"), "names 'x'");
  refuses(set("/model/merges/0", "a c"), "names 'ac'");
  refuses(set("/normalizer", {{"type", "NFKC"}}), "normalizer.type is \"NFKC\"");
  refuses(set("/normalizer", {{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}}),
          "normalizer.normalizers[0].type is \"Lowercase\"");
  refuses(set("/normalizer", {{"type", "Replace"}, {"pattern", {{"Regex", "("}}}, {"content", ""}}),
          "normalizer.pattern.Regex is not a regular expression");
  refuses(set("/pre_tokenizer", {{"type", "BertPreTokenizer"}}), "pre_tokenizer.type");
  refuses(set("/pre_tokenizer", 3), "pre_tokenizer is 3; wanted an object");
  refuses(set("/pre_tokenizer",
              {{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Sideways"}}),
          "pre_tokenizer.behavior is \"Sideways\"");
  refuses(set("/decoder", nullptr), "decoder is null");
  refuses(set("/decoder", {{"type", "WordPiece"}}), "decoder.type is \"WordPiece\"");
  refuses(set("/post_processor", {{"type", "BertProcessing"}}), "post_processor.type");
  refuses(set("/added_tokens/0/single_word", true), "added_tokens[0].single_word");
  refuses(set("/added_tokens/0/id", 1 << 30), "added_tokens[0].id");
  refuses(set("/added_tokens/0/content", ""), "added_tokens[0].content is empty");
}

TEST_F(HuggingFaceFile, NestingIsBounded) {
  write_bytes(directory / "tokenizer.json", std::string(1'000'000, '['));
  EXPECT_THROWS_SAYING(load_tokenizer_for(directory.path()), DataError, "nested deeper");
  Json deep = {{"type", "NFC"}};
  for (int i = 0; i < 10; ++i) deep = {{"type", "Sequence"}, {"normalizers", Json::array({deep})}};
  refuses([&](Json& json) { json["normalizer"] = deep; }, "nested too deeply");
}

TEST_F(HuggingFaceFile, APatternThatNeverEndsIsGivenUp) {
  const auto tokenizer = load([](Json& json) {
    json["pre_tokenizer"] = {
        {"type", "Split"}, {"pattern", {{"Regex", "(a+)+[bc]"}}}, {"behavior", "Isolated"}};
  });
  EXPECT_THROWS_SAYING(tokenizer->encode(std::string(60, 'a')), DataError, "fails on this text");
}

TEST_F(HuggingFaceFile, TheConfigurationBesideItNamesBeginningAndEnd) {
  const auto with = [&](const char* config) {
    write_bytes(directory / "tokenizer_config.json", config);
    return load([](Json&) {});
  };
  auto tokenizer = with(R"({"bos_token": {"content": "<s>"}, "eos_token": "ab"})");
  EXPECT_EQ(tokenizer->begin_of_text(), 4);
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  EXPECT_FALSE(tokenizer->adds_begin_of_text());
  tokenizer = with(R"({"bos_token": "<s>", "add_bos_token": true, "eos_token": null})");
  EXPECT_TRUE(tokenizer->adds_begin_of_text());
  EXPECT_FALSE(tokenizer->end_of_text());
  EXPECT_THROWS_SAYING(with(R"({"eos_token": "zz"})"), DataError, "eos_token is \"zz\"");
  EXPECT_THROWS_SAYING(with("{"), DataError, "tokenizer_config.json");
}

// transformers 5 does the same: the file's own template before "add_bos_token".
TEST_F(HuggingFaceFile, ItsTemplateSaysWhetherTextsBeginWithAToken) {
  const auto with_template = [](Json& json) {
    json["post_processor"] = Json::parse(
        R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
            {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"ids": [4]}}})");
  };
  for (const char* config : {"{}", R"({"add_bos_token": true})", R"({"add_bos_token": false})"}) {
    write_bytes(directory / "tokenizer_config.json", config);
    EXPECT_THAT(load(with_template)->encode_from_beginning("ab"), ::testing::ElementsAre(4, 2));
  }
  write_bytes(directory / "tokenizer_config.json",
              R"({"bos_token": "<s>", "add_bos_token": false})");
  EXPECT_THAT(load([](Json&) {})->encode_from_beginning("ab"), ::testing::ElementsAre(2));
}

TEST_F(HuggingFaceFile, ItsSpecialTokensMapIsReadWhereTheConfigurationIsSilent) {
  write_bytes(directory / "special_tokens_map.json",
              R"({"bos_token": {"content": "<s>"}, "eos_token": "c"})");
  const auto nothing = [](Json&) {};
  EXPECT_EQ(load(nothing)->begin_of_text(), 4);
  EXPECT_EQ(load(nothing)->end_of_text(), 3);
  write_bytes(directory / "tokenizer_config.json", R"({"eos_token": null})");
  EXPECT_EQ(load(nothing)->begin_of_text(), 4);
  EXPECT_FALSE(load(nothing)->end_of_text());
}

// A model may have fewer rows than its tokenizer has tokens, where those beyond are added ones.
TEST_F(HuggingFaceFile, OrdinaryTokensEndBeforeTheAddedOnes) {
  const auto tokenizer = load([](Json& json) {
    json["added_tokens"].push_back({{"id", 6}, {"content", "<image>"}, {"special", true}});
  });
  EXPECT_EQ(tokenizer->vocabulary_size(), 7);
  EXPECT_EQ(tokenizer->ordinary_vocabulary_size(), 4);
  const auto tokens = tokenizer->encode("ab<s>c<image>");
  EXPECT_NO_THROW(tokenizer->require_below(tokens, 7));
  EXPECT_THROWS_SAYING(tokenizer->require_below(tokens, 6), UserError,
                       "token 3, \"<image>\" (id 6), is unknown to the model");
}

TEST(SentencePieceFile, WhatLiesBesideItCounts) {
  const TemporaryDirectory directory;
  write_bytes(directory / "tokenizer.model", read_file(golden("pieces.model")));
  const auto alone = load_tokenizer_for(directory.path());
  EXPECT_EQ(alone->begin_of_text(), 1);
  EXPECT_TRUE(alone->adds_begin_of_text());
  const int32_t size = alone->vocabulary_size();
  const auto with = [&](const Json& config) {
    write_bytes(directory / "tokenizer_config.json", config.dump());
    return load_tokenizer_for(directory.path());
  };
  EXPECT_FALSE(with({{"add_bos_token", false}})->adds_begin_of_text());
  EXPECT_TRUE(with({{"add_bos_token", true}})->adds_begin_of_text());
  EXPECT_TRUE(with(Json::object())->adds_begin_of_text());
  EXPECT_EQ(with(Json::object())->hash(), alone->hash());
  // The configuration's tokens before the model's own, and tokens of more ids than the model has.
  const std::string added = std::to_string(size);
  const auto more =
      with({{"bos_token", "</s>"},
            {"eos_token", {{"content", "<end>"}}},
            {"added_tokens_decoder", {{added, {{"content", "<end>"}, {"special", true}}}}}});
  EXPECT_EQ(more->vocabulary_size(), size + 1);
  EXPECT_EQ(more->begin_of_text(), 2);
  EXPECT_EQ(more->end_of_text(), size);
  EXPECT_EQ(more->encode("<end>"), std::vector<int32_t>{size});
  EXPECT_EQ(more->encode("the one"), alone->encode("the one"));
  EXPECT_THROWS_SAYING(with({{"eos_token", "<nowhere>"}}), DataError, "<nowhere>");
  EXPECT_THROWS_SAYING(with({{"added_tokens_decoder", {{"1000000", {{"content", "<far>"}}}}}}),
                       DataError, "missing");
  std::filesystem::remove(directory / "tokenizer_config.json");
  write_bytes(directory / "added_tokens.json", Json{{"<end>", size}}.dump());
  EXPECT_EQ(load_tokenizer_for(directory.path())->encode("<end>"), std::vector<int32_t>{size});
}

TEST(SentencePieceFile, CutOffAnywhereItIsRefused) {
  const TemporaryDirectory directory;
  const std::string whole = read_file(golden("pieces.model"));
  const std::string file = directory / "t.model";
  for (size_t n = 0; n < whole.size(); n += n < 300 ? 1 : 97) {
    write_bytes(file, std::string_view(whole).substr(0, n));
    // Between two pieces it is a shorter model, of the default type.
    EXPECT_THROW(load_tokenizer_for(file), DataError) << n;
  }
}

TEST(SentencePieceFile, OtherKindsAreRefused) {
  const TemporaryDirectory directory;
  const auto model = [&](const std::string& trainer, const std::string& normalizer) {
    const std::string piece = {'\x0A', '\x03', '\x0A', '\x01', 'a'};
    std::string bytes = piece;
    bytes += std::string("\x12") + char(trainer.size()) + trainer;
    bytes += std::string("\x1A") + char(normalizer.size()) + normalizer;
    write_bytes(directory / "t.model", bytes);
    return load_tokenizer_for(directory / "t.model");
  };
  const std::string bpe = "\x18\x02", as_is = {'\x20', '\0'};
  EXPECT_EQ(model(bpe, as_is)->vocabulary_size(), 1);
  EXPECT_THROWS_SAYING(model("\x18\x01", as_is), DataError, "type 1 (unigram)");
  EXPECT_THROWS_SAYING(model(bpe, ""), DataError, "spaces in a row");
  EXPECT_THROWS_SAYING(model(bpe, as_is + "\x12\x01x"), DataError, "normalization rules");
  EXPECT_THROWS_SAYING(model("\x1A\x01x", as_is), DataError, "field 3 of kind 2");
}

TEST(Llama2cFile, IsReadAndCutOffRefused) {
  const TemporaryDirectory directory;
  std::string bytes;
  const auto put = [&](auto value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  const auto piece = [&](float score, std::string_view text) {
    put(score);
    put(int32_t(text.size()));
    bytes += text;
  };
  put(uint32_t(7));
  piece(0, "<unk>");
  piece(0, "\n<s>\n");
  piece(0, "\n</s>\n");
  for (int b = 0; b < 256; ++b) piece(0, fmt::format("<0x{:02X}>", b));
  piece(-5, " ");
  piece(-4, "a");
  piece(-1, " a");
  const std::string file = directory / "tokenizer.bin";
  write_bytes(file, bytes);
  const auto tokenizer = load_tokenizer_for(file);
  EXPECT_THAT(tokenizer->encode_from_beginning("a a\xC3\xA9"),
              ::testing::ElementsAre(1, 261, 261, 3 + 0xC3, 3 + 0xA9));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{261, 261, 3 + 0xC3, 3 + 0xA9}), "a a\xC3\xA9");
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  for (size_t n = 0; n < bytes.size(); n += 3) {
    write_bytes(file, std::string_view(bytes).substr(0, n));
    try {  // between two pieces it is a smaller vocabulary
      load_tokenizer_for(file);
    } catch (const DataError&) {
    }
  }
  write_bytes(file, std::string_view(bytes).substr(0, bytes.size() - 1));
  EXPECT_THROWS_SAYING(load_tokenizer_for(file), DataError, "has 2 bytes");
  write_bytes(file, "ab");
  EXPECT_THROWS_SAYING(load_tokenizer_for(file), DataError, "truncated");
}

TEST(GgufTokenizerFile, WhatIsNotSupportedIsNamed) {
  GgufFile file = read_gguf(golden("smollm.gguf"));
  const auto refuses = [&](const char* saying) {
    EXPECT_THROWS_SAYING(read_gguf_tokenizer(file), DataError, saying);
  };
  const auto swap = [&](const char* key, const char* other) {
    std::swap(file.metadata.at(key), file.metadata.at(other));
  };
  swap("tokenizer.ggml.model", "general.architecture");
  refuses("\"tokenizer.ggml.model\" is 'golden'");
  swap("tokenizer.ggml.model", "general.architecture");
  swap("tokenizer.ggml.pre", "general.architecture");
  refuses("\"tokenizer.ggml.pre\" is 'golden'");
  swap("tokenizer.ggml.pre", "general.architecture");
  swap("tokenizer.ggml.merges", "tokenizer.ggml.tokens");
  refuses("wanted two tokens with a space between");
  swap("tokenizer.ggml.merges", "tokenizer.ggml.tokens");
  file.metadata.emplace("tokenizer.ggml.new_trick", file.metadata.at("tokenizer.ggml.pre"));
  refuses("\"tokenizer.ggml.new_trick\" is not known here");
  file.metadata.erase("tokenizer.ggml.new_trick");
  file.metadata.erase("tokenizer.ggml.token_type");
  EXPECT_TRUE(read_gguf_tokenizer(file).added.empty());
  file.metadata.erase("tokenizer.ggml.merges");
  refuses("\"tokenizer.ggml.merges\": wanted an array of texts");
}

TEST(SubwordDefinition, IsCheckedWhenReadBack) {
  const auto tokenizer = load_tokenizer_for(golden("pieces.model"));
  const auto changed = [&](const char* key, const Json& value) {
    Json definition = tokenizer->definition();
    definition[key] = value;
    return tokenizer_from_definition(definition);
  };
  EXPECT_EQ(changed("name", "sentencepiece")->hash(), tokenizer->hash());
  EXPECT_THROWS_SAYING(changed("scores", Json::array({1.0})), DataError, "1 scores for");
  EXPECT_THROWS_SAYING(changed("unknown", 1 << 20), DataError, "the unknown token");
  EXPECT_THROWS_SAYING(changed("tokens", Json::array()), DataError, "vocabulary is empty");
  EXPECT_THROWS_SAYING(changed("merges", Json::array({1, 2})), DataError, "triples");
  EXPECT_THROWS_SAYING(changed("decoder", 3), DataError, "decoder is 3");
  EXPECT_THROWS_SAYING(changed("begin_of_text", nullptr), DataError, "none is named");
  EXPECT_THROWS_SAYING(changed("added", 3), DataError, "");
}

}  // namespace
}  // namespace reverie
