#pragma once
#include <filesystem>
#include <string>

namespace reverie::testing {

// The working directory while it is alive: prepared data go into data/ there.
class WorkingFolder {
 public:
  explicit WorkingFolder(const std::string& directory) : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(directory);
  }
  ~WorkingFolder() { std::filesystem::current_path(before_); }
  WorkingFolder(const WorkingFolder&) = delete;
  WorkingFolder& operator=(const WorkingFolder&) = delete;

 private:
  std::filesystem::path before_;
};

}  // namespace reverie::testing
