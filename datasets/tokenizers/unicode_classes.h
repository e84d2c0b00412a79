#pragma once
/// The character classes of GPT-2's split, pinned to Unicode 16.0 so that token ids do not depend on
/// a library's version.

#include <cstdint>
#include <string_view>

namespace reverie {

enum class CharacterClass : uint8_t { other, letter, number, space };

inline constexpr std::string_view kUnicodeVersion = "16.0";

/// \p{L}, \p{N}, \s (the White_Space property) or none of them.
CharacterClass character_class(uint32_t code_point);

}  // namespace reverie
