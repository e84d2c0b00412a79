#pragma once
/// Files that are whole or absent: atomic replacement, fsync, mapping, and hashes.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/storage.h"

namespace reverie {

/// The path of a file in a directory.
std::string path_in(const std::string& directory, std::string_view name);
std::string read_file(const std::string& file);  ///< UserError when it cannot be read
/// Writes a temporary file beside `file`, fsyncs it, renames it over `file`, fsyncs the directory.
/// A symbolic link stays and its target is replaced; a device, pipe or socket is written into.
/// MachineError when the machine refuses any of it (a full disk, no permission): the old file stays
/// and the temporary one is removed. Temporary files of killed writers are removed by the next one.
void write_file_atomically(const std::string& file, std::string_view bytes);
/// For output that is written after long work: MachineError now when write_file_atomically() would
/// be refused then (no such directory, no permission, a directory of that name). Leaves nothing.
void require_writable(const std::string& file);
/// The same in pieces, for files that are not in memory as a whole. Without commit() nothing is left
/// behind.
class AtomicFile {
 public:
  explicit AtomicFile(std::string file);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(const void* data, size_t bytes);
  /// Rewrites bytes already written, such as a header that holds counts; write() goes on at the end.
  void overwrite(size_t offset, const void* data, size_t bytes);
  void commit();  ///< fsync, rename, fsync of the directory

 private:
  [[noreturn]] void fail(const char* doing) const;

  std::string file_, temporary_;  ///< temporary_ is empty for what is written into
  int descriptor_ = -1;
};

/// A directory that is filled under a temporary name, PATH.PURPOSE-PID-N, and locked meanwhile, so
/// that others tell it from one whose writer was killed. Removed by the destructor, unless it was
/// renamed. Makes the parent where needed. MachineError when the machine refuses.
class TemporaryFolder {
 public:
  TemporaryFolder(const std::string& path, const std::string& purpose);
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};
/// Removes the temporary files and folders PATH.PURPOSE-PID-N whose writers are gone (no lock).
void remove_orphans(const std::string& path, const std::string& purpose);

/// MachineError when the file or directory cannot be opened or synced.
void fsync_path(const std::string& file_or_directory);
/// Renames a directory that was filled under a temporary name and fsyncs the parent.
void rename_durably(const std::string& from, const std::string& to);

/// That this process alone works on something: a lock on `file`, which is made for it, names the
/// holder, and goes with the lock. However a process ends, its lock ends with it. UserError when
/// another holds it: "`what` is in use by process 123 ...". Where the file system knows no locks
/// there is none.
class FileLock {
 public:
  FileLock(std::string file, const std::string& what);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  /// Whether the locked file is still where it was made: false once its directory was moved or
  /// removed.
  bool in_place() const;
  /// Where it lies now, "" where it was removed.
  std::string current_file() const;

 private:
  std::string file_;
  int descriptor_ = -1;
};

/// A file that stays open and is read by position, so that one which gets shorter meanwhile is an
/// error and not a SIGBUS. Const methods may be called from many threads.
class OpenFile {
 public:
  explicit OpenFile(std::string file);  ///< UserError when it cannot be read or is no regular file
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  size_t bytes() const { return bytes_; }  ///< when it was opened
  const std::string& path() const { return file_; }
  /// Fills `data` from `offset` on. DataError when the file ends before.
  void read(size_t offset, void* data, size_t bytes) const;
  /// Whether length and time of change are those of opening. Replacing the file by another of the
  /// same name changes nothing here: the old one stays open.
  bool unchanged() const;

 private:
  std::string file_;
  int descriptor_ = -1;
  size_t bytes_ = 0;
  int64_t changed_seconds_ = 0, changed_nanoseconds_ = 0;
};

/// Read-only mapping of a whole file as storage; unmapped with the last tensor over it. UserError
/// when it cannot be read.
std::shared_ptr<Storage> map_file(const std::string& file);

/// As a mapping of a file of so many zeros, without the file: no allocator counts it, and no page
/// of it takes memory. For dry runs.
std::shared_ptr<Storage> map_zeros(size_t bytes);

/// From now on what is written into this mapping of map_file() changes this process's own pages, and
/// neither the file nor what other processes see of it. Nothing happens to other storage.
void allow_private_writes(const Storage& mapping);

/// XXH3-128 as 32 hexadecimal digits.
std::string hash_bytes(const void* data, size_t bytes);
std::string hash_file(const std::string& file);

}  // namespace reverie
