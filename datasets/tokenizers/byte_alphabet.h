#pragma once
/// GPT-2's way of writing bytes as printable characters in its vocabulary files: itself where
/// printable in Latin-1, else U+0100 and on (a space is U+0120).

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace reverie {

/// The character that each byte is written as.
const std::array<uint32_t, 256>& byte_characters();
/// The bytes that `text` (UTF-8) stands for; nullopt where it has a character that stands for none.
std::optional<std::string> bytes_of_characters(std::string_view text);

}  // namespace reverie
