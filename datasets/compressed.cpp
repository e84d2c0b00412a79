#include "datasets/compressed.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/files.h"

namespace reverie {
namespace {

using Piece = std::function<void(std::string_view)>;
constexpr size_t kPieceBytes = size_t(1) << 18;

[[noreturn]] void broken(const std::string& file, const char* form, const std::string& why) {
  throw DataError(fmt::format("{}: not a sound {} file: {}", file, form, why));
}

void inflate_gzip(const std::string& file, std::string_view bytes, const Piece& piece) {
  z_stream stream{};
  if (inflateInit2(&stream, 16 + MAX_WBITS) != Z_OK)
    throw MachineError(fmt::format("{}: zlib cannot start", file));
  const std::unique_ptr<z_stream, decltype(&inflateEnd)> guard(&stream, inflateEnd);
  std::vector<char> out(kPieceBytes);
  size_t at = 0;
  bool whole = false;  // the last member ended
  while (at < bytes.size()) {
    // Zeros behind a member are padding, as gzip has it.
    if (whole && bytes.find_first_not_of('\0', at) == bytes.npos) break;
    const size_t given = std::min(bytes.size() - at, size_t(std::numeric_limits<uInt>::max()));
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + at));
    stream.avail_in = uInt(given);
    do {
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = uInt(out.size());
      const int status = inflate(&stream, Z_NO_FLUSH);
      whole = status == Z_STREAM_END;
      if (!whole && status != Z_OK && status != Z_BUF_ERROR)
        broken(file, "gzip", stream.msg ? stream.msg : "damaged");
      piece({out.data(), out.size() - stream.avail_out});
    } while (!whole && (stream.avail_in > 0 || stream.avail_out == 0));
    at += given - stream.avail_in;
    if (whole) inflateReset(&stream);
  }
  if (!whole) broken(file, "gzip", "it is truncated");
}

void inflate_zstandard(const std::string& file, std::string_view bytes, const Piece& piece) {
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                     ZSTD_freeDCtx);
  if (!context) throw MachineError(fmt::format("{}: zstd cannot start", file));
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, 31);  // of `zstd --long=31`
  std::vector<char> out(kPieceBytes);
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  size_t wanted = 1;  // 0: a frame ended
  while (in.pos < in.size || wanted != 0) {
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    const size_t before = in.pos;
    wanted = ZSTD_decompressStream(context.get(), &target, &in);
    if (ZSTD_isError(wanted)) broken(file, "Zstandard", ZSTD_getErrorName(wanted));
    piece({out.data(), target.pos});
    if (wanted != 0 && in.pos == before && target.pos == 0)
      broken(file, "Zstandard", "it is truncated");
  }
}

}  // namespace

std::string without_compression(const std::string& file) {
  for (const std::string_view ending : {".gz", ".zst"})
    if (file.ends_with(ending)) return file.substr(0, file.size() - ending.size());
  return file;
}

void read_decompressed(const std::string& file, const Piece& piece) {
  const auto mapping = map_file(file);
  const std::string_view bytes(static_cast<const char*>(mapping->data()), mapping->bytes());
  if (file.ends_with(".gz"))
    inflate_gzip(file, bytes, piece);
  else if (file.ends_with(".zst"))
    inflate_zstandard(file, bytes, piece);
  else if (!bytes.empty())
    piece(bytes);
}

}  // namespace reverie
