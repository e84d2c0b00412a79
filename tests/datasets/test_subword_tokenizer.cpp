// Tokenizers of pretrained models against the libraries that wrote their files
// (tests/golden/make/make_tokenizer_golden.py).

#include "core/json.h"
#include "datasets/tokenizers/subword_tokenizer.h"

#include <nlohmann/json.hpp>
#include <set>

#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/pipeline/unicode_composition.h"
#include "datasets/utf8.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryDirectory;
using testing::write_bytes;

std::string golden(const std::string& name) {
  return testing::test_directory() + "/golden/tokenizers/" + name;
}
Json golden_json(const std::string& name) {
  return parse_json(read_file(golden(name)));
}

const std::vector<std::string>& texts() {
  static const auto all = golden_json("texts.json").get<std::vector<std::string>>();
  return all;
}

// Every text gives the ids of the golden file, in whole and in pieces, and the ids the text.
void expect_golden(const Tokenizer& tokenizer, const std::string& name,
                   const std::set<std::string>& without = {}) {
  const Json file = golden_json(name + ".json");
  ASSERT_EQ(file["cases"].size(), 200u);
  size_t compared = 0;
  for (size_t i = 0; i < texts().size(); ++i) {
    const std::string& text = texts()[i];
    const Json& entry = file["cases"][i];
    bool skip = entry.is_null();
    for (const std::string& part : without) skip = skip || text.find(part) != std::string::npos;
    if (skip) continue;
    ++compared;
    const auto wanted = entry[0].get<std::vector<int32_t>>();
    const auto ids = tokenizer.encode(text);
    ASSERT_EQ(ids, wanted) << name << ", text " << i << ": " << ::testing::PrintToString(text);
    EXPECT_EQ(tokenizer.decode(ids), entry[1].is_null() ? text : entry[1].get<std::string>())
        << name << ", text " << i;
    const size_t cut = tokenizer.cut_after(text, text.size() / 3);
    auto pieces = tokenizer.encode(std::string_view(text).substr(0, cut));
    const auto rest = tokenizer.encode(std::string_view(text).substr(cut));
    if (cut < text.size()) pieces.insert(pieces.end(), rest.begin(), rest.end());
    EXPECT_EQ(pieces, wanted) << name << ", text " << i << " cut at " << cut;
  }
  EXPECT_GE(compared, 180u);
  EXPECT_EQ(tokenizer.adds_begin_of_text(), !file["begin"].is_null());
  if (tokenizer.adds_begin_of_text()) {
    EXPECT_EQ(tokenizer.begin_of_text(), file["begin"].get<int32_t>());
    EXPECT_EQ(tokenizer.encode_from_beginning("a").front(), file["begin"].get<int32_t>());
  }
}

// The tokenizer that a run directory gives back is the same one.
void expect_saved(const Tokenizer& tokenizer) {
  const TemporaryDirectory directory;
  tokenizer.save(directory.path());
  const auto loaded = load_tokenizer(directory.path());
  EXPECT_EQ(loaded->hash(), tokenizer.hash());
  EXPECT_EQ(loaded->name(), tokenizer.name());
  EXPECT_EQ(loaded->vocabulary_size(), tokenizer.vocabulary_size());
  EXPECT_EQ(loaded->begin_of_text(), tokenizer.begin_of_text());
  EXPECT_EQ(loaded->end_of_text(), tokenizer.end_of_text());
  EXPECT_EQ(loaded->adds_begin_of_text(), tokenizer.adds_begin_of_text());
  for (const std::string& text : texts()) EXPECT_EQ(loaded->encode(text), tokenizer.encode(text));
}

class HuggingFaceGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(HuggingFaceGolden, GivesTheIdsOfItsLibrary) {
  const auto tokenizer = load_tokenizer_for(golden(GetParam()));
  EXPECT_EQ(tokenizer->name(), "bpe");
  expect_golden(*tokenizer, GetParam());
  expect_saved(*tokenizer);
}

INSTANTIATE_TEST_SUITE_P(All, HuggingFaceGolden,
                         ::testing::Values("smollm", "llama3", "qwen2", "prefix", "splits",
                                           "llama2", "metaspace", "unknown"),
                         [](const auto& info) { return std::string(info.param); });

class SentencePieceGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(SentencePieceGolden, GivesTheIdsOfItsLibrary) {
  const std::string name = GetParam();
  const auto tokenizer = load_tokenizer_for(golden(name + ".model"));
  EXPECT_EQ(tokenizer->name(), "sentencepiece");
  EXPECT_EQ(tokenizer->end_of_text(), 2);
  expect_golden(*tokenizer, name);
  expect_saved(*tokenizer);
  const auto from_gguf = load_tokenizer_for(golden(name + ".gguf"));
  expect_golden(*from_gguf, name);
  EXPECT_EQ(from_gguf->end_of_text(), 2);
}

INSTANTIATE_TEST_SUITE_P(All, SentencePieceGolden, ::testing::Values("pieces", "pieces_no_prefix"),
                         [](const auto& info) { return std::string(info.param); });

// Tokens that take the spaces beside them are not told apart in GGUF files.
TEST(GgufTokenizer, ByteLevelVocabulariesGiveTheSameIds) {
  for (const char* name : {"smollm", "llama3", "qwen2"}) {
    const auto tokenizer = load_tokenizer_for(golden(std::string(name) + ".gguf"));
    EXPECT_EQ(tokenizer->begin_of_text(), 1);
    expect_golden(*tokenizer, name, {"<mask>", "<keep>"});
  }
}

TEST(Subword, CutsAreFoundWhereTheyAreSafe) {
  const std::string text = "one two three\n four,\tfive  six";
  for (const char* name : {"smollm", "llama3.gguf", "pieces_no_prefix.model"}) {
    const auto tokenizer = load_tokenizer_for(golden(name));
    if (std::string(name) == "smollm") {  // <mask> takes spaces: no cut is safe
      EXPECT_EQ(tokenizer->cut_after(text, 0), text.size());
      continue;
    }
    EXPECT_EQ(tokenizer->cut_after(text, 0), 3u) << name;
    EXPECT_EQ(tokenizer->cut_after(text, 8), 25u) << name;  // not before "\n ", nor inside "  "
    EXPECT_EQ(tokenizer->cut_after(text, 26), text.size()) << name;
  }
  // A space put before each text makes every cut unsafe.
  EXPECT_EQ(load_tokenizer_for(golden("pieces.model"))->cut_after(text, 0), text.size());
}

TEST(Subword, TextThatIsNotUtf8IsRefused) {
  for (const char* name : {"smollm", "llama2", "pieces.model"}) {
    const auto tokenizer = load_tokenizer_for(golden(name));
    EXPECT_THROWS_SAYING(tokenizer->encode("plain ascii \xFF"), DataError, "byte offset 12");
    EXPECT_THROWS_SAYING(tokenizer->encode("cut\xE2\x82"), DataError, "byte offset 3");
    EXPECT_THROWS_SAYING(tokenizer->decode(std::vector<int32_t>{1 << 20}), UserError,
                         "token 1048576");
  }
}

TEST(Subword, SpecialTokensMayBeReadAsText) {
  const auto tokenizer = load_tokenizer_for(golden("smollm"));
  const auto read = tokenizer->encode("a<|end|>b"),
             text = tokenizer->encode("a<|end|>b", SpecialTokens::as_text);
  EXPECT_EQ(read.size(), 3u);
  EXPECT_GT(text.size(), 5u);
  EXPECT_EQ(tokenizer->decode(text), "a<|end|>b");
  // One that is not special is found all the same.
  EXPECT_EQ(tokenizer->encode("TAG[x]", SpecialTokens::as_text).size(), 1u);
}

TEST(StreamDecoder, GivesWholeCharacters) {
  for (const char* name : {"smollm", "llama2", "pieces.model"}) {
    const auto tokenizer = load_tokenizer_for(golden(name));
    for (const std::string& text : texts()) {
      const auto ids = tokenizer->encode(text);
      StreamDecoder decoder(*tokenizer);
      std::string joined;
      for (const int32_t id : ids) {
        const std::string part = decoder.next(id);
        joined += part;
        if (tokenizer->decode(ids) == text) require_utf8(part);
      }
      EXPECT_EQ(joined + decoder.finish(), tokenizer->decode(ids));
    }
  }
  const auto tokenizer = load_tokenizer_for(golden("pieces.model"));
  const auto ids = tokenizer->encode("the the");
  StreamDecoder from_start(*tokenizer), continued(*tokenizer, true);
  EXPECT_EQ(from_start.next(ids[0])[0], 't');
  EXPECT_EQ(continued.next(ids[0])[0], ' ');  // the space before a word that is not the first
}

TEST(StreamDecoder, BytesThatAreNoCharacterComeAsTheyAre) {
  const auto tokenizer = load_tokenizer_for(golden("pieces.model"));
  const auto byte = [&](int value) {
    const auto& tokens = dynamic_cast<const SubwordTokenizer&>(*tokenizer).spec().tokens;
    return int32_t(std::find(tokens.begin(), tokens.end(), fmt::format("<0x{:02X}>", value)) -
                   tokens.begin());
  };
  StreamDecoder decoder(*tokenizer, true);
  EXPECT_EQ(decoder.next(byte(0xE2)), "");
  EXPECT_EQ(decoder.next(byte(0x82)), "");
  EXPECT_EQ(decoder.next(byte(0xAC)), "\xE2\x82\xAC");
  EXPECT_EQ(decoder.next(byte(0xFF)), "\xFF");
  EXPECT_EQ(decoder.next(byte(0xF0)), "");
  EXPECT_EQ(decoder.next(byte('a')),
            "\xF0"
            "a");
  EXPECT_EQ(decoder.next(byte(0xC3)), "");
  EXPECT_EQ(decoder.finish(), "\xC3");
}

// Cases of the Unicode standard, chapter 3.11 and annex 15.
TEST(UnicodeComposition, FollowsTheStandard) {
  const auto nfc = [](std::string text) {
    compose_canonically(text);
    return text;
  };
  EXPECT_EQ(nfc("plain"), "plain");
  EXPECT_EQ(nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(nfc("\u212B"), "\u00C5");               // a singleton
  EXPECT_EQ(nfc("\u0958"), "\u0915\u093C");         // excluded from composition
  EXPECT_EQ(nfc("D\u0323\u0307"), "\u1E0C\u0307");  // the lower class first
  EXPECT_EQ(nfc("D\u0307\u0323"), "\u1E0C\u0307");
  EXPECT_EQ(nfc("\u1E9B\u0323"), "\u1E9B\u0323");
  EXPECT_EQ(nfc("a\u0315\u0300\u05AE"), "\u00E0\u05AE\u0315");
  EXPECT_EQ(nfc("\u0300e"), "\u0300e");  // nothing before the mark
  EXPECT_EQ(nfc("a\u0328\u0301\u0301"), "\u0105\u0301\u0301");
  EXPECT_EQ(nfc("\u1112\u1161\u11AB"), "\uD55C");  // Hangul
  EXPECT_EQ(nfc("\uD558\u11AB"), "\uD55C");
  EXPECT_EQ(nfc("\uD55C\u11AB"), "\uD55C\u11AB");
  EXPECT_EQ(nfc("\u0344"), "\u0308\u0301");
}

// Token files made by a pretrained model's tokenizer, which stands beside them.
TEST(Pretrained, TextsArePreparedWithAnyTokenizer) {
  const TemporaryDirectory directory;
  std::string text;
  for (const std::string& part : texts()) text += part + "\n";
  write_bytes(directory / "text.txt", text);
  DataOptions options;
  options.path = directory / "text.txt";
  options.tokenizer = "pretrained";
  options.validation_fraction = 0;
  options.prepared_directory = directory / "prepared";
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "needs tokenizer_files");
  options.replace = true;  // the second takes the first's place
  for (const char* name : {"llama3.gguf", "pieces.model"}) {
    options.tokenizer_files = golden(name);
    const Dataset data = prepare_and_open(options);
    const auto tokenizer = load_tokenizer_for(golden(name));
    EXPECT_EQ(data.tokenizer->hash(), tokenizer->hash());
    std::vector<int32_t> ids(size_t(data.train.count()));
    data.train.copy(0, ids);
    EXPECT_EQ(ids, tokenizer->encode(text));
  }
}

TEST(LoadTokenizerFor, SaysWhatItLookedFor) {
  const TemporaryDirectory directory;
  EXPECT_THROWS_SAYING(load_tokenizer_for(directory.path()), UserError, "holds no tokenizer");
  EXPECT_THROWS_SAYING(load_tokenizer_for(directory / "a.txt"), UserError, "cannot tell");
  EXPECT_THROWS_SAYING(load_tokenizer_for(directory / "a.gguf"), UserError, "a.gguf");
  EXPECT_THROWS_SAYING(load_tokenizer_for(directory / "a.bin"), UserError, "a.bin");
}

}  // namespace
}  // namespace reverie
