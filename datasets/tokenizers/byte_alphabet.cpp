#include "datasets/tokenizers/byte_alphabet.h"

#include "datasets/utf8.h"

namespace reverie {

const std::array<uint32_t, 256>& byte_characters() {
  static const auto characters = [] {
    std::array<uint32_t, 256> made{};
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      made[byte] = printable ? byte : next++;
    }
    return made;
  }();
  return characters;
}

std::optional<std::string> bytes_of_characters(std::string_view text) {
  static const auto bytes = [] {
    std::array<int16_t, 0x144> made{};
    made.fill(-1);
    for (int byte = 0; byte < 256; ++byte) made[byte_characters()[size_t(byte)]] = int16_t(byte);
    return made;
  }();
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_code_point(text, at);
    if (point.bytes == 0 || point.value >= bytes.size() || bytes[point.value] < 0)
      return std::nullopt;
    result.push_back(char(bytes[point.value]));
    at += size_t(point.bytes);
  }
  return result;
}

}  // namespace reverie
