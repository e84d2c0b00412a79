#pragma once
// Files that are whole or absent: atomic replacement, fsync, mapping, and hashes.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/storage.h"

namespace reverie {

std::string read_file(const std::string& file);  // UserError when it cannot be read
// Writes a temporary file beside `file`, fsyncs it, renames it over `file`, fsyncs the directory. A full disk leaves the old file.
void write_file_atomically(const std::string& file, std::string_view bytes);
void fsync_path(const std::string& file_or_directory);
// Renames a directory that was filled under a temporary name and fsyncs the parent.
void rename_durably(const std::string& from, const std::string& to);

// Read-only mapping of a whole file as storage; unmapped with the last tensor over it.
std::shared_ptr<Storage> map_file(const std::string& file);

// XXH3-128 as 32 hexadecimal digits.
std::string hash_bytes(const void* data, size_t bytes);
std::string hash_file(const std::string& file);

}  // namespace reverie
