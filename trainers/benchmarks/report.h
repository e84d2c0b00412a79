#pragma once
/// A benchmark's result as JSON, as text and as a log of every item; and two logs compared.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainers/benchmarks/benchmark.h"

namespace reverie {

/// The evaluation that a report describes.
struct BenchmarkReport {
  const DefinitionFile& task;
  const BenchmarkItems& items;
  const BenchmarkResult& result;
  std::string model;          ///< as people know it
  bool latents = false;       ///< its latents stood behind every context
  bool augmented = false;     ///< it makes latents
  bool other_data = false;    ///< the items are not the task's own file
  int64_t latents_every = 0;  ///< they were made anew after so many tokens of an answer; 0: once
};

/// Another evaluation of the same items, as its sample log holds it.
struct OtherResult {
  std::string model, log;
  Verdict verdict;
  std::map<int64_t, Json> measures;  ///< by item
};
/// `log`: a file that sample_log() made. ConfigError where it is of another task, other data, other
/// items or other solved examples.
OtherResult read_sample_log(const std::string& log, const DefinitionFile& task,
                            const BenchmarkItems& items);

/// Two results on the same items.
struct Comparison {
  std::string model, log;
  Verdict verdict;  ///< the other model's
  struct Line {
    std::string measure;
    double mine = 0, its = 0;
    PairedDifference difference;
  };
  std::vector<Line> lines;
};
/// Compares every measure that is 0 or 1. ConfigError where the other lacks one.
Comparison compared(const BenchmarkReport& report, const OtherResult& other);

Json report_json(const BenchmarkReport& report, const std::optional<Comparison>& against);
/// Without the verdict's own line. Every figure carries the verdict's mark.
std::string report_text(const BenchmarkReport& report, const std::optional<Comparison>& against);

/// JSON lines: first what was evaluated, then each item with its requests, scores and measures.
std::string sample_log(const BenchmarkReport& report);

}  // namespace reverie
