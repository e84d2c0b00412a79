#pragma once
/// Results of an evaluation, item by item in a file, so that one that was killed goes on.

#include <map>
#include <memory>
#include <string>

#include "core/config.h"
#include "core/files.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// JSON lines: the key, then an object for each item (its place, and what was found), and verdicts.
/// A line that a kill cut off is dropped.
class ResultsFile {
 public:
  /// Opens FOLDER/HASH.jsonl, where HASH is that of `key`, and reads what is there. Nothing is kept
  /// where `folder` is empty. UserError where another process holds it; MachineError where the
  /// folder cannot be written.
  ResultsFile(const std::string& folder, const Json& key);
  ~ResultsFile();
  ResultsFile(const ResultsFile&) = delete;
  ResultsFile& operator=(const ResultsFile&) = delete;

  /// Results by item: those of earlier calls, and those that add() added.
  const std::map<size_t, Json>& results() const { return results_; }
  const Verdict& verdict() const { return verdict_; }
  void add(size_t item, const Json& result);
  void add(const Verdict& verdict);
  /// Hands what was added to the operating system: a killed process loses nothing of it.
  void flush();
  void remove();  ///< the evaluation has ended: nothing is left of it

 private:
  void read(const Json& key);
  void append(const Json& line);

  std::string file_, pending_;
  std::unique_ptr<FileLock> lock_;
  int descriptor_ = -1;
  std::map<size_t, Json> results_;
  Verdict verdict_;
};

}  // namespace reverie
