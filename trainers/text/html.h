#pragma once
/// Text that is safe inside HTML, SVG and XML.

#include <string>
#include <string_view>

namespace reverie {

/// The same text with every byte that is not part of UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

/// Text for element content and quoted attributes: & < > " ' escaped; control characters that XML
/// forbids, and bytes that are not UTF-8, replaced by U+FFFD; line feeds and tabs kept.
std::string escape_html(std::string_view text);

}  // namespace reverie
