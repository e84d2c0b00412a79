#pragma once
// Files that are whole or absent: atomic replacement, fsync, mapping, and hashes.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/storage.h"

namespace reverie {

std::string read_file(const std::string& file);  // UserError when it cannot be read
// Writes a temporary file beside `file`, fsyncs it, renames it over `file`, fsyncs the directory.
// MachineError when the machine refuses any of it (a full disk, no permission): the old file stays
// and the temporary one is removed.
void write_file_atomically(const std::string& file, std::string_view bytes);
// The same in pieces, for files that are not in memory as a whole. Without commit() nothing is left
// behind.
class AtomicFile {
 public:
  explicit AtomicFile(std::string file);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes);
  // Rewrites bytes already written, such as a header that holds counts; write() goes on at the end.
  void overwrite(size_t offset, const void* data, size_t bytes);
  void commit();  // fsync, rename, fsync of the directory

 private:
  [[noreturn]] void fail(const char* doing) const;

  std::string file_, temporary_;
  int descriptor_ = -1;
};
// MachineError when the file or directory cannot be opened or synced.
void fsync_path(const std::string& file_or_directory);
// Renames a directory that was filled under a temporary name and fsyncs the parent.
void rename_durably(const std::string& from, const std::string& to);

// That this process alone works on something: a lock on `file`, which is made for it, names the
// holder, and goes with the lock. However a process ends, its lock ends with it. UserError when
// another holds it: "`what` is in use by process 123 ...". Where the file system knows no locks
// there is none.
class FileLock {
 public:
  FileLock(std::string file, const std::string& what);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  std::string file_;
  int descriptor_ = -1;
};

// Read-only mapping of a whole file as storage; unmapped with the last tensor over it. UserError
// when it cannot be read.
std::shared_ptr<Storage> map_file(const std::string& file);

// XXH3-128 as 32 hexadecimal digits.
std::string hash_bytes(const void* data, size_t bytes);
std::string hash_file(const std::string& file);

}  // namespace reverie
