#include "trainers/runs/run_directory.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "trainers/runs/stored_run.h"

namespace reverie {

Config read_stored_json(const std::string& file) {
  const std::string text = read_file(file);
  try {
    return Config::parse(text, file);
  } catch (const ConfigError& e) {
    throw DataError(fmt::format(
        "{}. The file was written by reverie and is damaged: bring it back from a copy", e.what()));
  }
}

bool is_run_directory(const std::string& directory) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(file_in(directory, kConfigFile), ignored);
}
bool run_finished(const std::string& directory) {
  return std::filesystem::exists(file_in(directory, kSummaryFile));
}
Json read_summary(const std::string& directory) {
  Json summary = read_stored_json(file_in(directory, kSummaryFile)).json();
  if (const Verdict kept = kept_leak(directory); kept.leaks()) {
    Verdict all = Verdict::of_file(summary);
    all.merge(kept);
    summary["causal"] = false;
    summary["label"] = all.label();
    summary["verdict"] = all.json();
  }
  return summary;
}

Verdict kept_leak(const std::string& run_directory) {
  Verdict verdict;
  if (const std::string file = file_in(run_directory, kLeakFile); std::filesystem::exists(file))
    verdict = Verdict::of_file(read_stored_json(file).json());
  if (is_run_directory(run_directory)) {
    const Json config = read_stored_json(file_in(run_directory, kConfigFile)).json();
    if (config.contains("model")) verdict.merge(verdict_of_base(config["model"]));
  }
  return verdict;
}
void keep_leak(const std::string& run_directory, const Verdict& verdict) {
  if (!verdict.leaks()) return;
  Verdict all = kept_leak(run_directory);
  all.merge(verdict);
  write_file_atomically(file_in(run_directory, kLeakFile),
                        json_text(Json{{"label", all.label()}, {"verdict", all.json()}}, 2) + "\n");
}

void RunDirectory::lock() {
  if (lock_) return;
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error)
    throw MachineError(fmt::format("cannot make the run directory {}: {}", path_, error.message()));
  try {
    lock_ = std::make_unique<FileLock>(file(kLockFile), "run directory " + path_);
  } catch (const UserError& e) {
    throw UserError(fmt::format(
        "{}: both would write the same checkpoints. Wait for it, stop it, or give another "
        "--run-dir",
        e.what()));
  }
}

void RunDirectory::lock_on_trial() {
  if (lock_) return;
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::vector<std::string> missing;
  for (fs::path at = fs::absolute(path_).lexically_normal(); !fs::exists(at, ignored);
       at = at.parent_path()) {
    if (at.has_filename()) missing.push_back(at.string());
    if (at == at.parent_path()) break;
  }
  lock();
  made_ = std::move(missing);
}

RunDirectory::~RunDirectory() {
  if (made_.empty() || !lock_) return;
  std::error_code ignored;
  std::filesystem::remove(file(kLockFile), ignored);
  // Nothing is removed that holds anything.
  for (const std::string& directory : made_)
    if (!std::filesystem::is_empty(directory, ignored) ||
        !std::filesystem::remove(directory, ignored))
      break;
}

bool RunDirectory::follow() {
  const std::string now = lock_->current_file();
  if (now.empty()) return false;
  path_ = std::filesystem::path(now).parent_path().string();
  left_ = true;
  return true;
}

void RunDirectory::write(const std::string& name, const Json& object) const {
  write_file_atomically(file(name), json_text(object, 2) + "\n");
}

}  // namespace reverie
