#pragma once
/// Files that may be compressed.

#include <functional>
#include <string>
#include <string_view>

namespace reverie {

/// "stories.jsonl.gz" -> "stories.jsonl"; a name without .gz or .zst stays.
std::string without_compression(const std::string& file);

/// The contents of `file` piece by piece, decompressed where its name ends in .gz (gzip, one or more
/// members) or .zst (Zstandard, one or more frames). UserError when it cannot be read, DataError
/// when it is truncated or not what its name says.
void read_decompressed(const std::string& file, const std::function<void(std::string_view)>& piece);

}  // namespace reverie
