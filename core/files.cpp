#include "core/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
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

std::string path_in(const std::string& directory, std::string_view name) {
  return (std::filesystem::path(directory) / name).string();
}

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

namespace {

// Whether `path` still is what `descriptor` has open: somebody may have removed or renamed it.
bool is_still(const std::string& path, int descriptor) {
  struct stat opened {
  }, named{};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

// The file name of temporary_name() up to its "PID-N". A target's name may be as long as the file
// system takes; its temporary names then keep the beginning of it and a hash of all of it.
std::string temporary_prefix(const std::string& path, const std::string& purpose) {
  constexpr size_t kDigits = sizeof "4294967295-4294967295" - 1;
  const std::string name = std::filesystem::path(path).filename().string();
  const long asked = ::pathconf(parent_of(path).c_str(), _PC_NAME_MAX);
  const size_t longest = (asked > 0 ? size_t(asked) : size_t(NAME_MAX)) - kDigits;
  const std::string tail = fmt::format(".{}-", purpose);
  if (name.size() + tail.size() <= longest) return name + tail;
  const std::string hash = "~" + hash_bytes(name.data(), name.size()).substr(0, 16);
  const size_t taken = std::min(hash.size() + tail.size(), longest);
  size_t kept = std::min(longest - taken, name.size());
  while (kept > 0 && (uint8_t(name[kept]) & 0xC0u) == 0x80u) --kept;  // no half of a character
  return name.substr(0, kept) + hash + tail;
}

// A path beside `path` that no other process or thread uses.
std::string temporary_name(const std::string& path, const std::string& purpose) {
  static std::atomic<unsigned> counter{0};
  const std::filesystem::path name =
      fmt::format("{}{}-{}", temporary_prefix(path, purpose), ::getpid(), counter++);
  return (std::filesystem::path(path).parent_path() / name).string();
}

// "PID-N" after the purpose, as temporary_name() writes it.
bool is_temporary_suffix(std::string_view text) {
  const size_t dash = text.find('-');
  const auto digits = [](std::string_view part) {
    return !part.empty() && part.find_first_not_of("0123456789") == part.npos;
  };
  return dash != text.npos && digits(text.substr(0, dash)) && digits(text.substr(dash + 1));
}

// /dev/stdout and /dev/fd/N lead there.
constexpr std::string_view kOwnDescriptors = "/proc/self/fd/";

// What `file` leads to through symbolic links, whether that exists or not.
std::string behind_links(std::string file) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (int links = 0; links < 40; ++links) {
    if (file.starts_with("/dev/fd/")) file.replace(0, 8, kOwnDescriptors);
    if (file.starts_with(kOwnDescriptors)) break;
    const fs::path target = fs::read_symlink(file, error);
    if (error) break;
    file = (fs::path(file).parent_path() / target).string();
  }
  return file;
}

// Devices, pipes and sockets cannot be replaced by a file; what they are for is being written into.
bool is_written_into(const std::string& file) {
  if (file.starts_with(kOwnDescriptors)) return true;
  struct stat info {};
  return ::stat(file.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

}  // namespace

void remove_orphans(const std::string& path, const std::string& purpose) {
  namespace fs = std::filesystem;
  const std::string prefix = temporary_prefix(path, purpose);
  std::error_code error;
  fs::directory_iterator next(parent_of(path), error);
  for (; !error && next != fs::directory_iterator(); next.increment(error)) {
    const std::string name = next->path().filename().string();
    if (!name.starts_with(prefix) || !is_temporary_suffix(name.substr(prefix.size()))) continue;
    const Descriptor orphan{::open(next->path().c_str(), O_RDONLY | O_CLOEXEC)};
    std::error_code ignored;
    if (orphan.value >= 0 && ::flock(orphan.value, LOCK_EX | LOCK_NB) == 0)
      fs::remove_all(next->path(), ignored);
  }
}

void require_writable(const std::string& given) {
  const std::string file = behind_links(given);
  const auto refuse = [&](int error) {
    throw MachineError(fmt::format("cannot write {}: {}", given, errno_text(error)));
  };
  struct stat info {};
  const bool exists = ::stat(file.c_str(), &info) == 0;
  const int error = exists ? 0 : errno;
  if (exists && S_ISDIR(info.st_mode)) refuse(EISDIR);
  if (exists && ::access(file.c_str(), W_OK) != 0) refuse(errno);
  if (is_written_into(file)) return;
  if (error != 0 && error != ENOENT) refuse(error);  // such as a name that is too long
  const std::string parent = parent_of(file);
  if (::access(parent.c_str(), W_OK | X_OK) != 0) refuse(errno);
  if (!std::filesystem::is_directory(parent)) refuse(ENOTDIR);
}

AtomicFile::AtomicFile(std::string file) : file_(behind_links(std::move(file))) {
  if (is_written_into(file_)) {
    const bool own = file_.starts_with(kOwnDescriptors);  // goes on where that stands
    descriptor_ =
        own ? ::fcntl(std::atoi(file_.c_str() + kOwnDescriptors.size()), F_DUPFD_CLOEXEC, 0)
            : ::open(file_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (descriptor_ < 0) fail("cannot open");
    return;
  }
  remove_orphans(file_, "tmp");
  // The lock says that the writer lives. Whoever cleans up may have been faster.
  for (;;) {
    temporary_ = temporary_name(file_, "tmp");
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno == EEXIST) continue;
    if (descriptor_ < 0) {
      temporary_.clear();
      fail("cannot create");
    }
    (void)::flock(descriptor_, LOCK_EX);
    if (is_still(temporary_, descriptor_)) return;
    ::close(descriptor_);
  }
}

AtomicFile::~AtomicFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (descriptor_ >= 0) ::close(descriptor_);
}

TemporaryFolder::TemporaryFolder(const std::string& path, const std::string& purpose) {
  std::error_code error;
  std::filesystem::create_directories(parent_of(path), error);
  if (error)
    throw MachineError(fmt::format("cannot make {}: {}", parent_of(path), error.message()));
  remove_orphans(path, purpose);
  for (;;) {
    path_ = temporary_name(path, purpose);
    if (::mkdir(path_.c_str(), 0777) != 0) {
      if (errno == EEXIST) continue;
      throw MachineError(fmt::format("cannot make {}: {}", path_, errno_text(errno)));
    }
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) continue;
    (void)::flock(descriptor_, LOCK_EX);
    if (is_still(path_, descriptor_)) return;
    ::close(descriptor_);
  }
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  ::close(descriptor_);
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
  // A device or pipe knows no fsync.
  if (::fsync(descriptor_) != 0 && !temporary_.empty()) fail("cannot write");
  const Descriptor lock{::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0)};  // holds it until the end
  const int descriptor = descriptor_;
  descriptor_ = -1;
  if (::close(descriptor) != 0)
    fail("cannot write");  // network file systems report a full disk here
  if (temporary_.empty()) return;
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
  if (in_place()) ::unlink(file_.c_str());
  ::close(descriptor_);
}

bool FileLock::in_place() const {
  return descriptor_ < 0 || is_still(file_, descriptor_);
}

std::string FileLock::current_file() const {
  if (in_place()) return file_;
  std::error_code error;
  const std::string now =
      std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", descriptor_), error).string();
  return !error && is_still(now, descriptor_) ? now : "";
}

OpenFile::OpenFile(std::string file) : file_(std::move(file)), descriptor_(open_to_read(file_)) {
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor_);
    throw UserError(fmt::format("cannot read {}: not a regular file", file_));
  }
  bytes_ = size_t(info.st_size);
  changed_seconds_ = info.st_mtim.tv_sec;
  changed_nanoseconds_ = info.st_mtim.tv_nsec;
}
OpenFile::~OpenFile() {
  ::close(descriptor_);
}

void OpenFile::read(size_t offset, void* data, size_t bytes) const {
  char* next = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t got = ::pread(descriptor_, next, bytes, off_t(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_to_read(file_);
    if (got == 0)
      throw DataError(
          fmt::format("{} was cut short while it was in use: it had {} bytes when it was opened, "
                      "and ends before byte {} now",
                      file_, bytes_, offset + bytes));
    next += got;
    offset += size_t(got);
    bytes -= size_t(got);
  }
}

bool OpenFile::unchanged() const {
  struct stat info {};
  return ::fstat(descriptor_, &info) == 0 && size_t(info.st_size) == bytes_ &&
         info.st_mtim.tv_sec == changed_seconds_ && info.st_mtim.tv_nsec == changed_nanoseconds_;
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

std::shared_ptr<Storage> map_zeros(size_t bytes) {
  const size_t mapped = std::max<size_t>(bytes, 1);  // mmap refuses an empty range
  void* data =
      ::mmap(nullptr, mapped, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED)
    throw MachineError(fmt::format("out of addresses: wanted {} bytes", bytes));
  return std::make_shared<Storage>(data, bytes, Device{},
                                   [data, mapped] { ::munmap(data, mapped); });
}

void allow_private_writes(const Storage& mapping) {
  // Mapped files begin at a page; where memory may be written already, this changes nothing.
  if (mapping.bytes() > 0 && reinterpret_cast<uintptr_t>(mapping.data()) % 4096 == 0)
    ::mprotect(mapping.data(), mapping.bytes(), PROT_READ | PROT_WRITE);
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
