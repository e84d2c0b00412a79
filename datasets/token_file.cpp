#include "datasets/token_file.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "datasets/hasher.h"

namespace reverie {

static_assert(std::endian::native == std::endian::little,
              "token files are read as they are: little-endian");

namespace {

constexpr std::string_view kMagic = "RVTOKENS";
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 128, kHeaderSumAt = 120, kLlmcHeaderBytes = 1024;
constexpr int32_t kLlmcMagicU16 = 20240520, kLlmcMagicU32 = 20240801;
constexpr size_t kHashDigits = 32;
constexpr int64_t kMostVocabulary = std::numeric_limits<int32_t>::max();

using Header = std::array<uint8_t, kHeaderBytes>;

template <class T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
template <class T>
void store(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

void store_hash(uint8_t* at, const std::string& digits) {
  if (digits.empty()) return;
  require(digits.size() == kHashDigits, "a hash has {} hexadecimal digits, got '{}'", kHashDigits,
          digits);
  for (size_t i = 0; i < kHashDigits / 2; ++i) {
    const char* first = digits.data() + 2 * i;
    const auto [end, error] = std::from_chars(first, first + 2, at[i], 16);
    require(error == std::errc() && end == first + 2, "'{}' is not a hash of hexadecimal digits",
            digits);
  }
}
std::string load_hash(const uint8_t* at) {
  std::string digits;
  for (size_t i = 0; i < kHashDigits / 2; ++i) digits += fmt::format("{:02x}", at[i]);
  return digits == std::string(kHashDigits, '0') ? std::string() : digits;
}

// The first token that is not below `vocabulary`, or -1.
template <class T>
int64_t find_outside(const T* tokens, int64_t count, int64_t vocabulary) {
  uint32_t highest = 0;
  for (int64_t i = 0; i < count; ++i) highest = std::max(highest, uint32_t(tokens[i]));
  if (int64_t(highest) < vocabulary) return -1;
  return std::find_if(tokens, tokens + count, [&](T t) { return int64_t(t) >= vocabulary; }) -
         tokens;
}

// What a file says of itself, before its length and checksum are compared.
struct Claims {
  TokenFormat format = TokenFormat::raw_u16;
  size_t header_bytes = 0;
  int width = 2;
  int64_t vocabulary_size = 0;
  uint64_t count = 0;
  std::string tokenizer_hash, source_hash, checksum;
};

Claims read_reverie_header(const std::string& file, const uint8_t* bytes, size_t size) {
  if (size < kHeaderBytes)
    throw DataError(fmt::format("{} is truncated: {} bytes, but the header alone has {}", file,
                                size, kHeaderBytes));
  if (std::memcmp(bytes, kMagic.data(), kMagic.size()) != 0)
    throw DataError(fmt::format("{} is not a token file of Reverie: it does not begin with '{}'",
                                file, kMagic));
  if (load<uint64_t>(bytes + kHeaderSumAt) != XXH3_64bits(bytes, kHeaderSumAt))
    throw DataError(fmt::format(
        "{}: the header was altered (its checksum does not match); prepare the data again", file));
  if (const auto version = load<uint32_t>(bytes + 8); version != kVersion)
    throw DataError(fmt::format("{}: token file version {}; this build reads version {}", file,
                                version, kVersion));
  const auto width = load<uint32_t>(bytes + 12);
  if (width != 2 && width != 4)
    throw DataError(fmt::format("{}: tokens of {} bytes; wanted 2 or 4", file, width));
  const auto vocabulary = load<uint64_t>(bytes + 16);
  if (vocabulary == 0 || vocabulary > uint64_t(kMostVocabulary))
    throw DataError(
        fmt::format("{}: vocabulary size {}; wanted 1 to {}", file, vocabulary, kMostVocabulary));
  if (width == 2 && vocabulary > 65536)
    throw DataError(
        fmt::format("{}: a vocabulary of {} does not fit its tokens of 2 bytes", file, vocabulary));
  return {TokenFormat::reverie,
          kHeaderBytes,
          int(width),
          int64_t(vocabulary),
          load<uint64_t>(bytes + 24),
          load_hash(bytes + 32),
          load_hash(bytes + 48),
          load_hash(bytes + 64)};
}

Claims read_llmc_header(const std::string& file, const uint8_t* bytes, size_t size,
                        int64_t vocabulary) {
  if (size < kLlmcHeaderBytes)
    throw DataError(fmt::format("{} is truncated: {} bytes, but llm.c's header alone has {}", file,
                                size, kLlmcHeaderBytes));
  const bool wide = load<int32_t>(bytes) == kLlmcMagicU32;
  const auto version = load<int32_t>(bytes + 4), wanted = wide ? 7 : 1;
  if (version != wanted)
    throw DataError(
        fmt::format("{}: llm.c token file version {}; wanted {}", file, version, wanted));
  const auto count = load<int32_t>(bytes + 8);
  if (count < 0) throw DataError(fmt::format("{}: llm.c header says {} tokens", file, count));
  Claims claims;
  claims.format = TokenFormat::llmc;
  claims.header_bytes = kLlmcHeaderBytes;
  claims.width = wide ? 4 : 2;
  claims.vocabulary_size = vocabulary ? vocabulary : wide ? 128256 : 50257;
  claims.count = uint64_t(count);
  return claims;
}

Claims read_claims(const std::string& file, const uint8_t* bytes, size_t size, int64_t vocabulary) {
  const std::string_view start(reinterpret_cast<const char*>(bytes), std::min(size, kMagic.size()));
  if (start == kMagic || file.ends_with(".tok")) return read_reverie_header(file, bytes, size);
  // Neither number can begin raw GPT-2 tokens: both hold 55,448 or more in their lower half.
  if (size >= 4 && (load<int32_t>(bytes) == kLlmcMagicU16 || load<int32_t>(bytes) == kLlmcMagicU32))
    return read_llmc_header(file, bytes, size, vocabulary);
  if (!file.ends_with(".bin"))
    throw DataError(
        fmt::format("{} is not a token file: it has neither Reverie's header (.tok) nor llm.c's, "
                    "and only a file named *.bin is read as nanoGPT's raw u16",
                    file));
  if (size % 2 != 0)
    throw DataError(fmt::format(
        "{} has no header, and {} bytes are not whole u16 tokens: truncated?", file, size));
  require(vocabulary > 0,
          "{} has no header, so it is read as nanoGPT's raw u16 tokens, which do not say their "
          "vocabulary: give "
          "\"vocabulary_size\" (50257 for GPT-2, 65 for nanoGPT's shakespeare_char)",
          file);
  Claims claims;
  claims.vocabulary_size = vocabulary;
  claims.count = size / 2;
  return claims;
}

// Checksum of everything behind the header.
std::string hash_payload(const OpenFile& file, size_t header_bytes) {
  StreamHasher hasher;
  std::vector<uint8_t> buffer(1 << 20);
  for (size_t at = header_bytes; at < file.bytes();) {
    const size_t bytes = std::min(buffer.size(), file.bytes() - at);
    file.read(at, buffer.data(), bytes);
    hasher.update(buffer.data(), bytes);
    at += bytes;
  }
  return hasher.digits();
}

}  // namespace

TokenFile open_tokens(const std::string& file, const OpenTokensOptions& options) {
  require(options.vocabulary_size >= 0 && options.vocabulary_size <= kMostVocabulary,
          "vocabulary_size {} is out of range 0 to {}", options.vocabulary_size, kMostVocabulary);
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  require(!error, "cannot read token file {}: {}", file, error.message());
  if (size == 0) throw DataError(fmt::format("{} is empty: not even a header", file));
  TokenFile tokens;
  tokens.file_ = std::make_shared<OpenFile>(file);
  std::array<uint8_t, std::max(kHeaderBytes, kLlmcHeaderBytes)> head{};
  tokens.file_->read(0, head.data(), std::min(head.size(), tokens.file_->bytes()));
  Claims claims = read_claims(file, head.data(), tokens.file_->bytes(), options.vocabulary_size);
  const size_t payload = tokens.file_->bytes() - claims.header_bytes;
  // Divided, not multiplied: a hostile count must not overflow.
  if (payload / size_t(claims.width) != claims.count || payload % size_t(claims.width) != 0)
    throw DataError(
        fmt::format("{} is truncated or has bytes too many: its header says {} tokens of {} bytes, "
                    "{} bytes follow it; prepare "
                    "or download it again",
                    file, claims.count, claims.width, payload));
  if (options.vocabulary_size && options.vocabulary_size != claims.vocabulary_size)
    throw DataError(fmt::format("{}: its vocabulary has {} tokens; wanted {}", file,
                                claims.vocabulary_size, options.vocabulary_size));
  if (options.verify_checksum) {
    const std::string found = hash_payload(*tokens.file_, claims.header_bytes);
    if (claims.format == TokenFormat::reverie && found != claims.checksum)
      throw DataError(fmt::format(
          "{} was altered: its tokens hash to {}, its header says {}; prepare the data again", file,
          found, claims.checksum));
    claims.checksum = found;
  }
  tokens.header_bytes_ = claims.header_bytes;
  tokens.count_ = int64_t(claims.count);
  tokens.vocabulary_size_ = claims.vocabulary_size;
  tokens.width_ = claims.width;
  tokens.format_ = claims.format;
  tokens.path_ = file;
  tokens.tokenizer_hash_ = std::move(claims.tokenizer_hash);
  tokens.source_hash_ = std::move(claims.source_hash);
  tokens.checksum_ = std::move(claims.checksum);
  return tokens;
}

void TokenFile::report_token(int64_t index, uint32_t token) const {
  throw DataError(
      fmt::format("{}: token {} at position {} is outside the vocabulary of {}; check that the "
                  "file belongs to this tokenizer",
                  path_, token, first_ + index, vocabulary_size_));
}

int32_t TokenFile::operator[](int64_t index) const {
  int32_t token;
  copy(index, {&token, 1});
  return token;
}

void TokenFile::copy(int64_t first, std::span<int32_t> out) const {
  const int64_t count = int64_t(out.size());
  require(first >= 0 && first <= count_ && count <= count_ - first,
          "tokens {} to {} were asked of {}, which has {}", first, first + count, path_, count_);
  if (count == 0) return;
  if (parts_) return copy_from_parts(first_ + first, out);
  const auto take = [&]<class T>(T) {
    thread_local std::vector<T> tokens;
    tokens.resize(out.size());
    file_->read(header_bytes_ + size_t(first_ + first) * sizeof(T), tokens.data(),
                tokens.size() * sizeof(T));
    if (const int64_t bad = find_outside(tokens.data(), count, vocabulary_size_); bad >= 0)
      report_token(first + bad, tokens[size_t(bad)]);
    for (int64_t i = 0; i < count; ++i) out[size_t(i)] = int32_t(tokens[size_t(i)]);
  };
  if (width_ == 2)
    take(uint16_t());
  else
    take(uint32_t());
}

void TokenFile::copy_from_parts(int64_t first, std::span<int32_t> out) const {
  for (const TokenFile& part : *parts_) {
    if (out.empty()) return;
    if (first < part.count()) {
      const int64_t here = std::min(part.count() - first, int64_t(out.size()));
      part.copy(first, out.first(size_t(here)));
      out = out.subspan(size_t(here));
      first = 0;
    } else {
      first -= part.count();
    }
  }
}

TokenFile TokenFile::joined(const std::vector<TokenFile>& files) {
  require(!files.empty(), "no token file was given to join");
  if (files.size() == 1) return files.front();
  TokenFile all = files.front();
  all.file_.reset();
  all.first_ = all.count_ = 0;
  all.source_hash_.clear();
  std::string checksums;
  for (const TokenFile& file : files) {
    require(file.vocabulary_size() == all.vocabulary_size(),
            "{} has a vocabulary of {} tokens, {} of {}: wanted token files of one tokenizer",
            all.path(), all.vocabulary_size(), file.path(), file.vocabulary_size());
    all.count_ += file.count();
    checksums += fmt::format("{} {}\n", file.count(), file.checksum());
  }
  all.checksum_ = hash_bytes(checksums.data(), checksums.size());
  all.parts_ = std::make_shared<const std::vector<TokenFile>>(files);
  return all;
}

void TokenFile::require_unchanged() const {
  if (parts_)
    for (const TokenFile& part : *parts_) part.require_unchanged();
  if (!file_ || file_->unchanged()) return;
  const std::string found = hash_payload(*file_, header_bytes_);  // DataError when it is shorter
  if (found == checksum_) return;                                 // touched, not altered
  throw DataError(fmt::format(
      "{} was changed while it was in use: its tokens hash to {}, when it was opened to "
      "{}; restore it, or prepare the data again",
      path_, found, checksum_.empty() ? "(not verified)" : checksum_));
}

TokenFile TokenFile::slice(int64_t first, int64_t count) const {
  require(first >= 0 && count >= 0 && first <= count_ && count <= count_ - first,
          "tokens {} to {} were asked of {}, which has {}", first, first + count, path_, count_);
  TokenFile part = *this;
  part.first_ += first;
  part.count_ = count;
  return part;
}

struct TokenFileWriter::State {
  explicit State(std::string path) : file(std::move(path)) {}

  AtomicFile file;
  std::string checksum;
  int64_t vocabulary_size = 0, count = 0;
  int width = 2;
  bool finished = false;
  Header header{};
  StreamHasher hasher;
  std::vector<uint8_t> buffer;
};

TokenFileWriter::TokenFileWriter(std::string file, int64_t vocabulary_size,
                                 const std::string& tokenizer_hash,
                                 const std::string& source_hash) {
  require(vocabulary_size >= 1 && vocabulary_size <= kMostVocabulary,
          "vocabulary size {} is out of range 1 to {}", vocabulary_size, kMostVocabulary);
  state_ = std::make_unique<State>(std::move(file));
  State& s = *state_;
  s.vocabulary_size = vocabulary_size;
  s.width = vocabulary_size <= 65536 ? 2 : 4;
  std::memcpy(s.header.data(), kMagic.data(), kMagic.size());
  store<uint32_t>(&s.header[8], kVersion);
  store<uint32_t>(&s.header[12], uint32_t(s.width));
  store<uint64_t>(&s.header[16], uint64_t(vocabulary_size));
  store_hash(&s.header[32], tokenizer_hash);
  store_hash(&s.header[48], source_hash);
  s.file.write(s.header.data(), kHeaderBytes);  // its place; finish() writes it whole
}

TokenFileWriter::~TokenFileWriter() = default;

void TokenFileWriter::append(std::span<const int32_t> tokens) {
  State& s = *state_;
  if (s.finished) throw InternalError("tokens appended to a finished token file");
  s.buffer.resize(tokens.size() * size_t(s.width));
  uint8_t* out = s.buffer.data();
  for (size_t i = 0; i < tokens.size(); ++i, out += s.width) {
    const int32_t token = tokens[i];
    require(token >= 0 && token < s.vocabulary_size,
            "token {} at position {} is outside the vocabulary of {}", token, s.count + int64_t(i),
            s.vocabulary_size);
    if (s.width == 2)
      store(out, uint16_t(token));
    else
      store(out, uint32_t(token));
  }
  s.hasher.update(s.buffer.data(), s.buffer.size());
  s.file.write(s.buffer.data(), s.buffer.size());
  s.count += int64_t(tokens.size());
}

void TokenFileWriter::finish() {
  State& s = *state_;
  if (s.finished) throw InternalError("a token file was finished twice");
  s.finished = true;
  s.checksum = s.hasher.digits();
  store<uint64_t>(&s.header[24], uint64_t(s.count));
  store_hash(&s.header[64], s.checksum);
  store<uint64_t>(&s.header[kHeaderSumAt], XXH3_64bits(s.header.data(), kHeaderSumAt));
  s.file.overwrite(0, s.header.data(), kHeaderBytes);
  s.file.commit();
}

int64_t TokenFileWriter::count() const {
  return state_->count;
}
const std::string& TokenFileWriter::checksum() const {
  return state_->checksum;
}

}  // namespace reverie
