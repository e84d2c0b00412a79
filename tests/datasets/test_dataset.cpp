#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/sources.h"
#include "datasets/tokenizers/char_tokenizer.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;
using testing::ScopedVariable;
using testing::TemporaryDirectory;
using testing::write_bytes;

std::string text_of(const TokenFile& file, const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens(size_t(file.count()));
  file.copy(0, tokens);
  return tokenizer.decode(tokens);
}

DataOptions options_for(const TemporaryDirectory& directory, const std::string& text) {
  write_bytes(directory / "story.txt", text);
  DataOptions options;
  options.path = directory / "story.txt";
  options.prepared_directory = directory / "prepared";
  return options;
}

TEST(Dataset, PreparesATextAndOpensIt) {
  const TemporaryDirectory directory;
  std::string text;
  for (int i = 0; i < 99; ++i) text += char('a' + i % 26);
  text += "\xC3\xB6";  // 100 characters, 101 bytes
  const Dataset data = prepare_and_open(options_for(directory, text));
  EXPECT_EQ(data.train.count(), 90);
  EXPECT_EQ(data.validation.count(), 10);
  EXPECT_EQ(data.vocabulary_size(), 27);
  EXPECT_EQ(text_of(data.train, *data.tokenizer), text.substr(0, 90));
  EXPECT_EQ(text_of(data.validation, *data.tokenizer), text.substr(90));
  EXPECT_EQ(data.name(), "story");
  EXPECT_EQ(data.note(), "");
  EXPECT_EQ(data.provenance["source"]["characters"], 100);
  EXPECT_EQ(data.provenance["source"]["hash"], hash_bytes(text.data(), text.size()));
  EXPECT_EQ(data.train.source_hash(), hash_bytes(text.data(), text.size()));
  EXPECT_EQ(data.hash.size(), 32u);
  for (const char* file : {"train.tok", "validation.tok", "reverie_tokenizer.json", "dataset.json"})
    EXPECT_TRUE(fs::exists(directory / ("prepared/" + std::string(file)))) << file;
}

TEST(Dataset, IsMadeOnceAndAgainWhenAnythingChanges) {
  const TemporaryDirectory directory;
  DataOptions options = options_for(directory, std::string(60, 'a') + std::string(60, 'b'));
  int made = 0;
  const PrepareProgress count = [&](int64_t done, int64_t total) { made += done == total; };
  const std::string first = prepare_and_open(options, count).hash;
  EXPECT_EQ(made, 1);
  EXPECT_EQ(prepare_and_open(options, count).hash, first);
  EXPECT_EQ(made, 1);
  options.replace = true;
  options.validation_fraction = 0.25;
  EXPECT_NE(prepare_and_open(options, count).hash, first);
  EXPECT_EQ(made, 2);
  write_bytes(options.path, std::string(61, 'a') + std::string(60, 'b'));
  EXPECT_NE(prepare_and_open(options, count).hash, first);
  EXPECT_EQ(made, 3);
  options.replace = false;
  fs::remove(directory / "prepared/validation.tok");
  EXPECT_NO_THROW(prepare_and_open(options, count));
  EXPECT_EQ(made, 4);
  // Nothing temporary is left.
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 2);
}

// Half of a word is no word of the vocabulary: the one around the cut is kept whole.
TEST(Dataset, WordsAreNotCutBetweenTheParts) {
  const TemporaryDirectory directory;
  const std::string text = "there are three unlikely\nwords";
  for (size_t characters = 1; characters < text.size(); ++characters) {
    DataOptions options = options_for(directory, text);
    options.tokenizer = "word";
    options.replace = true;
    options.validation_fraction = 1 - (double(characters) + 0.5) / double(text.size());
    const Dataset data = prepare_and_open(options);
    const std::string training = text_of(data.train, *data.tokenizer),
                      held_out = text_of(data.validation, *data.tokenizer);
    EXPECT_EQ(training + held_out, text) << characters;
    EXPECT_GE(training.size(), characters);
    EXPECT_TRUE(held_out.empty() || held_out[0] == ' ' || held_out[0] == '\n' ||
                training.back() == '\n')
        << held_out;
    const size_t end = std::min(text.find_first_of(" \n", characters), text.size());
    EXPECT_LE(training.size(), end) << "no more than the rest of the word";
    options.tokenizer = "char";
    EXPECT_EQ(size_t(prepare_and_open(options).train.count()), characters);
  }
}

std::vector<std::string> everything_in(const std::string& directory) {
  std::vector<std::string> paths;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    paths.push_back(entry.path().string());
  return paths;
}

TEST(Dataset, DescribingAndOpeningWriteNothing) {
  const TemporaryDirectory directory;
  const DataOptions options = options_for(directory, "to be or not to be that is the question");
  const auto before = everything_in(directory.path());
  const DatasetDescription description = describe_dataset(options);
  EXPECT_EQ(description.directory, directory / "prepared");
  EXPECT_EQ(description.source.name, "story");
  EXPECT_EQ(find_prepared_data(description), PreparedData::missing);
  EXPECT_EQ(prepared_hash(description), std::nullopt);
  EXPECT_THROWS_SAYING(open_dataset(description), UserError, "prepare them first");
  EXPECT_EQ(everything_in(directory.path()), before);

  EXPECT_EQ(prepare_dataset(description), description.directory);
  const Dataset data = open_dataset(description);
  EXPECT_EQ(prepared_hash(description), data.hash);
  DataOptions other = options;
  other.validation_fraction = 0.25;
  EXPECT_EQ(prepared_hash(describe_dataset(other)), std::nullopt);
  EXPECT_THROWS_SAYING(open_dataset(describe_dataset(other)), UserError, "validation_fraction");
  DataOptions named;
  named.path = description.directory;
  EXPECT_EQ(prepared_hash(describe_dataset(named)), data.hash);
  EXPECT_EQ(prepare_dataset(describe_dataset(named)), named.path);
}

// One of each layout: what is recorded, and the ids that follow the tokenizer's own.
TEST(Dataset, EachLayoutRecordsItself) {
  const TemporaryDirectory directory;
  DataOptions plain = options_for(directory, "one\ntwo\nthree\nfour\n");
  plain.validation_fraction = 0.5;
  const DatasetDescription as_text = describe_dataset(plain);
  DataOptions documents = plain;
  documents.document_separator = documents.document_token = "\n";
  documents.prepared_directory = directory / "documents";
  DataOptions examples = plain;
  examples.prepared_directory = directory / "examples";
  write_bytes(directory / "e.json",
              R"([{"question": "a b", "steps": ["c"], "answer": "d"},
                  {"question": "e f", "steps": [], "answer": "g"}])");
  examples.path = directory / "e.json";
  examples.tokenizer = "word";
  examples.examples.form = "prosqa";
  const Dataset a = prepare_and_open(plain), b = prepare_and_open(documents),
                c = prepare_and_open(examples);
  EXPECT_FALSE(a.documents || a.examples || b.examples || c.documents);
  EXPECT_FALSE(as_text.creation.contains("documents"));
  EXPECT_EQ(b.documents.value().token, b.tokenizer->encode("\n")[0]);
  EXPECT_EQ(b.provenance["documents"]["count"], 4);
  EXPECT_EQ(c.examples.value().first_mark, c.tokenizer->vocabulary_size());
  EXPECT_EQ(c.vocabulary_size(), c.tokenizer->vocabulary_size() + ExampleLayout::kMarks);
  documents.examples.form = "prosqa";
  EXPECT_THROWS_SAYING(describe_dataset(documents), UserError, "document_separator");
}

// Names and token bytes of data that earlier versions prepared: they are found and used again.
TEST(Dataset, NamesAndBytesStay) {
  const TemporaryDirectory directory;
  const fs::path before = fs::current_path();
  fs::current_path(directory.path());
  fs::create_directories("docs");
  write_bytes("story.txt", "to be or not to be\nthat is the question\n");
  fs::copy_file("story.txt", "docs/a.txt");
  write_bytes("docs/b.txt", "all the world\n");
  write_bytes("e.json", R"([{"question":"a b","steps":["c"],"answer":"d"},)"
                        R"({"question":"e f","steps":[],"answer":"g"}])");
  const auto check = [](const DataOptions& options, const char* name, const char* checksum) {
    const Dataset data = prepare_and_open(options);
    EXPECT_EQ(fs::path(data.train.path()).parent_path(), name);
    EXPECT_EQ(data.train.checksum(), checksum) << name;
  };
  DataOptions text, separated, documents, examples;
  text.path = separated.path = "story.txt";
  documents.path = "docs";
  separated.document_separator = separated.document_token = documents.document_token = "\n";
  examples.path = "e.json";
  examples.tokenizer = "word";
  examples.validation_fraction = 0.5;
  examples.examples.form = "prosqa";
  examples.examples.stage = 1;
  check(text, "data/story-char-537201c1", "fe078edd6ce0a3a0ed51d81bb272216b");
  check(separated, "data/story-char-documents-fdc0ee4e", "76ec8cae4251763798ee2da1089bfe5c");
  check(documents, "data/docs-char-cd86d59a", "1390cfa5dc4f97bdd79b20d9148a630c");
  check(examples, "data/e-word-stage1x1-6b5c6989", "c32a505fbe3bb9eff7b598a691c276ad");
  fs::current_path(before);
}

// Whoever named a directory may still need what is in it.
TEST(Dataset, OtherDataInANamedDirectoryStay) {
  const TemporaryDirectory directory;
  const DataOptions options = options_for(directory, "to be or not to be that is the question");
  const std::string hash = prepare_and_open(options).hash;
  EXPECT_EQ(find_prepared_data(describe_dataset(options)), PreparedData::current);
  DataOptions other = options;
  other.validation_fraction = 0.25;
  EXPECT_EQ(find_prepared_data(describe_dataset(other)), PreparedData::other);
  EXPECT_THROWS_SAYING(prepare_and_open(other), UserError, "validation_fraction: 0.1 -> 0.25");
  other = options;
  other.path = directory / "other.txt";
  write_bytes(other.path, "all the world's a stage");
  EXPECT_THROWS_SAYING(prepare_and_open(other), UserError, "prepared from another text");
  other.prepared_directory = directory / "elsewhere";
  EXPECT_EQ(find_prepared_data(describe_dataset(other)), PreparedData::missing);
  EXPECT_EQ(prepare_and_open(options).hash, hash);
}

TEST(Dataset, AnotherVocabularyIsAnotherDataSet) {
  const TemporaryDirectory directory;
  DataOptions options = options_for(directory, "the one of the two and the other one");
  options.tokenizer = "pretrained";
  const auto small = [&](const char* last) {
    write_bytes(directory / "tokenizer.json",
                std::string(R"({"added_tokens": [{"id": 5, "content": ")") + last +
                    R"("}], "normalizer": null, "pre_tokenizer": null, "decoder": {"type": "Fuse"},
                       "model": {"type": "BPE", "unk_token": "?", "merges": [],
                                 "vocab": {"?": 0, "t": 1, "h": 2, "e": 3, " ": 4}}})");
  };
  options.tokenizer_files = directory / "tokenizer.json";
  small("one");
  const Dataset one = prepare_and_open(options);
  EXPECT_EQ(prepare_and_open(options).hash, one.hash);
  small("other");  // the same file, another added token
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "tokenizer_hash");
  options.prepared_directory = directory / "again";
  EXPECT_NE(prepare_and_open(options).hash, one.hash);
}

// Two texts of one name, and two ways to prepare one text, are kept apart where no directory is
// named.
TEST(Dataset, UnnamedDirectoriesAreOfOneDataSetEach) {
  const TemporaryDirectory directory;
  const fs::path before = fs::current_path();
  fs::current_path(directory.path());
  fs::create_directories("a");
  fs::create_directories("b");
  write_bytes("a/story.txt", "to be or not to be");
  write_bytes("b/story.txt", "all the world's a stage");
  DataOptions a, b, quarter;
  a.path = quarter.path = "a/story.txt";
  b.path = "b/story.txt";
  quarter.validation_fraction = 0.25;
  const std::string first = prepare_dataset(describe_dataset(a));
  EXPECT_TRUE(first.starts_with("data/story-char-")) << first;
  EXPECT_NE(prepare_dataset(describe_dataset(b)), first);
  EXPECT_NE(prepare_dataset(describe_dataset(quarter)), first);
  EXPECT_EQ(prepare_dataset(describe_dataset(a)), first);
  EXPECT_EQ(std::distance(fs::directory_iterator("data"), {}), 3);
  // Data of an earlier version, under the name alone, are used again.
  fs::rename(first, "data/story-char");
  EXPECT_EQ(prepare_dataset(describe_dataset(a)), "data/story-char");
  EXPECT_EQ(prepare_dataset(describe_dataset(quarter)), prepare_dataset(describe_dataset(quarter)));
  // A name near the limit of file systems leaves room for what comes behind it.
  const std::string longest = std::string(250, 'n') + ".txt";
  write_bytes(longest, "to be or not to be");
  DataOptions of_long;
  of_long.path = longest;
  EXPECT_TRUE(fs::exists(prepare_dataset(describe_dataset(of_long)) + "/train.tok"));
  // Nor need a name be UTF-8.
  write_bytes("a\xFF.txt", "to be or not to be");
  of_long.path = "a\xFF.txt";
  EXPECT_EQ(prepare_and_open(of_long).train.count(), 16);
  fs::current_path(before);
}

TEST(Dataset, ProgressRisesToTheWhole) {
  const TemporaryDirectory directory;
  const std::string text(5'000'000, 'x');
  std::vector<int64_t> seen;
  prepare_dataset(describe_dataset(options_for(directory, text)), [&](int64_t done, int64_t total) {
    EXPECT_EQ(total, 5'000'000);
    seen.push_back(done);
  });
  EXPECT_GE(seen.size(), 6u);
  EXPECT_EQ(seen.front(), 0);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 5'000'000);
}

TEST(Dataset, BadTextsAreRefusedAndLeaveNothing) {
  const TemporaryDirectory directory;
  EXPECT_THROWS_SAYING(prepare_and_open(options_for(directory, "")), DataError, "is empty");
  EXPECT_THROWS_SAYING(prepare_and_open(options_for(directory, "a")), UserError,
                       "none to train on");
  EXPECT_THROWS_SAYING(
      prepare_and_open(options_for(directory, std::string(3'000'000, 'a') + "\xC3(")), DataError,
      "byte 0xc3 at byte offset 3000000");
  DataOptions options;
  options.path = directory / "none.txt";
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "does not exist");
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 1);  // the text alone
}

TEST(Dataset, NeverOverwritesWhatItDidNotMake) {
  const TemporaryDirectory directory;
  const DataOptions options = options_for(directory, "some text to learn");
  fs::create_directory(directory / "prepared");
  write_bytes(directory / "prepared/thesis.txt", "years of work");
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "holds something else");
  EXPECT_EQ(read_file(directory / "prepared/thesis.txt"), "years of work");
}

TEST(Dataset, DamagedFilesAreRefused) {
  const TemporaryDirectory directory;
  DataOptions options = options_for(directory, "to be or not to be that is the question");
  prepare_and_open(options);
  const std::string train = directory / "prepared/train.tok", good = read_file(train);
  write_bytes(train, good.substr(0, good.size() - 2));
  EXPECT_THROWS_SAYING(prepare_and_open(options), DataError, "truncated");
  std::string flipped = good;
  flipped.back() = char(flipped.back() ^ 1);
  write_bytes(train, flipped);
  EXPECT_THROWS_SAYING(prepare_and_open(options), DataError, "altered");
  write_bytes(train, good);
  EXPECT_NO_THROW(prepare_and_open(options));
  CharTokenizer::from_text("xyz")->save(directory / "prepared");
  EXPECT_THROWS_SAYING(prepare_and_open(options), DataError, "another tokenizer");
  write_bytes(directory / "prepared/dataset.json", "{\"format\": ");
  EXPECT_THROWS_SAYING(prepare_and_open(options), DataError, "dataset.json");
}

TEST(Dataset, APreparedDirectoryNeedsNoText) {
  const TemporaryDirectory directory;
  DataOptions options = options_for(directory, "to be or not to be that is the question");
  const std::string hash = prepare_and_open(options).hash;
  fs::remove(options.path);
  options.path = directory / "prepared";
  EXPECT_EQ(prepare_and_open(options).hash, hash);
}

TEST(Dataset, ASmallerModelVocabularyIsRefused) {
  const TemporaryDirectory directory;
  const Dataset data = prepare_and_open(options_for(directory, "abcdefghij"));
  EXPECT_NO_THROW(data.require_vocabulary(10));
  EXPECT_NO_THROW(data.require_vocabulary(64));
  EXPECT_THROWS_SAYING(data.require_vocabulary(9), UserError, "vocabulary_size 9 is smaller");
}

// Published Gemma 3 models have a token of images beyond their last row.
TEST(Dataset, AModelMayLackAddedTokensThatTheTextDoesNotHave) {
  const TemporaryDirectory directory;
  DataOptions options = options_for(directory, std::string(80, 'a') + "b");
  write_bytes(directory / "tokenizer.json",
              R"({"added_tokens": [{"id": 2, "content": "<image>", "special": true}],
                  "normalizer": null, "pre_tokenizer": null, "decoder": {"type": "Fuse"},
                  "model": {"type": "BPE", "merges": [], "vocab": {"a": 0, "b": 1}}})");
  options.tokenizer = "pretrained";
  options.tokenizer_files = directory / "tokenizer.json";
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.vocabulary_size(), 3);
  EXPECT_NO_THROW(data.require_vocabulary(2));
  EXPECT_THROWS_SAYING(data.require_vocabulary(1), UserError, "vocabulary_size 1 is smaller");
  write_bytes(options.path, std::string(80, 'a') + "<image>");
  options.prepared_directory = directory / "images";
  EXPECT_THROWS_SAYING(prepare_and_open(options).require_vocabulary(2), UserError, "<image>");
}

TEST(Dataset, OpensTokenFilesOfOthers) {
  const TemporaryDirectory directory;
  DataOptions options;
  options.path = directory.path();
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "train.bin");
  write_bytes(directory / "train.bin", std::string("\1\0\2\0\3\0", 6));
  write_bytes(directory / "val.bin", std::string("\4\0", 2));
  EXPECT_THROWS_SAYING(prepare_and_open(options), UserError, "vocabulary_size");
  options.vocabulary_size = 5;
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.train.count(), 3);
  EXPECT_EQ(data.validation[0], 4);
  EXPECT_EQ(data.tokenizer, nullptr);
  EXPECT_EQ(data.name(), fs::path(directory.path()).filename());
  // A tokenizer beside them gives the vocabulary.
  CharTokenizer::from_text("abcdef")->save(directory.path());
  options.vocabulary_size = 0;
  EXPECT_EQ(prepare_and_open(options).vocabulary_size(), 6);
}

TEST(DataOptions, ReadsAndWritesItsFields) {
  DataOptions options;
  read_config(Config::parse(
                  R"({"path": "a.txt", "tokenizer": "gpt2", "validation_fraction": 0.05})", "test"),
              options);
  EXPECT_EQ(options.path, "a.txt");
  EXPECT_EQ(options.tokenizer, "gpt2");
  EXPECT_EQ(options.validation_fraction, 0.05);
  EXPECT_THROW(read_config(Config::parse(R"({"tokenizer": "syllable"})", "test"), options),
               ConfigError);
  EXPECT_THROW(read_config(Config::parse(R"({"validation_fraction": 0.9})", "test"), options),
               ConfigError);
}

TEST(Sources, KnownTextsArePinned) {
  const TemporaryDirectory directory;
  const ScopedVariable data("REVERIE_DATA", directory.path()),
      cache("XDG_CACHE_HOME", directory / "cache");
  EXPECT_THROWS_SAYING(find_source_text("tinyshakespeare"), UserError,
                       "scripts/fetch.py shakespeare");
  fs::create_directories(directory / "tinyshakespeare");
  write_bytes(directory / "tinyshakespeare/input.txt", "First Citizen:\nBefore we proceed");
  EXPECT_THROWS_SAYING(find_source_text("tinyshakespeare"), DataError, "is not tinyshakespeare");
  // Other names are not pinned, and never a way out of the folder.
  fs::create_directories(directory / "cache/reverie/mine");
  write_bytes(directory / "cache/reverie/mine/input.txt", "text");
  EXPECT_EQ(find_source_text("mine").file, directory / "cache/reverie/mine/input.txt");
  EXPECT_THROWS_SAYING(find_source_text("yours"), UserError, "\"path\"");
  EXPECT_THROWS_SAYING(find_source_text("../mine"), UserError, "not the name");
  EXPECT_THROWS_SAYING(find_gpt2_files(""), UserError, "gpt2-bpe");
}

TEST(Sources, TheRebuiltTextStandsInUnderItsOwnName) {
  const TemporaryDirectory directory;
  const ScopedVariable data("REVERIE_DATA", ""), cache("XDG_CACHE_HOME", directory.path());
  fs::create_directories(directory / "reverie/shakespeare-globe");
  write_bytes(directory / "reverie/shakespeare-globe/input.txt", "not the rebuilt text");
  EXPECT_THROWS_SAYING(find_source_text("tinyshakespeare"), DataError, "is not shakespeare-globe");
}

// nanoGPT's prepare.py: 1,003,854 tokens to train on and 111,540 to validate.
TEST(Dataset, TinyShakespeareSplitsAsNanoGptDoes) {
  NEED_DATA("tinyshakespeare/input.txt");
  const TemporaryDirectory directory;
  DataOptions options;
  options.prepared_directory = directory / "prepared";
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.name(), "tinyshakespeare");
  EXPECT_THAT(data.note(), ::testing::HasSubstr("the paper's text"));
  EXPECT_EQ(data.vocabulary_size(), 65);
  EXPECT_EQ(data.train.count(), 1'003'854);
  EXPECT_EQ(data.validation.count(), 111'540);
  EXPECT_EQ(text_of(data.train, *data.tokenizer) + text_of(data.validation, *data.tokenizer),
            read_file(testing::data_file("tinyshakespeare/input.txt")));
}

TEST(Dataset, KnowsAKnownTextUnderAnyName) {
  NEED_DATA("tinyshakespeare/input.txt");
  const TemporaryDirectory directory;
  DataOptions options =
      options_for(directory, read_file(testing::data_file("tinyshakespeare/input.txt")));
  options.name = "my-own-plays";
  EXPECT_EQ(prepare_and_open(options).name(), "tinyshakespeare");
}

TEST(Dataset, WhoeverPreparesTheSameDataAtOnceGetsIt) {
  const TemporaryDirectory directory;
  const DataOptions options = options_for(directory, "to be or not to be that is the question");
  std::vector<std::string> hashes(8);
  std::vector<std::thread> threads;
  for (std::string& hash : hashes)
    threads.emplace_back([&] { hash = prepare_and_open(options).hash; });
  for (auto& thread : threads) thread.join();
  for (const std::string& hash : hashes) EXPECT_EQ(hash, prepare_and_open(options).hash);
  EXPECT_EQ(std::distance(fs::directory_iterator(directory.path()), {}), 2);
}

}  // namespace
}  // namespace reverie
