#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "core/json.h"
#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/tokenizers/bpe_tokenizer.h"
#include "datasets/tokenizers/gpt2_split.h"
#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using testing::data_file;
using ::testing::ElementsAre;
using testing::TemporaryDirectory;
using testing::write_bytes;

const BpeTokenizer& gpt2() {
  static const auto tokenizer = BpeTokenizer::from_gpt2_files(data_file("gpt2-bpe"));
  return *tokenizer;
}

// FNV-1a over the ids as 32-bit units, as tests/golden/make/make_bpe_golden.py has it.
std::string fnv1a(std::span<const int32_t> ids) {
  uint64_t value = 0xCBF29CE484222325u;
  for (const int32_t id : ids) value = (value ^ uint32_t(id)) * 0x100000001B3u;
  return fmt::format("{:016x}", value);
}

Json golden() {
  return parse_json(read_file(testing::test_directory() + "/golden/gpt2_bpe.json"));
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = gpt2_word_end(text, at);
    words.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

// ---- the split, without data ------------------------------------------------------------------

TEST(Gpt2Split, FollowsThePattern) {
  EXPECT_THAT(split("Hello world's 42nd  test!\n"),
              ElementsAre("Hello", " world", "'s", " 42", "nd", " ", " test", "!", "\n"));
  EXPECT_THAT(split("  a \t\n b\n\n"), ElementsAre(" ", " a", " \t\n", " b", "\n\n"));
  EXPECT_THAT(split("\t\tx"), ElementsAre("\t", "\t", "x"));
  EXPECT_THAT(split("'sS ''s 'LL we'Ve"),
              ElementsAre("'s", "S", " ''", "s", " '", "LL", " we", "'", "Ve"));
  EXPECT_THAT(split("   "), ElementsAre("   "));
  EXPECT_THAT(split("'"), ElementsAre("'"));
  EXPECT_THAT(split("'l"), ElementsAre("'", "l"));
  EXPECT_THAT(split(""), ElementsAre());
  EXPECT_THROWS_SAYING(split("ab \xFF"), DataError, "byte offset 3");
  EXPECT_THROWS_SAYING(split("ab\xC3"), DataError, "byte offset 2");
}

// \s is the White_Space property: as in Python's regex and Rust, unlike Python's re
// (U+001C..U+001F) and PCRE2 (U+180E).
TEST(Gpt2Split, SpacesAreTheWhiteSpaceProperty) {
  for (const uint32_t c : {0x9, 0xA, 0xB, 0xC, 0xD, 0x20, 0x85, 0xA0, 0x1680, 0x2000, 0x200A,
                           0x2028, 0x2029, 0x202F, 0x205F, 0x3000})
    EXPECT_EQ(character_class(c), CharacterClass::space) << std::hex << c;
  for (const uint32_t c : {0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0x2060, 0xFEFF})
    EXPECT_EQ(character_class(c), CharacterClass::other) << std::hex << c;
}

TEST(Gpt2Split, ClassesAreThoseOfUnicode16) {
  int64_t letters = 0, numbers = 0;
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    letters += character_class(c) == CharacterClass::letter;
    numbers += character_class(c) == CharacterClass::number;
  }
  EXPECT_EQ(letters, 141'028);
  EXPECT_EQ(numbers, 1'911);
  EXPECT_EQ(character_class(0x11F04), CharacterClass::letter);  // Unicode 15
  EXPECT_EQ(character_class(0x2EBF0), CharacterClass::letter);  // 15.1
  EXPECT_EQ(character_class(0x10D4A), CharacterClass::letter);  // 16
  EXPECT_EQ(character_class(0x10D40), CharacterClass::number);  // 16
  EXPECT_EQ(character_class(0x323B0), CharacterClass::other);   // a letter since 17
  EXPECT_EQ(character_class(0x10FFFF), CharacterClass::other);
}

// PCRE2 runs GPT-2's pattern itself, with \s written out. An independent judge of the scanner on
// every character whose class its Unicode version shares with ours.
class Pcre2 {
 public:
  explicit Pcre2(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE where = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.c_str()), pattern.size(),
                          PCRE2_UTF | PCRE2_UCP, &error, &where, nullptr);
    if (!code_) throw std::runtime_error("PCRE2 refuses the pattern");
    match_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~Pcre2() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }
  Pcre2(const Pcre2&) = delete;
  Pcre2& operator=(const Pcre2&) = delete;

  // The end of the match at `at`, or 0.
  size_t match_end(const std::string& text, size_t at) const {
    const int found = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                  PCRE2_ANCHORED, match_, nullptr);
    return found < 0 ? 0 : pcre2_get_ovector_pointer(match_)[1];
  }

 private:
  pcre2_code* code_ = nullptr;
  pcre2_match_data* match_ = nullptr;
};

TEST(Gpt2Split, AgreesWithPcre2OnRandomText) {
  const std::string space =
      R"(\t-\r \x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
  const Pcre2 pattern("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" + space +
                      "\\p{L}\\p{N}]+|[" + space + "]+(?![^" + space + "])|[" + space + "]+");
  const Pcre2 letter("\\p{L}"), number("\\p{N}");
  std::vector<uint32_t> shared;
  size_t different = 0;
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    append_code_point(text, c);
    const auto kind = character_class(c);
    if ((kind == CharacterClass::letter) == (letter.match_end(text, 0) > 0) &&
        (kind == CharacterClass::number) == (number.match_end(text, 0) > 0))
      shared.push_back(c);
    else
      ++different;
  }
  EXPECT_LT(different, 40'000u);  // the letters that came between its Unicode version and ours
  RecordProperty("characters_classed_otherwise_by_this_pcre2", int(different));

  std::mt19937 random(5);
  const auto below = [&](size_t n) { return size_t(random()) % n; };
  const std::vector<std::string> favourites = {" ",   " ",   "  ", "\n", "\t", "'", "'s",
                                               "'ll", "'re", "a",  "Z",  "7",  "!", "\xC2\xA0"};
  for (int i = 0; i < 20'000; ++i) {
    std::string text;
    for (size_t n = 1 + below(24); n > 0; --n)
      if (below(3)) {
        text += favourites[below(favourites.size())];
      } else {
        append_code_point(text, shared[below(2) ? below(shared.size()) : below(0x3100)]);
      }
    for (size_t at = 0; at < text.size();) {
      const size_t end = gpt2_word_end(text, at);
      ASSERT_EQ(end, pattern.match_end(text, at))
          << ::testing::PrintToString(text) << " from byte " << at;
      at = end;
    }
  }
}

// ---- merges, on a small vocabulary ------------------------------------------------------------

// Bytes are their own tokens; then "ab" 256, "abc" 257, "ca" 258; end of text 259.
std::shared_ptr<const BpeTokenizer> small_bpe() {
  std::array<int32_t, 256> bytes{};
  for (int32_t i = 0; i < 256; ++i) bytes[size_t(i)] = i;
  return std::make_shared<BpeTokenizer>(
      bytes, std::vector<BpeTokenizer::Merge>{{'a', 'b', 256}, {256, 'c', 257}, {'c', 'a', 258}},
      259);
}

TEST(BpeTokenizer, MergesTheLowestRankFirst) {
  const auto bpe = small_bpe();
  EXPECT_EQ(bpe->vocabulary_size(), 260);
  EXPECT_THAT(bpe->encode("abcab"), ElementsAre(257, 256));
  EXPECT_THAT(bpe->encode("cab"), ElementsAre('c', 256));  // "ab" before "ca"
  EXPECT_THAT(bpe->encode("caab"), ElementsAre(258, 256));
  EXPECT_THAT(bpe->encode("x<|endoftext|>ab"), ElementsAre('x', 259, 256));
  EXPECT_EQ(bpe->encode("<|endoftext|>", SpecialTokens::as_text).size(), 13u);
  EXPECT_EQ(bpe->end_of_text(), 259);
  EXPECT_EQ(bpe->decode(std::vector<int32_t>{257, 0xFF, 259, 256}), "abc\xFF<|endoftext|>ab");
  EXPECT_THROWS_SAYING(bpe->decode(std::vector<int32_t>{260}), UserError, "token 260");
  EXPECT_THROWS_SAYING(bpe->encode("good \xC3("), DataError, "byte offset 5");
  EXPECT_THROWS_SAYING(bpe->encode("<|endoftext|>\xC3("), DataError, "byte offset 13");
}

TEST(BpeTokenizer, RefusesMergesThatMakeNoSense) {
  std::array<int32_t, 256> bytes{};
  for (int32_t i = 0; i < 256; ++i) bytes[size_t(i)] = i;
  using Merges = std::vector<BpeTokenizer::Merge>;
  EXPECT_THROWS_SAYING(BpeTokenizer(bytes, Merges{{257, 'c', 256}, {'a', 'b', 257}}, 258),
                       DataError, "no earlier merge");
  EXPECT_THROWS_SAYING(BpeTokenizer(bytes, Merges{{'a', 'b', 256}, {'a', 'b', 257}}, 258),
                       DataError, "given twice");
  EXPECT_THROWS_SAYING(BpeTokenizer(bytes, Merges{{'a', 'b', 300}}, 257), DataError, "token 300");
  EXPECT_THROWS_SAYING(BpeTokenizer(bytes, Merges{{'a', 'b', 256}}, 256), DataError, "token 256");
  EXPECT_THROWS_SAYING(BpeTokenizer(bytes, Merges{{-1, 'b', 256}}, 257), DataError, "token -1");
  bytes[7] = 8;
  EXPECT_THROWS_SAYING(BpeTokenizer(bytes, Merges{}, 256), DataError, "token 8");
}

TEST(BpeTokenizer, MalformedFilesAreRefused) {
  const TemporaryDirectory directory;
  EXPECT_THROWS_SAYING(BpeTokenizer::from_gpt2_files(directory.path()), UserError, "encoder.json");
  write_bytes(directory / "encoder.json", "{\"a\": ");
  EXPECT_THROWS_SAYING(BpeTokenizer::from_gpt2_files(directory.path()), DataError, "encoder.json");
  write_bytes(directory / "encoder.json", "{\"a\": 0}");
  EXPECT_THROWS_SAYING(BpeTokenizer::from_gpt2_files(directory.path()), DataError,
                       "lacks the token");
}

// ---- GPT-2 ------------------------------------------------------------------------------------

TEST(Gpt2, GivesTheTokensThatTiktokenGives) {
  NEED_DATA("gpt2-bpe");
  const Json cases = golden()["cases"];
  ASSERT_GE(cases.size(), 350u);
  for (const Json& entry : cases) {
    const auto name = entry["name"].get<std::string>(), text = entry["text"].get<std::string>();
    const auto ids = entry["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(gpt2().encode(text), ids) << name;
    EXPECT_EQ(gpt2().decode(ids), text) << name;
    const auto ordinary =
        entry.contains("ordinary_ids") ? entry["ordinary_ids"].get<std::vector<int32_t>>() : ids;
    EXPECT_EQ(gpt2().encode(text, SpecialTokens::as_text), ordinary) << name;
    EXPECT_EQ(gpt2().decode(ordinary), text) << name;
  }
}

TEST(Gpt2, GivesTiktokensTokensForWholeFiles) {
  NEED_DATA("gpt2-bpe");
  const Json files = golden()["files"];
  ASSERT_EQ(files.size(), 3u);
  for (const auto& [name, wanted] : files.items()) {
    const std::string text = read_file(data_file(name));
    const auto ids = gpt2().encode(text);
    EXPECT_EQ(ids.size(), wanted["tokens"].get<size_t>()) << name;
    EXPECT_EQ(fnv1a(ids), wanted["fnv1a"].get<std::string>()) << name;
    EXPECT_EQ(gpt2().decode(ids), text) << name;
  }
}

TEST(Gpt2, VocabularyIsGpt2s) {
  NEED_DATA("gpt2-bpe");
  EXPECT_EQ(gpt2().vocabulary_size(), 50257);
  EXPECT_EQ(gpt2().end_of_text(), 50256);
  EXPECT_EQ(gpt2().name(), "gpt2");
  EXPECT_EQ(gpt2().decode(std::vector<int32_t>{50256}), "<|endoftext|>");
}

TEST(Gpt2, EveryByteDecodesExactly) {
  NEED_DATA("gpt2-bpe");
  std::string bytes;
  std::vector<int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) {
    gpt2().encode_word(std::string(1, char(byte)), ids);
    bytes += char(byte);
  }
  EXPECT_EQ(gpt2().decode(ids), bytes);
}

// Words of up to 128 bytes are merged by a scan and longer ones by a heap; around the border the
// two must agree.
TEST(Gpt2, LongWordsMergeAsShortOnes) {
  NEED_DATA("gpt2-bpe");
  std::mt19937 random(17);
  for (int i = 0; i < 300; ++i) {
    // No merge of GPT-2 joins a letter with what follows the four bytes FF FE FF FE, so the halves
    // stand alone.
    std::string left, right;
    for (size_t n = 20 + random() % 80; n > 0; --n) left += "etaoinshrdlu"[random() % (i % 11 + 1)];
    for (size_t n = 20 + random() % 80; n > 0; --n)
      right += "etaoinshrdlu"[random() % (i % 11 + 1)];
    const std::string wall = "\xFF\xFE\xFF\xFE\xFF\xFE\xFF\xFE";
    std::vector<int32_t> apart, together;
    for (const std::string& word : {left, wall, right}) gpt2().encode_word(word, apart);
    gpt2().encode_word(left + wall + right, together);
    EXPECT_EQ(apart, together) << left << " and " << right;
  }
}

TEST(Gpt2, CutsGiveTheTokensOfTheWhole) {
  NEED_DATA("gpt2-bpe");
  const Json cases = golden()["cases"];
  size_t cuts = 0;
  for (const Json& entry : cases) {
    const auto text = entry["text"].get<std::string>();
    const auto whole = gpt2().encode(text);
    for (size_t wanted = 0; wanted <= text.size(); wanted += 1 + wanted / 50) {
      const size_t cut = gpt2().cut_after(text, wanted);
      cuts += cut < text.size();
      ASSERT_GE(cut, wanted);
      auto pieces = gpt2().encode(text.substr(0, cut));
      const auto rest = gpt2().encode(text.substr(cut));
      pieces.insert(pieces.end(), rest.begin(), rest.end());
      ASSERT_EQ(pieces, whole) << entry["name"] << " cut at " << cut;
    }
  }
  EXPECT_GT(cuts, 1000u);
}

TEST(Gpt2, SavedAndLoadedItIsEqual) {
  NEED_DATA("gpt2-bpe");
  const TemporaryDirectory directory;
  gpt2().save(directory.path());
  const auto loaded = load_tokenizer(directory.path());
  EXPECT_EQ(loaded->hash(), gpt2().hash());
  EXPECT_EQ(loaded->vocabulary_size(), 50257);
  const std::string text = "The same tokens, wherever they're loaded from.<|endoftext|>";
  EXPECT_EQ(loaded->encode(text), gpt2().encode(text));
}

TEST(Gpt2, ManyThreadsMayEncodeAtOnce) {
  NEED_DATA("gpt2-bpe");
  const std::string text = read_file(data_file("tinyshakespeare/input.txt")).substr(0, 100'000);
  const auto wanted = gpt2().encode(text);
  std::vector<std::vector<int32_t>> ids(4);
  std::vector<std::thread> threads;
  for (auto& out : ids) threads.emplace_back([&] { out = gpt2().encode(text); });
  for (auto& thread : threads) thread.join();
  for (const auto& out : ids) EXPECT_EQ(out, wanted);
}

// nanoGPT's data/shakespeare/prepare.py: 301,966 tokens to train on and 36,059 to validate.
TEST(Gpt2, PreparesShakespeareAsNanoGptDoes) {
  NEED_DATA("gpt2-bpe");
  const TemporaryDirectory directory;
  DataOptions options;
  options.tokenizer = "gpt2";
  options.prepared_directory = directory / "prepared";
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.train.count(), 301'966);
  EXPECT_EQ(data.validation.count(), 36'059);
  EXPECT_EQ(data.vocabulary_size(), 50257);
  EXPECT_EQ(data.tokenizer->hash(), gpt2().hash());
}

// Prepared in parallel pieces, a text of several pieces has the tokens of the whole.
TEST(Gpt2, PreparesInPiecesTheTokensOfTheWhole) {
  NEED_DATA("gpt2-bpe");
  const TemporaryDirectory directory;
  DataOptions options;
  options.path = data_file("openwebtext/owt-1000docs.txt");
  options.tokenizer = "gpt2";
  options.validation_fraction = 0;
  options.prepared_directory = directory / "prepared";
  const Dataset data = prepare_and_open(options);
  std::vector<int32_t> ids(size_t(data.train.count()));
  data.train.copy(0, ids);
  EXPECT_EQ(fnv1a(ids),
            golden()["files"]["openwebtext/owt-1000docs.txt"]["fnv1a"].get<std::string>());
  EXPECT_EQ(data.validation.count(), 0);
}

}  // namespace
}  // namespace reverie
