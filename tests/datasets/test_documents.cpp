// Documents of a text: where they are cut, what marks them among tokens, and windows over them.

#include "datasets/documents.h"

#include <nlohmann/json.hpp>

#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/sampler.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::ElementsAre;
using testing::TemporaryDirectory;
using testing::write_bytes;

using Documents = std::vector<std::string_view>;

TEST(SplitDocuments, LineBreaksSeparateOnlyInTheirExactNumber) {
  const std::string text = "One.\n\nStill one.\nTwo.\nThree.\n\n\nStill three.\n";
  EXPECT_EQ(split_documents(text, "\n"),
            (Documents{"One.\n\nStill one.", "Two.", "Three.\n\n\nStill three."}));
  EXPECT_EQ(split_documents(text, "\n\n"),
            (Documents{"One.", "Still one.\nTwo.\nThree.\n\n\nStill three."}));
}

TEST(SplitDocuments, OtherSeparatorsStandForThemselves) {
  EXPECT_EQ(split_documents("a\n<|end|>\nb<|end|><|end|>  <|end|>c", "<|end|>"),
            (Documents{"a", "b", "c"}));
  EXPECT_EQ(split_documents("alone", "<|end|>"), (Documents{"alone"}));
  EXPECT_TRUE(split_documents(" \n ", "\n").empty());
  EXPECT_TRUE(split_documents("", "x").empty());
  EXPECT_THROWS_SAYING(split_documents("a", ""), UserError, "separator");
}

TEST(SplitDocuments, LineEndsMayBeThoseOfWindows) {
  for (const std::string& text :
       {std::string("One.\n\nStill one.\nTwo.\n--\nThree.\n\n\nStill three.\n"),
        std::string("\n\n\n\n"), std::string("a\n"), std::string("\na\n--\n\n--\nb\n\n")}) {
    std::string other;
    for (const char c : text) other += c == '\n' ? std::string("\r\n") : std::string(1, c);
    for (const char* separator : {"\n", "\n\n", "\n\n\n", "\n--\n", "--\n"}) {
      std::vector<std::string> documents;
      for (const std::string_view document : split_documents(other, separator)) {
        documents.emplace_back();
        for (const char c : document)
          if (c != '\r') documents.back() += c;
      }
      const Documents wanted = split_documents(text, separator);
      EXPECT_EQ(documents, std::vector<std::string>(wanted.begin(), wanted.end()))
          << separator << " in " << text;
    }
  }
  EXPECT_EQ(split_documents("a\r\nb\nc", "\r\n"), (Documents{"a", "b", "c"}));
  EXPECT_EQ(split_documents("a\rb\r\n\rc", "\n"), (Documents{"a\rb", "c"}));
}

// Characters, and marks above them.
class MarkedTokenizer final : public Tokenizer {
 public:
  std::optional<int32_t> begin, end;
  bool adds = false;
  std::string_view name() const override { return "marked"; }
  int32_t vocabulary_size() const override { return 258; }
  std::string decode(std::span<const int32_t>) const override { return ""; }
  std::optional<int32_t> end_of_text() const override { return end; }
  std::optional<int32_t> begin_of_text() const override { return begin; }
  bool adds_begin_of_text() const override { return adds; }
  size_t cut_after(std::string_view, size_t wanted) const override { return wanted; }
  Json definition() const override { return {}; }

 private:
  std::vector<int32_t> encode_text(std::string_view text, SpecialTokens) const override {
    return {text.begin(), text.end()};
  }
};

TEST(DocumentMark, IsWhatTheModelSawInTraining) {
  MarkedTokenizer tokenizer;
  EXPECT_THROWS_SAYING(document_mark(tokenizer, ""), UserError, "document_token");
  tokenizer.end = 257;
  EXPECT_EQ(document_mark(tokenizer, "").token, 257);
  EXPECT_FALSE(document_mark(tokenizer, "").begins);
  tokenizer.begin = 256;  // known, but not put before texts
  EXPECT_EQ(document_mark(tokenizer, "").token, 257);
  tokenizer.adds = true;
  EXPECT_EQ(document_mark(tokenizer, "").token, 256);
  EXPECT_TRUE(document_mark(tokenizer, "").begins);
  EXPECT_EQ(document_mark(tokenizer, "|").token, '|');
  EXPECT_FALSE(document_mark(tokenizer, "|").begins);
  EXPECT_THROWS_SAYING(document_mark(tokenizer, "||"), UserError, "2 tokens");
}

std::vector<int32_t> tokens_of(const TokenFile& file) {
  std::vector<int32_t> tokens(size_t(file.count()));
  file.copy(0, tokens);
  return tokens;
}

// A SentencePiece vocabulary that puts <s> before a text and a space before its first word.
TEST(DocumentsOfADataset, EachIsEncodedByItselfAndWhole) {
  const TemporaryDirectory directory;
  write_bytes(directory / "stories.txt", "the one\n\nof one\nthe two\nand three\n");
  DataOptions options;
  options.path = directory / "stories.txt";
  options.prepared_directory = directory / "prepared";
  options.tokenizer = "pretrained";
  options.tokenizer_files = testing::test_directory() + "/golden/tokenizers/pieces.model";
  options.document_separator = "\n";
  options.validation_fraction = 0.3;
  const Dataset data = prepare_and_open(options);
  const Tokenizer& tokenizer = *data.tokenizer;
  const int32_t begin = tokenizer.begin_of_text().value();
  const auto joined = [&](const std::vector<std::string>& documents) {
    std::vector<int32_t> tokens;
    for (const auto& d : documents) {
      tokens.push_back(begin);
      for (const int32_t t : tokenizer.encode(d)) tokens.push_back(t);
    }
    return tokens;
  };
  // The cut, 70 % of 35 characters, falls into the second story: it stays whole, in training.
  EXPECT_EQ(tokens_of(data.train), joined({"the one\n\nof one", "the two"}));
  EXPECT_EQ(tokens_of(data.validation), joined({"and three"}));
  ASSERT_TRUE(data.documents);
  EXPECT_EQ(data.documents->token, begin);
  EXPECT_TRUE(data.documents->begins);

  // Another separator is another data set; without one there is one text and no mark.
  options.document_separator = "";
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "documents: ");
  options.prepared_directory = directory / "whole";
  const Dataset whole = prepare_and_open(options);
  EXPECT_FALSE(whole.documents);
  EXPECT_EQ(tokens_of(whole.train), tokenizer.encode("the one\n\nof one\nthe two"));
  EXPECT_NE(whole.hash, data.hash);

  // Windows may begin with the token that the model saw before every text; the tokens stay.
  EXPECT_FALSE(whole.window_begin);
  options.begin_windows = true;
  const Dataset begun = prepare_and_open(options);
  EXPECT_EQ(begun.window_begin, begin);
  EXPECT_EQ(begun.train_rule().window_begin, begin);
  EXPECT_EQ(begun.validation_rule().window_begin, begin);
  EXPECT_EQ(begun.hash, whole.hash);
  options.begin_windows = false;

  // Once, line ends of Windows separated nothing: what was made then is not used again.
  DataOptions windows = options;
  windows.document_separator = "\n";
  windows.prepared_directory = directory / "windows";
  write_bytes(options.path, "the one\r\n\r\nof one\r\nthe two\r\nand three\r\n");
  EXPECT_EQ(prepare_and_open(windows).provenance["creation"]["documents"]["line_ends"], "crlf");
  EXPECT_EQ(prepare_and_open(windows).provenance["documents"]["count"], 3);

  options.tokenizer = "char";
  options.prepared_directory = directory / "characters";
  options.document_separator = "\n";
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "document_separator");
  options.document_separator = "";
  options.begin_windows = true;
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "has no begin-of-text token");
}

TEST(WindowsOfDocuments, BeginWhereDocumentsBeginAndShareNone) {
  const TemporaryDirectory directory;
  // Documents of 3, 9, 2, 2, 6 and 5 tokens behind their mark 0; tokens say where they stand.
  std::vector<int32_t> tokens;
  for (const int length : {3, 9, 2, 2, 6, 5}) {
    tokens.push_back(0);
    for (int i = 0; i < length; ++i) tokens.push_back(int32_t(tokens.size()));
  }
  TokenFileWriter writer(directory / "t.tok", 100, "", "");
  writer.append(tokens);
  writer.finish();
  const TokenFile file = open_tokens(directory / "t.tok");
  const auto starts = [&](const DocumentMark& mark, int64_t block, int64_t count) {
    std::vector<int64_t> out;
    const auto windows = EvaluationWindows::of_documents(file, mark, 4, block, count);
    for (int64_t i = 0; i < windows.window_count(); ++i) out.push_back(windows.window_start(i));
    EXPECT_EQ(windows.batch(0).tokens.size(0), std::min<int64_t>(4, windows.window_count()));
    return out;
  };
  // Documents begin at 0, 4, 14, 17, 20 and 27; a window takes block + 1 tokens.
  EXPECT_THAT(starts({0, true}, 3, 0), ElementsAre(0, 4, 14, 20, 27));
  EXPECT_THAT(starts({0, true}, 12, 0), ElementsAre(0, 14));
  EXPECT_THAT(starts({0, true}, 3, 2), ElementsAre(0, 14));
  // The same token as the end of documents: what follows it begins.
  EXPECT_THAT(starts({0, false}, 12, 0), ElementsAre(0, 15));
  EXPECT_THROWS_SAYING(EvaluationWindows::of_documents(file, {99, true}, 4, 3, 0), UserError,
                       "no document begins");
}

// stories260K knows where stories begin: a slip in how they are joined costs it perplexity, which
// then looks like something that could be learnt.
TEST(DocumentsOfADataset, TinyStoriesAsItsModelSawThem) {
  NEED_DATA("tinystories/tiny_stories_944k.txt");
  const TemporaryDirectory directory;
  DataOptions options;
  options.path = testing::data_file("tinystories/tiny_stories_944k.txt");
  options.prepared_directory = directory / "prepared";
  options.tokenizer = "pretrained";
  options.tokenizer_files = testing::data_file("stories260K/tok512.bin");
  options.document_separator = "\n";
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.documents->token, 1);
  const auto tokens = tokens_of(data.train);
  EXPECT_EQ(std::count(tokens.begin(), tokens.end(), 1),
            data.provenance["documents"]["train"].get<int64_t>());
  // "One day, a little girl named Lily found a needle in her room."
  EXPECT_EQ(data.tokenizer->decode(std::span(tokens).subspan(1, 4)).substr(0, 7), "One day");
}

}  // namespace
}  // namespace reverie
