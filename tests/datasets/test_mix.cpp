// Texts mixed by weight, and texts in shards.

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "datasets/bin_files.h"
#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/mix_sampler.h"
#include "datasets/passages.h"
#include "datasets/seeded_order.h"

namespace reverie {
namespace {

using testing::TemporaryDirectory;
using testing::write_bytes;

constexpr int64_t kVocabulary = 100000;

// Tokens first, first + 1, ...: a token says where it stands.
TokenFile numbered(const TemporaryDirectory& directory, int32_t first, int32_t count,
                   int64_t vocabulary = kVocabulary) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), first);
  const std::string file =
      directory / (std::to_string(first) + "_" + std::to_string(count) + ".tok");
  TokenFileWriter writer(file, vocabulary, "", "");
  writer.append(tokens);
  writer.finish();
  return open_tokens(file);
}

// Entries of 19 windows of 8 tokens in two shards (a third is too short for any), of 4, and of 2.
struct Mixed {
  TemporaryDirectory directory;
  TokenFile tokens = TokenFile::joined(
      {numbered(directory, 1000, 100), numbered(directory, 2000, 57), numbered(directory, 3000, 5),
       numbered(directory, 4000, 40), numbered(directory, 5000, 17)});
  MixLayout layout{{{"long", 0.55, {{0, 100}, {100, 57}, {157, 5}}},
                    {"short", 0.3, {{162, 40}}},
                    {"tiny", 0.15, {{202, 17}}}}};
  MixSampler sampler(uint64_t seed, int64_t batch_size = 6) const {
    return {tokens, layout, batch_size, 8, seed};
  }
};

TEST(SeededOrder, IsAPermutationThatTheSeedDecides) {
  for (const uint64_t count : {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097}) {
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < count; ++i) seen.insert(seeded_place(7, i, count));
    EXPECT_EQ(seen.size(), count);
    EXPECT_EQ(*seen.rbegin(), count - 1);
  }
  int64_t same = 0, neighbours = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    same += seeded_place(7, i, 1000) == seeded_place(8, i, 1000);
    neighbours += i > 0 && seeded_place(7, i, 1000) == seeded_place(7, i - 1, 1000) + 1;
  }
  EXPECT_LT(same, 20) << "about 1 is expected of independent orders";
  EXPECT_LT(neighbours, 20);
  EXPECT_THROW(seeded_place(7, 5, 5), InternalError);
}

TEST(JoinedTokens, AreOneFileAfterAnother) {
  const TemporaryDirectory directory;
  const TokenFile a = numbered(directory, 10, 5), b = numbered(directory, 20, 3),
                  c = numbered(directory, 30, 4), all = TokenFile::joined({a, b, c});
  EXPECT_TRUE(all.is_joined());
  EXPECT_EQ(all.count(), 12);
  std::vector<int32_t> tokens(12);
  all.copy(0, tokens);
  EXPECT_THAT(tokens, ::testing::ElementsAre(10, 11, 12, 13, 14, 20, 21, 22, 30, 31, 32, 33));
  const TokenFile part = all.slice(3, 7).slice(1, 6);
  tokens.resize(6);
  part.copy(0, tokens);
  EXPECT_THAT(tokens, ::testing::ElementsAre(14, 20, 21, 22, 30, 31));
  EXPECT_EQ(all[11], 33);
  EXPECT_THROWS_SAYING(all[12], UserError, "which has 12");
  EXPECT_NE(all.checksum(), TokenFile::joined({b, a, c}).checksum());
  EXPECT_FALSE(TokenFile::joined({a}).is_joined());
  EXPECT_EQ(TokenFile::joined({a}).checksum(), a.checksum());
  EXPECT_THROWS_SAYING(TokenFile::joined({a, numbered(directory, 1, 2, 50)}), UserError,
                       "has a vocabulary of 100000 tokens");
}

TEST(JoinedTokens, NoticeThatAFileWasChanged) {
  const TemporaryDirectory directory;
  const TokenFile a = numbered(directory, 10, 5), b = numbered(directory, 20, 5);
  const TokenFile all = TokenFile::joined({a, b});
  EXPECT_NO_THROW(all.require_unchanged());
  write_bytes(b.path(), read_file(a.path()) + " ");
  EXPECT_THROWS_SAYING(all.require_unchanged(), DataError, b.path());
}

TEST(JoinedTokens, AreRefusedByWhoReadsOneText) {
  const Mixed mixed;
  EXPECT_THROWS_SAYING(EvaluationWindows(mixed.tokens, 2, 8, 4), UserError, "mix or shards");
  EXPECT_THROWS_SAYING(ConsecutiveWindows(mixed.tokens, {}, 2, 8, 4), UserError, "mix or shards");
}

TEST(BinFiles, ShardsComeByTheirNumbers) {
  const TemporaryDirectory directory;
  EXPECT_TRUE(is_bin_file("train.bin", "train"));
  EXPECT_TRUE(is_bin_file("story_train.bin", "train"));
  EXPECT_TRUE(is_bin_file("fineweb_train_000001.bin", "train"));
  EXPECT_FALSE(is_bin_file("fineweb_train_000001.bin", "val"));
  EXPECT_FALSE(is_bin_file("retrain.bin", "train"));
  EXPECT_FALSE(is_bin_file("train_x.bin", "train"));
  EXPECT_FALSE(is_bin_file("train_1.txt", "train"));
  for (const char* name : {"w_train_10.bin", "w_train_9.bin", "w_train_000001.bin", "w_val_0.bin"})
    write_bytes(directory / name, "");
  EXPECT_THAT(find_bin_files(directory.path(), "train"),
              ::testing::ElementsAre(directory / "w_train_000001.bin", directory / "w_train_9.bin",
                                     directory / "w_train_10.bin"));
  EXPECT_THAT(find_bin_files(directory.path(), "val"),
              ::testing::ElementsAre(directory / "w_val_0.bin"));
  EXPECT_THROWS_SAYING(find_bin_files(directory.path(), "test"), UserError, "0 files");
  write_bytes(directory / "other_train_11.bin", "");
  EXPECT_THROWS_SAYING(find_bin_files(directory.path(), "train"), UserError, "4 files");
  std::filesystem::remove(directory / "other_train_11.bin");
  write_bytes(directory / "w_train_09.bin", "");
  EXPECT_THROWS_SAYING(find_bin_files(directory.path(), "train"), UserError, "4 files");
}

TEST(MixSampler, EveryStretchHoldsEachEntryInItsShare) {
  const Mixed mixed;
  for (const uint64_t seed : {1, 2, 3}) {
    const MixSampler sampler = mixed.sampler(seed);
    std::vector<size_t> entries;
    std::map<size_t, uint64_t> rows;
    for (int64_t i = 0; i < 200; ++i)
      for (int64_t row = 0; row < 6; ++row) {
        const MixSampler::Draw drawn = sampler.draw(i, row);
        EXPECT_EQ(drawn.index, rows[drawn.entry]++) << "rows of an entry are counted in order";
        entries.push_back(drawn.entry);
      }
    for (const size_t length : {10, 100, 1200})
      for (size_t begin = 0; begin + length <= entries.size(); begin += 7) {
        std::vector<double> counts(3);
        for (size_t i = begin; i < begin + length; ++i) ++counts[entries[i]];
        for (size_t e = 0; e < 3; ++e)
          EXPECT_LE(std::abs(counts[e] - double(length) * mixed.layout.entries[e].share),
                    double(e) + 1);
      }
  }
}

TEST(MixSampler, WindowsAreOfOneShardAndAllComeBeforeOneComesAgain) {
  const Mixed mixed;
  const MixSampler sampler = mixed.sampler(7);
  std::map<size_t, std::vector<int64_t>> windows;  // by entry: which of its windows came
  for (int64_t i = 0; i < 40; ++i) {
    const Batch batch = sampler.batch(i);
    EXPECT_EQ(batch.target_count, 6 * 8);
    for (int64_t row = 0; row < 6; ++row) {
      const auto tokens = batch.tokens.select(0, row).to_vector(),
                 targets = batch.targets.select(0, row).to_vector();
      for (size_t t = 0; t < 8; ++t) {
        EXPECT_EQ(tokens[t], tokens[0] + double(t)) << "a shard's tokens count up";
        EXPECT_EQ(targets[t], tokens[t] + 1);
      }
      const int64_t shard = int64_t(tokens[0]) / 1000, within = int64_t(tokens[0]) % 1000;
      const size_t entry = sampler.draw(i, row).entry;
      EXPECT_EQ(shard, entry == 0 ? (shard == 2 ? 2 : 1) : int64_t(entry) + 3);
      windows[entry].push_back(within / 8 + (shard == 2 ? 12 : 0));
    }
  }
  for (const auto& [entry, count] : std::map<size_t, size_t>{{0, 19}, {1, 4}, {2, 2}}) {
    const std::vector<int64_t>& came = windows[entry];
    std::set<std::vector<int64_t>> orders;
    for (size_t begin = 0; begin + count <= came.size(); begin += count) {
      const std::vector<int64_t> pass(came.begin() + int64_t(begin),
                                      came.begin() + int64_t(begin + count));
      EXPECT_EQ(std::set<int64_t>(pass.begin(), pass.end()).size(), count);
      orders.insert(pass);
    }
    EXPECT_GT(orders.size(), 1u) << "passes come in different orders";
  }
}

TEST(MixSampler, ARowIsAFunctionOfSeedAndPlaceAlone) {
  const Mixed mixed;
  const MixSampler sixes = mixed.sampler(7), again = mixed.sampler(7), threes = mixed.sampler(7, 3),
                   other = mixed.sampler(8);
  int64_t same = 0;
  for (int64_t i = 0; i < 30; ++i) {
    const Batch whole = sixes.batch(i), end = again.rows(i, 4, 2);
    for (int64_t row = 0; row < 2; ++row)
      EXPECT_EQ(whole.tokens.select(0, 4 + row).to_vector(), end.tokens.select(0, row).to_vector());
    for (int64_t row = 0; row < 6; ++row) {
      EXPECT_EQ(sixes.window_start(i, row), threes.window_start(2 * i + row / 3, row % 3));
      same += sixes.window_start(i, row) == other.window_start(i, row);
    }
  }
  EXPECT_LT(same, 60) << "of 180 rows";
}

TEST(MixSampler, NamesAnEntryThatIsTooShort) {
  const Mixed mixed;
  EXPECT_THROWS_SAYING(MixSampler(mixed.tokens, mixed.layout, 2, 17, 1), UserError,
                       "$.data.mix[2] (tiny): its training part has 17 tokens");
}

TEST(MixedWindows, AreInProportionToTheSharesAndNeverOverlap) {
  const Mixed mixed;
  const auto windows_by_entry = [&](int64_t count) {
    const EvaluationWindows windows =
        EvaluationWindows::of_mix(mixed.tokens, mixed.layout, 4, 8, count);
    std::vector<int64_t> by_entry(3), starts;
    int64_t rows = 0;
    for (int64_t i = 0; i < windows.batch_count(); ++i) {
      const Batch batch = windows.batch(i);
      rows += batch.tokens.size(0);
      for (int64_t row = 0; row < batch.tokens.size(0); ++row) {
        const auto tokens = batch.tokens.select(0, row).to_vector(),
                   targets = batch.targets.select(0, row).to_vector();
        EXPECT_EQ(targets[7], tokens[0] + 8) << "a window is of one shard";
        ++by_entry[tokens[0] < 4000 ? 0 : tokens[0] < 5000 ? 1 : 2];
        starts.push_back(int64_t(tokens[0]));
      }
    }
    EXPECT_EQ(rows, windows.window_count());
    for (size_t i = 1; i < starts.size(); ++i) EXPECT_GE(starts[i], starts[i - 1] + 8);
    return by_entry;
  };
  EXPECT_THAT(windows_by_entry(10), ::testing::ElementsAre(6, 3, 1));
  EXPECT_THAT(windows_by_entry(1), ::testing::ElementsAre(1, 0, 0));
  // Where all are asked for, 2 windows of "tiny" at 15 % allow 13.
  EXPECT_THAT(windows_by_entry(0), ::testing::ElementsAre(7, 4, 2));
  EXPECT_THAT(windows_by_entry(1000), ::testing::ElementsAre(7, 4, 2));
  EXPECT_THROWS_SAYING(EvaluationWindows::of_mix(mixed.tokens, mixed.layout, 4, 17, 0), UserError,
                       "$.data.mix[2] (tiny): its held-out part has 17 tokens");
}

// ---- options and data ---------------------------------------------------------------
DataOptions read_data(const std::string& json) {
  DataOptions options;
  read_config(Config(Config::parse(json, "test").json(), "$.data"), options);
  return options;
}

TEST(MixOptions, ReadAndWriteAList) {
  DataOptions options = read_data(
      R"({"name": "both", "mix": [{"path": "a", "weight": 3}, {"path": "b", "weight": 1, "name": "B"}]})");
  ASSERT_EQ(options.mix.size(), 2u);
  EXPECT_EQ(options.mix[0].weight, 3);
  EXPECT_EQ(options.mix[1].name, "B");
  const Json written = write_config(options);
  EXPECT_EQ(written["mix"][1]["path"], "b");
  DataOptions again;
  read_config(Config(written, "$.data"), again);
  EXPECT_EQ(write_config(again), written);
  resolve_paths(options, "/elsewhere");
  EXPECT_EQ(options.mix[1].path, "/elsewhere/b");
  DataOptions none;
  EXPECT_EQ(write_config(none)["mix"], Json::array());
  const Json entry = config_schema(none)["properties"]["mix"]["items"];
  EXPECT_TRUE(entry["properties"].contains("weight"));
  EXPECT_FALSE(entry["properties"].contains("mix"));
  EXPECT_EQ(entry["required"], Json::array({"weight", "path"}));
  EXPECT_THAT(config_help(none), ::testing::HasSubstr("(an array of objects)"));
}

TEST(MixOptions, ErrorsSayWhere) {
  EXPECT_THROWS_SAYING(read_data(R"({"mix": {"path": "a"}})"), ConfigError,
                       "$.data.mix must be an array of objects");
  EXPECT_THROWS_SAYING(
      read_data(R"({"mix": [{"path": "a", "weight": 1}, {"path": "b", "weight": 0}]})"),
      ConfigError, "$.data.mix[1].weight must be a finite number in");
  EXPECT_THROWS_SAYING(read_data(R"({"mix": [{"weight": 1}]})"), ConfigError,
                       "missing key \"path\" at $.data.mix[0]");
  EXPECT_THROWS_SAYING(read_data(R"({"mix": [{"path": "a"}]})"), ConfigError,
                       "missing key \"weight\" at $.data.mix[0]");
  EXPECT_THROWS_SAYING(read_data(R"({"mix": [{"path": "a", "weight": 1, "train_bpe": 300}]})"),
                       ConfigError, "unknown key \"train_bpe\" at $.data.mix[0]");
  const DataOptions beside = read_data(R"({"path": "c", "mix": [{"path": "a", "weight": 1}]})");
  EXPECT_THROWS_SAYING(describe_dataset(beside), UserError, "$.data.path");
}

class MixedDataset : public ::testing::Test {
 protected:
  // A text of one vocabulary, prepared.
  std::string prepare(const std::string& name, size_t letters, const std::string& alphabet) {
    std::string text;
    while (text.size() < letters) text += alphabet;
    text.resize(letters);
    write_bytes(directory_ / (name + ".txt"), text);
    DataOptions options;
    options.path = directory_ / (name + ".txt");
    options.prepared_directory = directory_ / name;
    prepare_dataset(describe_dataset(options));
    return options.prepared_directory;
  }
  static DataOptions mix(const std::vector<std::pair<std::string, double>>& entries) {
    DataOptions options;
    for (const auto& [path, weight] : entries) {
      MixEntry& entry = options.mix.emplace_back();
      entry.path = path;
      entry.weight = weight;
    }
    return options;
  }
  TemporaryDirectory directory_;
};

TEST_F(MixedDataset, OpensItsEntriesAsOne) {
  const std::string books = prepare("books", 1000, "abcdef"), web = prepare("web", 400, "fedcba");
  DataOptions options = mix({{books, 3}, {web, 1}});
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.name(), "books+web");
  EXPECT_EQ(data.train.count(), 900 + 360);
  EXPECT_EQ(data.validation.count(), 100 + 40);
  EXPECT_EQ(data.vocabulary_size(), 6);
  EXPECT_EQ(data.train_mix->in_words(), "books 75%, web 25%");
  EXPECT_EQ(data.validation_mix->entries[1].shards[0].first, 100);
  EXPECT_EQ(data.provenance["mix"][1]["name"], "web");
  EXPECT_EQ(prepared_hash(describe_dataset(options)), data.hash);
  EXPECT_EQ(find_prepared_data(describe_dataset(options)), PreparedData::current);
  const EvaluationWindows windows =
      EvaluationWindows::over(data.validation, data.validation_rule(), 4, 8, 0);
  EXPECT_EQ(windows.window_count(), 16) << "all 12 of books, and 4 of web";
  // The hash is over entries, shares and order; the unit of the weights does not matter.
  EXPECT_EQ(prepare_and_open(mix({{books, 0.75}, {web, 0.25}})).hash, data.hash);
  EXPECT_NE(prepare_and_open(mix({{books, 2}, {web, 1}})).hash, data.hash);
  EXPECT_NE(prepare_and_open(mix({{web, 1}, {books, 3}})).hash, data.hash);
  options.name = "both";
  options.mix[0].name = "novels";
  EXPECT_EQ(prepare_and_open(options).name(), "both");
  EXPECT_EQ(prepare_and_open(options).train_mix->in_words(), "novels 75%, web 25%");
}

TEST_F(MixedDataset, PreparesTextsThatAreNot) {
  prepare("books", 600, "abcdef");
  DataOptions options = mix({{directory_ / "books", 1}, {directory_ / "more.txt", 1}});
  write_bytes(directory_ / "more.txt", std::string(300, 'c'));
  options.mix[1].tokenizer = "pretrained";
  options.mix[1].tokenizer_files = directory_ / "books";
  options.mix[1].prepared_directory = directory_ / "more";
  EXPECT_EQ(prepared_hash(describe_dataset(options)), std::nullopt);
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.train.count(), 540 + 270);
  EXPECT_EQ(prepared_hash(describe_dataset(options)), data.hash);
}

TEST_F(MixedDataset, RefusesWhatDoesNotFitTogether) {
  const std::string books = prepare("books", 600, "abcdef"), other = prepare("other", 600, "xyz");
  EXPECT_THROWS_SAYING(prepare_and_open(mix({{books, 1}, {other, 1}})), UserError,
                       "wanted one for all");
  EXPECT_THROWS_SAYING(prepare_and_open(mix({{books, 1}, {books, 1e-8}})), UserError,
                       "$.data.mix[1]");
  EXPECT_THROWS_SAYING(prepare_and_open(mix({{books, 1}, {directory_ / "nowhere", 1}})), UserError,
                       "nowhere");
}

TEST_F(MixedDataset, ShardsAreOneText) {
  for (const char* name : {"w_train_0.bin", "w_train_1.bin", "w_val_0.bin"})
    write_bytes(directory_ / name, std::string(2 * 40, name[8] == '1' ? '\1' : '\0'));
  DataOptions options;
  options.path = directory_.path();
  options.vocabulary_size = 300;
  EXPECT_TRUE(is_token_directory(options.path));
  const Dataset data = prepare_and_open(options);
  EXPECT_EQ(data.train.count(), 80);
  EXPECT_EQ(data.train[39], 0);
  EXPECT_EQ(data.train[40], 257);
  ASSERT_TRUE(data.train_mix.has_value());
  EXPECT_EQ(data.train_mix->entries[0].windows(8), 8);
  const MixSampler sampler(data.train, *data.train_mix, 4, 8, 1);
  std::set<int64_t> starts;
  for (int64_t row = 0; row < 8; ++row) starts.insert(sampler.window_start(row / 4, row % 4));
  EXPECT_EQ(starts.size(), 8u);
  // An entry of a mix may be in shards, too.
  DataOptions both = mix({{options.path, 1}, {options.path, 1}});
  for (MixEntry& entry : both.mix) entry.vocabulary_size = 300;
  const Dataset twice = prepare_and_open(both);
  EXPECT_EQ(twice.train_mix->entries[1].shards[1].first, 120);
}

}  // namespace
}  // namespace reverie
