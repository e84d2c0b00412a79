#pragma once
/// A run directory: the names of its files, what is asked of it, and the lock of the run inside.

#include <memory>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/files.h"
#include "trainers/runs/verdict.h"

namespace reverie {

inline constexpr const char* kConfigFile = "config.resolved.json";
inline constexpr const char* kSummaryFile = "summary.json";
inline constexpr const char* kLockFile = "run.lock";
inline constexpr const char* kLeakFile = "leak.json";
inline std::string file_in(const std::string& directory, const std::string& file) {
  return directory + "/" + file;
}

/// A JSON file that an earlier command wrote. DataError where it is damaged.
Config read_stored_json(const std::string& file);

bool is_run_directory(const std::string& directory);  ///< config.resolved.json is there
bool run_finished(const std::string& run_directory);  ///< summary.json is there
/// summary.json, with the leak that was found after it was written, where there is one.
Json read_summary(const std::string& run_directory);

/// Keeps a verdict that leaks in leak.json, beside those that were kept before: whatever ends the
/// process afterwards, it stays. Nothing where it does not leak.
void keep_leak(const std::string& run_directory, const Verdict& verdict);
/// What was kept, and what is known of the run beside whose frozen weights this one stands.
Verdict kept_leak(const std::string& run_directory);

/// The directory of a run that trains. Ranks other than the first know its path alone.
class RunDirectory {
 public:
  explicit RunDirectory(std::string path) : path_(std::move(path)) {}
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return file_in(path_, name); }

  /// Makes the directory where needed; does nothing where it is locked. From here on no other process
  /// may train in it, until unlock() or the end of this one. MachineError when the machine refuses;
  /// UserError when another process trains there.
  void lock();
  /// The same for a run that may still be refused: without keep(), a directory that this made is
  /// removed again when the object goes.
  void lock_on_trial();
  void keep() { made_.clear(); }
  void unlock() { lock_.reset(); }

  class UnlockAtEnd {
   public:
    explicit UnlockAtEnd(RunDirectory& directory) : directory_(directory) {}
    ~UnlockAtEnd() { directory_.unlock(); }
    UnlockAtEnd(const UnlockAtEnd&) = delete;
    UnlockAtEnd& operator=(const UnlockAtEnd&) = delete;

   private:
    RunDirectory& directory_;
  };

  /// Whether it is still where lock() found it; without a lock, nobody asks.
  bool in_place() const { return !lock_ || left_ || lock_->in_place(); }
  /// After it was moved: path() is where it lies now, and nobody asks any more. False where it was
  /// removed.
  bool follow();

  /// Replaces a file by this object, atomically.
  void write(const std::string& name, const Json& object) const;

 private:
  std::string path_;
  std::unique_ptr<FileLock> lock_;
  /// On trial: directories to be removed again, the innermost first.
  std::vector<std::string> made_;
  bool left_ = false;  ///< it was moved, and path_ follows
};

}  // namespace reverie
