#include "datasets/utf8.h"

#include <cstring>

#include "core/error.h"

namespace reverie {

CodePoint require_code_point(std::string_view text, size_t at, size_t base) {
  const CodePoint point = decode_code_point(text, at);
  if (point.bytes == 0) [[unlikely]]
    throw DataError(
        fmt::format("the text is not UTF-8: byte 0x{:02x} at byte offset {}; convert it first, for "
                    "example with "
                    "iconv -t UTF-8",
                    uint8_t(text[at]), base + at));
  return point;
}

bool may_become_code_point(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > 3) return false;
  // The first continuation byte's range depends on the first byte, so both its ends are tried.
  for (const char second : {'\x80', '\x90', '\x9F', '\xBF'}) {
    std::string completed(bytes);
    completed += second;
    for (; completed.size() <= 4; completed += '\x80')
      if (decode_code_point(completed, 0).bytes == int(completed.size())) return true;
  }
  return false;
}

void require_utf8(std::string_view text) {
  count_code_points(text);
}

void append_code_point(std::string& text, uint32_t value) {
  const auto put = [&](uint32_t byte) { text.push_back(char(uint8_t(byte))); };
  if (value < 0x80) {
    put(value);
  } else if (value < 0x800) {
    put(0xC0u | value >> 6);
    put(0x80u | (value & 0x3Fu));
  } else if (value < 0x10000) {
    put(0xE0u | value >> 12);
    put(0x80u | (value >> 6 & 0x3Fu));
    put(0x80u | (value & 0x3Fu));
  } else {
    put(0xF0u | value >> 18);
    put(0x80u | (value >> 12 & 0x3Fu));
    put(0x80u | (value >> 6 & 0x3Fu));
    put(0x80u | (value & 0x3Fu));
  }
}

int64_t count_code_points(std::string_view text) {
  int64_t count = 0;
  for (size_t at = 0; at < text.size();) {
    uint64_t eight;
    if (at + 8 <= text.size()) {
      std::memcpy(&eight, text.data() + at, 8);
      if ((eight & 0x8080808080808080u) == 0) {
        at += 8;
        count += 8;
        continue;
      }
    }
    at += size_t(require_code_point(text, at).bytes);
    ++count;
  }
  return count;
}

std::string describe_code_point(uint32_t value) {
  if (value <= 0x20 || (value >= 0x7F && value <= 0xA0)) return fmt::format("U+{:04X}", value);
  std::string text;
  append_code_point(text, value);
  return fmt::format("'{}' (U+{:04X})", text, value);
}

}  // namespace reverie
