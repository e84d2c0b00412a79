#include "trainers/benchmarks/results_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace reverie {

namespace fs = std::filesystem;

ResultsFile::ResultsFile(const std::string& folder, const Json& key) {
  if (folder.empty()) return;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error)
    throw MachineError(
        fmt::format("cannot make {}, where results are kept: {}", folder, error.message()));
  const std::string text = json_text(key);
  file_ = (fs::path(folder) / (hash_bytes(text.data(), text.size()) + ".jsonl")).string();
  lock_ = std::make_unique<FileLock>(file_ + ".lock", "this evaluation");
  read(key);
}

ResultsFile::~ResultsFile() {
  if (descriptor_ < 0) return;
  try {
    flush();
  } catch (const std::exception&) {  // what is lost is computed again
  }
  ::close(descriptor_);
}

void ResultsFile::read(const Json& key) {
  const std::string text = fs::exists(file_) ? read_file(file_) : "";
  size_t whole = 0;
  bool known = false;
  for (size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    const Json line = parse_json_or_discard(std::string_view(text).substr(at, end - at));
    if (line.is_discarded() || !line.is_object()) break;
    if (at == 0 && !(line.contains("key") && line.at("key") == key)) break;
    known = true;
    whole = end + 1;
    if (line.contains("item") && line.at("item").is_number_unsigned())
      results_[line.at("item").get<size_t>()] = line.value("result", Json());
    else if (line.contains("verdict"))
      verdict_.merge(Verdict::from_json(line.at("verdict")));
  }
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor_ < 0 || ::ftruncate(descriptor_, off_t(whole)) != 0 ||
      ::lseek(descriptor_, 0, SEEK_END) < 0)
    throw MachineError(fmt::format("cannot write {}: {}", file_, std::strerror(errno)));
  if (!known) append({{"key", key}});
  flush();
}

void ResultsFile::append(const Json& line) {
  if (descriptor_ >= 0) pending_ += json_text_replacing(line) + "\n";
}

void ResultsFile::add(size_t item, const Json& result) {
  results_[item] = result;
  append({{"item", item}, {"result", result}});
}

void ResultsFile::add(const Verdict& verdict) {
  verdict_.merge(verdict);
  append({{"verdict", verdict.json()}});
}

void ResultsFile::flush() {
  for (size_t at = 0; at < pending_.size();) {
    const ssize_t wrote = ::write(descriptor_, pending_.data() + at, pending_.size() - at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0)
      throw MachineError(fmt::format("cannot write {}: {}", file_, std::strerror(errno)));
    at += size_t(wrote);
  }
  pending_.clear();
}

void ResultsFile::remove() {
  if (file_.empty()) return;
  pending_.clear();
  std::error_code ignored;
  fs::remove(file_, ignored);
  lock_.reset();
  fs::remove(file_ + ".lock", ignored);
}

}  // namespace reverie
