#include "core/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "core/error.h"

namespace reverie {
namespace {

struct Descriptor {
  int value = -1;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

std::string errno_text(int error) {
  return std::error_code(error, std::generic_category()).message();
}

int open_to_read(const std::string& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) throw UserError(fmt::format("cannot open {}: {}", file, errno_text(errno)));
  return descriptor;
}

[[noreturn]] void fail_to_read(const std::string& file) {
  throw UserError(fmt::format("cannot read {}: {}", file, errno_text(errno)));
}

// At most `bytes`; 0 at the end of the file.
size_t read_some(int descriptor, void* data, size_t bytes, const std::string& file) {
  for (;;) {
    const ssize_t got = ::read(descriptor, data, bytes);
    if (got >= 0) return size_t(got);
    if (errno != EINTR) fail_to_read(file);
  }
}

std::string parent_of(const std::string& file) {
  const std::string parent = std::filesystem::path(file).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string hexadecimal(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

std::string read_file(const std::string& file) {
  const Descriptor input{open_to_read(file)};
  struct stat info {};
  if (::fstat(input.value, &info) != 0) fail_to_read(file);
  std::string bytes;
  // A regular file says its size; a pipe says 0 and is read until it ends.
  bytes.resize(S_ISREG(info.st_mode) ? size_t(info.st_size) + 1 : 1 << 16);
  size_t used = 0;
  while (const size_t got =
             read_some(input.value, bytes.data() + used, bytes.size() - used, file)) {
    used += got;
    if (used == bytes.size()) bytes.resize(2 * used);
  }
  bytes.resize(used);
  return bytes;
}

AtomicFile::AtomicFile(std::string file) : file_(std::move(file)) {
  // Unique among processes and threads; O_EXCL guards against leftovers of a killed process with
  // the same id.
  static std::atomic<unsigned> counter{0};
  do {
    temporary_ = fmt::format("{}.tmp-{}-{}", file_, ::getpid(), counter++);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  } while (descriptor_ < 0 && errno == EEXIST);
  if (descriptor_ < 0) fail("cannot create");
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(const char* doing) const {
  throw MachineError(fmt::format("{} {}: {} (the file before it, if any, is untouched)", doing,
                                 file_, errno_text(errno)));
}

void AtomicFile::write(const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, next, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = ENOSPC;
    if (written <= 0) fail("cannot write");
    next += written;
    bytes -= size_t(written);
  }
}

void AtomicFile::overwrite(size_t offset, const void* data, size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::pwrite(descriptor_, next, bytes, off_t(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written == 0) errno = ENOSPC;
    if (written <= 0) fail("cannot write");
    next += written;
    offset += size_t(written);
    bytes -= size_t(written);
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) fail("cannot write");
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0)
    fail("cannot write");  // network file systems report a full disk here
  if (::rename(temporary_.c_str(), file_.c_str()) != 0) fail("cannot replace");
  temporary_.clear();
  fsync_path(parent_of(file_));
}

void write_file_atomically(const std::string& file, std::string_view bytes) {
  AtomicFile output(file);
  output.write(bytes.data(), bytes.size());
  output.commit();
}

void fsync_path(const std::string& path) {
  const Descriptor opened{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  // Some file systems cannot sync directories; there is then nothing to wait for.
  if (opened.value < 0 || (::fsync(opened.value) != 0 && errno != EINVAL && errno != ENOTSUP))
    throw MachineError(fmt::format("cannot sync {} to disk: {}", path, errno_text(errno)));
}

void rename_durably(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    throw MachineError(fmt::format("cannot rename {} to {}: {}", from, to, errno_text(errno)));
  fsync_path(parent_of(to));
}

namespace {

// Whether `file` still is what `descriptor` has open: its last holder may have removed it
// meanwhile.
bool is_still(const std::string& file, int descriptor) {
  struct stat opened {
  }, named{};
  return ::fstat(descriptor, &opened) == 0 && ::stat(file.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

std::string this_process() {
  char host[256] = {};
  (void)::gethostname(host, sizeof host - 1);
  return fmt::format("process {} on {}", ::getpid(), host);
}

}  // namespace

FileLock::FileLock(std::string file, const std::string& what) : file_(std::move(file)) {
  for (;;) {
    descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (descriptor_ < 0)
      throw MachineError(fmt::format("cannot create {}: {}", file_, errno_text(errno)));
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      char holder[300] = {};
      const ssize_t length = ::pread(descriptor_, holder, sizeof holder - 1, 0);
      ::close(descriptor_);
      descriptor_ = -1;
      if (error == EINTR) continue;
      if (error != EWOULDBLOCK) return;  // a file system without locks
      throw UserError(
          fmt::format("{} is in use by {}", what, length > 0 ? holder : "another process"));
    }
    if (is_still(file_, descriptor_)) break;
    ::close(descriptor_);
  }
  const std::string holder = this_process();
  // For the message alone: a full disk costs the name, not the lock.
  (void)!::ftruncate(descriptor_, 0);
  (void)!::pwrite(descriptor_, holder.data(), holder.size(), 0);
}

FileLock::~FileLock() {
  if (descriptor_ < 0) return;
  ::unlink(file_.c_str());
  ::close(descriptor_);
}

std::shared_ptr<Storage> map_file(const std::string& file) {
  const Descriptor input{open_to_read(file)};
  struct stat info {};
  if (::fstat(input.value, &info) != 0) fail_to_read(file);
  if (!S_ISREG(info.st_mode))
    throw UserError(fmt::format("cannot read {}: not a regular file", file));
  const size_t bytes = size_t(info.st_size);
  if (bytes == 0) {  // mmap refuses an empty range
    alignas(64) static char nothing[64];
    return std::make_shared<Storage>(nothing, 0, Device{}, [] {});
  }
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, input.value, 0);
  if (data == MAP_FAILED)
    throw MachineError(fmt::format("cannot map {}: {}", file, errno_text(errno)));
  return std::make_shared<Storage>(data, bytes, Device{}, [data, bytes] { ::munmap(data, bytes); });
}

std::string hash_bytes(const void* data, size_t bytes) {
  return hexadecimal(XXH3_128bits(data, bytes));
}

std::string hash_file(const std::string& file) {
  const Descriptor input{open_to_read(file)};
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       &XXH3_freeState);
  if (!state) throw MachineError("out of memory while hashing a file");
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(1 << 20);
  while (const size_t got = read_some(input.value, buffer.data(), buffer.size(), file))
    XXH3_128bits_update(state.get(), buffer.data(), got);
  return hexadecimal(XXH3_128bits_digest(state.get()));
}

}  // namespace reverie
