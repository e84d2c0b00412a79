#pragma once
/// UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF (Unicode 16, table
/// 3-7).

#include <cstdint>
#include <string>
#include <string_view>

namespace reverie {

struct CodePoint {
  uint32_t value = 0;
  int bytes = 0;  ///< 1 to 4; 0: the bytes are not UTF-8
};

/// The code point that begins at text[at]; `at` < text.size().
inline CodePoint decode_code_point(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return uint32_t(uint8_t(text[at + i])); };
  const size_t left = text.size() - at;
  const auto follows = [&](size_t i) { return i < left && (byte(i) & 0xC0u) == 0x80u; };
  const uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xC2) return {};
  if (first < 0xE0) {
    if (!follows(1)) return {};
    return {(first & 0x1Fu) << 6 | (byte(1) & 0x3Fu), 2};
  }
  if (first < 0xF0) {
    if (!follows(1) || !follows(2)) return {};
    const uint32_t value = (first & 0x0Fu) << 12 | (byte(1) & 0x3Fu) << 6 | (byte(2) & 0x3Fu);
    if (value < 0x800 || (value >= 0xD800 && value <= 0xDFFF)) return {};
    return {value, 3};
  }
  if (first < 0xF5) {
    if (!follows(1) || !follows(2) || !follows(3)) return {};
    const uint32_t value = (first & 0x07u) << 18 | (byte(1) & 0x3Fu) << 12 |
                           (byte(2) & 0x3Fu) << 6 | (byte(3) & 0x3Fu);
    if (value < 0x10000 || value > 0x10FFFF) return {};
    return {value, 4};
  }
  return {};
}

/// As decode_code_point, but throws DataError naming the byte offset (`base` + at) where UTF-8 ends.
CodePoint require_code_point(std::string_view text, size_t at, size_t base = 0);

/// Whether more bytes could make `bytes` (1 to 3, all there is of it) one code point.
bool may_become_code_point(std::string_view bytes);

/// Throws DataError with the byte offset where `text` is not UTF-8.
void require_utf8(std::string_view text);

void append_code_point(std::string& text, uint32_t value);

/// Code points in `text`. Throws DataError with the byte offset where it is not UTF-8.
int64_t count_code_points(std::string_view text);

/// "'a' (U+0061)": a code point for a message; controls and spaces are shown by number alone.
std::string describe_code_point(uint32_t value);

}  // namespace reverie
