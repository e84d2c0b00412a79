#pragma once
/// Token files: ours (.tok), and those of nanoGPT and llm.c (.bin).
///
/// A .tok file is a header of 128 bytes and then the tokens, u16 or u32, all little-endian:
///   bytes   0..7    "RVTOKENS"
///           8..11   format version, 1
///          12..15   width of a token in bytes, 2 or 4
///          16..23   vocabulary size: every token is below it
///          24..31   count of tokens
///          32..47   hash of the tokenizer (zeros: unknown)
///          48..63   hash of the source text (zeros: unknown)
///          64..79   XXH3-128 of the tokens' bytes
///          80..119  zeros
///         120..127  XXH3-64 of bytes 0..119
/// Hashes are stored as their digits read: most significant byte first.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"

namespace reverie {

enum class TokenFormat { reverie, llmc, raw_u16 };

struct OpenTokensOptions {
  /// Read every byte and compare with the header's checksum (.tok). Off: only the header and the
  /// length are checked, and checksum() of a .bin file is empty.
  bool verify_checksum = true;
  /// .bin files do not say their vocabulary size: 0 takes llm.c's own (50257, or 128256 for its
  /// Llama 3 form), and is refused for raw u16. For .tok, anything but 0 must equal the header's.
  int64_t vocabulary_size = 0;
};

/// Tokens in an open file, a range of them, or several files as one. A value: copies and slices share
/// the files. Reading is const and safe from many threads.
class TokenFile {
 public:
  TokenFile() = default;  ///< no tokens

  int64_t count() const { return count_; }
  int64_t vocabulary_size() const { return vocabulary_size_; }
  int width() const { return width_; }  ///< bytes a token takes in the file: 2 or 4
  TokenFormat format() const { return format_; }
  const std::string& path() const { return path_; }
  /// 32 hexadecimal digits, or "" where the file does not say.
  const std::string& tokenizer_hash() const { return tokenizer_hash_; }
  const std::string& source_hash() const { return source_hash_; }
  /// XXH3-128 of the whole file's tokens as stored.
  const std::string& checksum() const { return checksum_; }

  /// Token `index`, 0 <= index < count(). DataError when it is not below vocabulary_size().
  int32_t operator[](int64_t index) const;
  /// Copies tokens first .. first + out.size() - 1. UserError when they are not all there, DataError
  /// with the position of a token that is not below vocabulary_size(), or when the file was cut
  /// short since it was opened.
  void copy(int64_t first, std::span<int32_t> out) const;
  /// The tokens of one file after another; a single file is itself. UserError when there is none, or
  /// their vocabularies are not as large. What belongs to one file is the first's: path(), width(),
  /// format(), tokenizer_hash(); checksum() is made of all.
  static TokenFile joined(const std::vector<TokenFile>& files);
  /// Whether there are several files, whose texts do not go on into one another.
  bool is_joined() const { return parts_ != nullptr; }
  /// Tokens first .. first + count - 1 as a TokenFile of their own.
  TokenFile slice(int64_t first, int64_t count) const;
  /// DataError when the file's tokens are others than when it was opened. Reads them only where the
  /// file's length or time of change differs.
  void require_unchanged() const;

 private:
  friend TokenFile open_tokens(const std::string&, const OpenTokensOptions&);
  [[noreturn]] void report_token(int64_t index, uint32_t token) const;
  void copy_from_parts(int64_t first, std::span<int32_t> out) const;

  std::shared_ptr<OpenFile> file_;  ///< null where there are parts
  std::shared_ptr<const std::vector<TokenFile>> parts_;
  size_t header_bytes_ = 0;
  int64_t first_ = 0;  ///< of this range in the file
  int64_t count_ = 0;
  int64_t vocabulary_size_ = 0;
  int width_ = 2;
  TokenFormat format_ = TokenFormat::reverie;
  std::string path_, tokenizer_hash_, source_hash_, checksum_;
};

/// Opens a token file of any of the three forms:
///   .tok by its magic; llm.c by its header of 256 int32 (magic 20240520 version 1: u16; magic
///   20240801 version 7: u32); any other file named *.bin as nanoGPT's raw u16.
/// UserError when it cannot be read or its vocabulary is unknown; DataError when it is truncated,
/// altered, or none of these.
TokenFile open_tokens(const std::string& file, const OpenTokensOptions& options = {});

/// Writes a .tok file from tokens that come in pieces. Until finish(), the target is untouched; a
/// writer that is destroyed before leaves nothing behind.
class TokenFileWriter {
 public:
  /// Hashes: 32 hexadecimal digits or "". vocabulary_size: 1 .. 2^31 - 1.
  TokenFileWriter(std::string file, int64_t vocabulary_size, const std::string& tokenizer_hash,
                  const std::string& source_hash);
  ~TokenFileWriter();
  TokenFileWriter(const TokenFileWriter&) = delete;
  TokenFileWriter& operator=(const TokenFileWriter&) = delete;

  /// UserError for a token outside the vocabulary, MachineError when the disk refuses.
  void append(std::span<const int32_t> tokens);
  /// Completes the header, fsyncs and renames into place.
  void finish();
  int64_t count() const;
  /// Checksum of the file that finish() wrote.
  const std::string& checksum() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace reverie
