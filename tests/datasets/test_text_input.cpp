// Forms of a data path: files, directories, patterns, lines of JSON, compressed.

#include "datasets/text_input.h"

#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "datasets/compressed.h"
#include "datasets/data_support.h"
#include "datasets/dataset.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using testing::TemporaryDirectory;
using testing::write_bytes;

std::string gzip(std::string_view text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = uInt(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = uInt(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}
std::string zstandard(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string contents(const std::string& file) {
  std::string all;
  read_decompressed(file, [&](std::string_view piece) { all += piece; });
  return all;
}

class TextInputTest : public ::testing::Test {
 protected:
  // The documents of `path`, with `field` and `separator`; a text as a whole where it is one.
  std::vector<std::string> documents(const std::string& path, const std::string& field = "",
                                     const std::string& separator = "") {
    const TextInput input = read_text_input(find_text_files(directory / path, false), field,
                                            separator, directory / "scratch");
    EXPECT_FALSE(fs::exists(directory / "scratch"));
    if (input.documents.empty()) return {std::string(input.text)};
    return {input.documents.begin(), input.documents.end()};
  }
  void write(const std::string& name, const std::string& bytes) {
    fs::create_directories(fs::path(directory / name).parent_path());
    write_bytes(directory / name, bytes);
  }
  TemporaryDirectory directory;
};

TEST_F(TextInputTest, CompressedFilesAreReadAsTheyWere) {
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += fmt::format("line {}\n", i);
  write("t.txt.gz", gzip(text));
  write("t.txt.zst", zstandard(text));
  EXPECT_EQ(contents(directory / "t.txt.gz"), text);
  EXPECT_EQ(contents(directory / "t.txt.zst"), text);
  EXPECT_EQ(documents("t.txt.gz"), std::vector<std::string>{text});
  // Several members or frames follow one another; gzip's may end in zeros.
  write("two.gz", gzip("one, ") + gzip("two") + std::string(600, '\0'));
  write("two.zst", zstandard("one, ") + zstandard("two"));
  EXPECT_EQ(contents(directory / "two.gz"), "one, two");
  EXPECT_EQ(contents(directory / "two.zst"), "one, two");
  write("none.gz", gzip(""));
  EXPECT_EQ(contents(directory / "none.gz"), "");
}

TEST_F(TextInputTest, DamagedFilesAreRefused) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += fmt::format("line {}\n", i * i);
  const std::string gz = gzip(text), zst = zstandard(text);
  for (const size_t cut : {size_t(0), size_t(1), size_t(20), gz.size() / 2, gz.size() - 1}) {
    write("cut.gz", gz.substr(0, cut));
    EXPECT_THROWS_SAYING(contents(directory / "cut.gz"), DataError, "cut.gz");
    write("cut.zst", zst.substr(0, std::min(cut, zst.size() - 1)));
    EXPECT_THROWS_SAYING(contents(directory / "cut.zst"), DataError, "cut.zst");
  }
  std::string flipped = gz;
  flipped[gz.size() / 2] ^= 0x10;
  write("flipped.gz", flipped);
  EXPECT_THROWS_SAYING(contents(directory / "flipped.gz"), DataError, "not a sound gzip file");
  write("text.gz", "no gzip at all");
  EXPECT_THROWS_SAYING(contents(directory / "text.gz"), DataError, "not a sound gzip file");
  write("text.zst", "no zstd at all");
  EXPECT_THROWS_SAYING(contents(directory / "text.zst"), DataError, "not a sound Zstandard file");
}

TEST_F(TextInputTest, FilesOfADirectoryAreDocumentsByName) {
  write("books/b.txt", "\n second \r\n");
  write("books/a.md", "first");
  write("books/more/c.txt.gz", gzip("third"));
  write("books/more/d.jsonl", "{\"text\": \"fourth\"}\n{\"text\": \"fifth\"}");
  write("books/cover.png", "\x89PNG");
  write("books/.hidden.txt", "not this");
  write("books/empty.txt", " \n");
  EXPECT_THAT(documents("books", "text"),
              ElementsAre("first", "second", "third", "fourth", "fifth"));
  EXPECT_THAT(documents("books/*.txt"), ElementsAre("second"));
  EXPECT_THAT(documents("books/[ab].*"), ElementsAre("first", "second"));
  write("books/b.txt", "one\ntwo");
  EXPECT_THAT(documents("books/*.txt", "", "\n"), ElementsAre("one", "two"));
  EXPECT_THROWS_SAYING(documents("books/*.tex"), UserError, "no file matches");
  EXPECT_THROWS_SAYING(documents("nowhere.txt"), UserError, "does not exist");
  write("pictures/cover.png", "\x89PNG");
  EXPECT_THROWS_SAYING(documents("pictures"), UserError, "train.bin");
  write("blank/a.txt", "\n");
  EXPECT_THROWS_SAYING(documents("blank"), DataError, "empty");
  write("latin/a.txt", "fine");
  write("latin/b.txt", "caf\xE9");
  EXPECT_THROWS_SAYING(documents("latin"), DataError, "b.txt: ");
}

TEST_F(TextInputTest, LinesOfJsonAreDocuments) {
  const std::string lines =
      "\xEF\xBB\xBF{\"text\": \"one\\ntwo \\u00e9\\ud83d\\ude00\", \"id\": 1}\r\n\r\n"
      "{\"id\": 2, \"text\": \"  three\"}\n{\"text\": \"\"}\n{\"text\": \"last\"}";
  write("t.jsonl", lines);
  write("t.jsonl.zst", zstandard(lines));
  for (const char* name : {"t.jsonl", "t.jsonl.zst"})
    EXPECT_THAT(documents(name, "text"), ElementsAre("one\ntwo \u00e9\U0001F600", "three", "last"));
  EXPECT_THAT(documents("t.jsonl", "text", "\n"),
              ElementsAre("one", "two \u00e9\U0001F600", "three", "last"));
  EXPECT_THROWS_SAYING(documents("t.jsonl"), UserError, "fields with text are \"text\"");
  EXPECT_THROWS_SAYING(documents("t.jsonl", "body"), DataError,
                       "line 1 has no text in the field \"body\"");
  EXPECT_THROWS_SAYING(documents("t.jsonl", "id"), DataError, "line 1 has no text");
  write("t.jsonl", "{\"text\": \"one\"}\n{\"text\": ");
  EXPECT_THROWS_SAYING(documents("t.jsonl", "text"), DataError, "t.jsonl, line 2 is no JSON");
  write("t.jsonl", "[1]\n");
  EXPECT_THROWS_SAYING(documents("t.jsonl", "text"), DataError, "line 1 is not a JSON object");
}

TEST_F(TextInputTest, TokenDirectoriesAreToldApart) {
  write("tokens/train.bin", "");
  write("tokens/input.txt", "the text that it was made from");
  EXPECT_TRUE(is_token_directory(directory / "tokens"));
  write("prepared/dataset.json", "{}");
  EXPECT_TRUE(is_token_directory(directory / "prepared"));
  write("texts/a.txt", "text");
  EXPECT_FALSE(is_token_directory(directory / "texts"));
  EXPECT_FALSE(is_token_directory(directory / "texts/a.txt"));
}

// A data set of them: one mark behind each, whole documents in each part.
TEST_F(TextInputTest, ADatasetOfManyFiles) {
  for (int i = 0; i < 10; ++i) write(fmt::format("books/{}.txt", i), fmt::format("book {}\n", i));
  DataOptions options;
  options.path = directory / "books";
  options.prepared_directory = directory / "prepared";
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "document_token");
  options.document_token = "\n";
  options.validation_fraction = 0.3;
  const Dataset data = prepare_and_open(options);
  std::vector<int32_t> tokens(size_t(data.train.count()));
  data.train.copy(0, tokens);
  EXPECT_EQ(data.tokenizer->decode(tokens),
            "book 0\nbook 1\nbook 2\nbook 3\nbook 4\nbook 5\nbook 6\n");
  EXPECT_EQ(data.validation.count(), 21);
  EXPECT_EQ(data.name(), "books");
  EXPECT_EQ(data.provenance["documents"]["count"], 10);
  EXPECT_EQ(prepare_and_open(options).hash, data.hash);
  // The same files as a pattern are the same data.
  options.path = directory / "books/*.txt";
  EXPECT_EQ(prepare_and_open(options).hash, data.hash);
  write("books/3.txt", "book E\n");
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "another text");
  for (const auto& entry : fs::directory_iterator(directory.path()))
    EXPECT_EQ(entry.path().string().find("preparing"), std::string::npos);
}

TEST_F(TextInputTest, ACompressedTextIsThatText) {
  const std::string text = "to be or not to be that is the question";
  DataOptions options;
  for (const auto& [name, bytes] : {std::pair<std::string, std::string>{"t.txt", text},
                                    {"t.txt.gz", gzip(text)},
                                    {"t.txt.zst", zstandard(text)}}) {
    write(name, bytes);
    options.path = directory / name;
    options.prepared_directory = directory / (name + "-prepared");
    const Dataset data = prepare_and_open(options);
    EXPECT_EQ(data.name(), "t");
    EXPECT_EQ(data.train.count(), 35);
    EXPECT_FALSE(data.documents);
  }
}

}  // namespace
}  // namespace reverie
