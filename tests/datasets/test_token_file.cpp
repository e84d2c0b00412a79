#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "datasets/data_support.h"
#include "datasets/hasher.h"
#include "datasets/token_file.h"

namespace reverie {
namespace {

using testing::TemporaryDirectory;
using testing::write_bytes;

const std::string kTokenizerHash = "00112233445566778899aabbccddeeff",
                  kSourceHash = "ffeeddccbbaa99887766554433221100";

std::vector<int32_t> some_tokens(int64_t count, int32_t vocabulary) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = int32_t(i * 7919 % size_t(vocabulary));
  return tokens;
}

void write_tokens(const std::string& file, const std::vector<int32_t>& tokens, int64_t vocabulary) {
  TokenFileWriter writer(file, vocabulary, kTokenizerHash, kSourceHash);
  const std::span<const int32_t> all(tokens);
  for (size_t at = 0; at < all.size(); at += 100)
    writer.append(all.subspan(at, std::min<size_t>(100, all.size() - at)));
  writer.finish();
}

std::vector<int32_t> read_all(const TokenFile& file) {
  std::vector<int32_t> tokens(size_t(file.count()));
  file.copy(0, tokens);
  return tokens;
}

template <class T>
void append_number(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

class TokenFileOfWidth : public ::testing::TestWithParam<int32_t> {};

TEST_P(TokenFileOfWidth, WhatIsWrittenIsRead) {
  const TemporaryDirectory directory;
  const int32_t vocabulary = GetParam();
  auto tokens = some_tokens(1234, vocabulary);
  tokens.back() = vocabulary - 1;
  write_tokens(directory / "a.tok", tokens, vocabulary);
  const TokenFile file = open_tokens(directory / "a.tok");
  EXPECT_EQ(file.count(), 1234);
  EXPECT_EQ(file.vocabulary_size(), vocabulary);
  EXPECT_EQ(file.width(), vocabulary <= 65536 ? 2 : 4);
  EXPECT_EQ(file.format(), TokenFormat::reverie);
  EXPECT_EQ(file.tokenizer_hash(), kTokenizerHash);
  EXPECT_EQ(file.source_hash(), kSourceHash);
  EXPECT_EQ(read_all(file), tokens);
  EXPECT_EQ(file[17], tokens[17]);
  EXPECT_EQ(file[1233], vocabulary - 1);
  EXPECT_EQ(std::filesystem::file_size(directory / "a.tok"), 128 + 1234u * size_t(file.width()));

  const TokenFile part = file.slice(1000, 200).slice(50, 100);
  EXPECT_EQ(part.count(), 100);
  EXPECT_EQ(part[0], tokens[1050]);
  EXPECT_EQ(part[99], tokens[1149]);
  EXPECT_THROW(part[100], UserError);
  EXPECT_THROW(part[-1], UserError);
  EXPECT_THROW(file.slice(1200, 35), UserError);
  std::vector<int32_t> out(2);
  EXPECT_THROW(file.copy(1233, out), UserError);
}
INSTANTIATE_TEST_SUITE_P(Widths, TokenFileOfWidth,
                         ::testing::Values(65, 50257, 65536, 65537, 128256));

TEST(TokenFile, NoTokensAreAFileToo) {
  const TemporaryDirectory directory;
  write_tokens(directory / "a.tok", {}, 65);
  EXPECT_EQ(open_tokens(directory / "a.tok").count(), 0);
}

TEST(TokenFile, EveryFlippedBitIsSeen) {
  const TemporaryDirectory directory;
  write_tokens(directory / "a.tok", some_tokens(10, 65), 65);
  const std::string good = read_file(directory / "a.tok");
  ASSERT_EQ(good.size(), 128u + 20u);
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string bad = good;
    bad[bit / 8] = char(uint8_t(bad[bit / 8]) ^ 1u << bit % 8);
    write_bytes(directory / "b.tok", bad);
    EXPECT_THROW(open_tokens(directory / "b.tok"), DataError) << "bit " << bit;
  }
}

TEST(TokenFile, EveryTruncationIsSeen) {
  const TemporaryDirectory directory;
  write_tokens(directory / "a.tok", some_tokens(40, 65), 65);
  const std::string good = read_file(directory / "a.tok");
  for (const bool verify : {true, false})
    for (size_t size = 0; size < good.size(); ++size) {
      write_bytes(directory / "b.tok", good.substr(0, size));
      EXPECT_THROW(open_tokens(directory / "b.tok", {verify, 0}), DataError) << size << " bytes";
    }
  write_bytes(directory / "b.tok", good + "xx");
  EXPECT_THROWS_SAYING(open_tokens(directory / "b.tok"), DataError, "bytes too many");
  EXPECT_THROWS_SAYING(open_tokens(directory / "none.tok"), UserError, "none.tok");
}

TEST(TokenFile, WithoutVerificationATokenOutsideTheVocabularyIsFoundOnReading) {
  const TemporaryDirectory directory;
  write_tokens(directory / "a.tok", some_tokens(1000, 65), 65);
  std::string bytes = read_file(directory / "a.tok");
  bytes[128 + 2 * 700] = 66;
  write_bytes(directory / "a.tok", bytes);
  const TokenFile file = open_tokens(directory / "a.tok", {false, 0});
  std::vector<int32_t> out(100);
  file.copy(0, out);
  EXPECT_THROWS_SAYING(file.copy(650, out), DataError, "token 66 at position 700");
  EXPECT_THROWS_SAYING(file[700], DataError, "outside the vocabulary of 65");
  EXPECT_THROWS_SAYING(file.slice(600, 200)[100], DataError, "position 700");
}

// Headers that are whole (their checksum matches) but lie.
TEST(TokenFile, HeadersThatLieAreRefused) {
  const TemporaryDirectory directory;
  write_tokens(directory / "a.tok", some_tokens(40, 65), 65);
  const std::string good = read_file(directory / "a.tok");
  const auto with = [&](size_t at, auto value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    const uint64_t sum = XXH3_64bits(bytes.data(), 120);
    std::memcpy(bytes.data() + 120, &sum, sizeof sum);
    write_bytes(directory / "b.tok", bytes);
    return directory / "b.tok";
  };
  EXPECT_THROWS_SAYING(open_tokens(with(8, uint32_t(2))), DataError, "version 2");
  EXPECT_THROWS_SAYING(open_tokens(with(12, uint32_t(3))), DataError, "tokens of 3 bytes");
  EXPECT_THROWS_SAYING(open_tokens(with(16, uint64_t(0))), DataError, "vocabulary size 0");
  EXPECT_THROWS_SAYING(open_tokens(with(16, uint64_t(70000))), DataError, "does not fit");
  EXPECT_THROWS_SAYING(open_tokens(with(16, ~uint64_t(0))), DataError, "vocabulary size");
  EXPECT_THROWS_SAYING(open_tokens(with(24, uint64_t(41))), DataError, "41 tokens");
  // 2^63 + 40 tokens of 2 bytes are 80 bytes modulo 2^64.
  EXPECT_THROWS_SAYING(open_tokens(with(24, (uint64_t(1) << 63) + 40)), DataError, "truncated");
  EXPECT_NO_THROW(open_tokens(with(24, uint64_t(40))));
}

TEST(TokenFile, VocabularyMismatchIsRefused) {
  const TemporaryDirectory directory;
  write_tokens(directory / "a.tok", some_tokens(40, 65), 65);
  EXPECT_NO_THROW(open_tokens(directory / "a.tok", {true, 65}));
  EXPECT_THROWS_SAYING(open_tokens(directory / "a.tok", {true, 50257}), DataError,
                       "has 65 tokens; wanted 50257");
}

TEST(TokenFile, ReadsNanoGptsRawTokens) {
  const TemporaryDirectory directory;
  const auto tokens = some_tokens(500, 50257);
  std::string bytes;
  for (const int32_t token : tokens) append_number(bytes, uint16_t(token));
  write_bytes(directory / "train.bin", bytes);
  const TokenFile file = open_tokens(directory / "train.bin", {true, 50257});
  EXPECT_EQ(file.format(), TokenFormat::raw_u16);
  EXPECT_EQ(read_all(file), tokens);
  EXPECT_EQ(file.checksum(), hash_bytes(bytes.data(), bytes.size()));
  EXPECT_EQ(file.tokenizer_hash(), "");

  EXPECT_THROWS_SAYING(open_tokens(directory / "train.bin"), UserError, "vocabulary_size");
  EXPECT_THROWS_SAYING(read_all(open_tokens(directory / "train.bin", {true, 65})), DataError,
                       "position 1");
  write_bytes(directory / "odd.bin", bytes + "x");
  EXPECT_THROWS_SAYING(open_tokens(directory / "odd.bin", {true, 50257}), DataError, "truncated");
  write_bytes(directory / "tokens.dat", bytes);  // only *.bin is taken for raw tokens
  EXPECT_THROWS_SAYING(open_tokens(directory / "tokens.dat", {true, 50257}), DataError,
                       "not a token file");
  write_bytes(directory / "renamed.tok", bytes);
  EXPECT_THROWS_SAYING(open_tokens(directory / "renamed.tok", {true, 50257}), DataError,
                       "RVTOKENS");
  write_bytes(directory / "empty.bin", "");
  EXPECT_THROWS_SAYING(open_tokens(directory / "empty.bin", {true, 50257}), DataError, "empty");
}

template <class Token>
std::string llmc_file(int32_t magic, int32_t version, const std::vector<int32_t>& tokens) {
  std::string bytes;
  append_number(bytes, magic);
  append_number(bytes, version);
  append_number(bytes, int32_t(tokens.size()));
  bytes.resize(1024, '\0');
  for (const int32_t token : tokens) append_number(bytes, Token(token));
  return bytes;
}

TEST(TokenFile, ReadsLlmcsShards) {
  const TemporaryDirectory directory;
  const auto gpt2 = some_tokens(300, 50257), llama3 = some_tokens(300, 128256);
  const std::string narrow = llmc_file<uint16_t>(20240520, 1, gpt2);
  write_bytes(directory / "a_train.bin", narrow);
  const TokenFile file = open_tokens(directory / "a_train.bin");
  EXPECT_EQ(file.format(), TokenFormat::llmc);
  EXPECT_EQ(file.vocabulary_size(), 50257);
  EXPECT_EQ(read_all(file), gpt2);

  write_bytes(directory / "b.bin", llmc_file<uint32_t>(20240801, 7, llama3));
  EXPECT_EQ(open_tokens(directory / "b.bin").vocabulary_size(), 128256);
  EXPECT_EQ(read_all(open_tokens(directory / "b.bin")), llama3);

  for (const size_t size : {4u, 600u, 1023u, 1024u, 1100u}) {  // never mistaken for raw tokens
    write_bytes(directory / "c.bin", narrow.substr(0, size));
    EXPECT_THROWS_SAYING(open_tokens(directory / "c.bin", {true, 50257}), DataError, "truncated");
  }
  write_bytes(directory / "c.bin", llmc_file<uint16_t>(20240520, 2, gpt2));
  EXPECT_THROWS_SAYING(open_tokens(directory / "c.bin"), DataError, "version 2");
}

TEST(TokenFileWriter, RefusesTokensOutsideTheVocabulary) {
  const TemporaryDirectory directory;
  TokenFileWriter writer(directory / "a.tok", 65, "", "");
  writer.append(some_tokens(10, 65));
  EXPECT_THROWS_SAYING(writer.append(std::vector<int32_t>{1, 65}), UserError,
                       "token 65 at position 11");
  EXPECT_THROWS_SAYING(writer.append(std::vector<int32_t>{-1}), UserError, "token -1");
  EXPECT_THROW(TokenFileWriter(directory / "b.tok", 0, "", ""), UserError);
  EXPECT_THROW(TokenFileWriter(directory / "b.tok", int64_t(1) << 31, "", ""), UserError);
  EXPECT_THROW(TokenFileWriter(directory / "b.tok", 65, "xyz", ""), UserError);
}

TEST(TokenFileWriter, UnfinishedItLeavesTheOldFileAndNothingElse) {
  const TemporaryDirectory directory;
  const auto tokens = some_tokens(40, 65);
  write_tokens(directory / "a.tok", tokens, 65);
  {
    TokenFileWriter writer(directory / "a.tok", 65, "", "");
    writer.append(some_tokens(10, 3));
  }
  EXPECT_EQ(read_all(open_tokens(directory / "a.tok")), tokens);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory.path()), {}), 1);
}

TEST(TokenFileWriter, ADirectoryThatIsMissingIsTheMachinesError) {
  const TemporaryDirectory directory;
  EXPECT_THROW(TokenFileWriter(directory / "missing/a.tok", 65, "", ""), MachineError);
}

TEST(StreamHasher, PiecesHashAsTheWhole) {
  std::string bytes(100000, '\0');
  std::iota(bytes.begin(), bytes.end(), char(0));
  StreamHasher hasher;
  EXPECT_EQ(hasher.digits(), hash_bytes("", 0));
  for (size_t at = 0; at < bytes.size(); at += 777)
    hasher.update(bytes.data() + at, std::min<size_t>(777, bytes.size() - at));
  EXPECT_EQ(hasher.digits(), hash_bytes(bytes.data(), bytes.size()));
}

TEST(TokenFile, OneThatChangesWhileItIsInUseIsNoticed) {
  const TemporaryDirectory directory;
  const std::string file = directory / "a.tok";
  write_tokens(file, some_tokens(5000, 65), 65);
  const TokenFile tokens = open_tokens(file);
  std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now());
  EXPECT_NO_THROW(tokens.require_unchanged()) << "touched, with the same tokens";
  {  // another of the same name: the old one is still open
    write_tokens(file, some_tokens(300, 3), 65);
    EXPECT_NO_THROW(tokens.require_unchanged());
    EXPECT_EQ(read_all(tokens), some_tokens(5000, 65));
  }
  std::filesystem::last_write_time(file, {});  // long ago
  const TokenFile second = open_tokens(file);
  std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(300).write("\7", 2);
  EXPECT_THROWS_SAYING(second.require_unchanged(), DataError, "changed while it was in use");
  std::filesystem::resize_file(file, 200);
  EXPECT_THROWS_SAYING(second[299], DataError, "cut short");
  EXPECT_THROWS_SAYING(second.require_unchanged(), DataError, "cut short");
}

}  // namespace
}  // namespace reverie
