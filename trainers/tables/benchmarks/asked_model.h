#pragma once
/// A published model on benchmarks: plainly, by chain of thought, and with the latents of runs beside
/// it. Each measurement is a file, so that a table which was stopped goes on.

#include <string>
#include <vector>

#include "trainers/tables/benchmarks/benchmark_table.h"
#include "trainers/tables/benchmarks/benchmark_table_definition.h"

namespace reverie {

/// The rows of a published model: "base", "zero_shot" and "few_shot" are the model itself.
inline constexpr const char *kAskedBase = "base", *kAskedZeroShot = "zero_shot",
                            *kAskedFewShot = "few_shot";

class AskedBenchmarks {
 public:
  /// Measurements lie in `directory`/asked; `shuffled`: models whose latents are shuffled, too.
  AskedBenchmarks(const AskedModel& asked, const BenchmarkMeasureOptions& measure,
                  const std::vector<std::string>& shuffled, const std::string& directory)
      : asked_(asked), measure_(measure), shuffled_(shuffled), directory_(directory) {}

  /// Measures what is missing. UserError where the runs that the definition names are not there: which
  /// command makes them.
  void measure() const;
  /// What is there.
  std::vector<BenchmarkRun> finished() const;
  /// How many there will be.
  int64_t planned() const;
  /// What will be measured, as text.
  std::string plan() const;

 private:
  struct Row {
    std::string model, path;  ///< path: of the published model, or a run
    int64_t latents = 0;
    std::optional<int64_t> seed = {};
    bool augmented = false, shuffled = false;
  };
  std::vector<Row> rows() const;
  std::vector<Row> rows_of_runs() const;
  static const std::string& definition_of(const AskedTask& task, const Row& row);
  std::string file_of(const Row& row, const std::string& task) const;
  Json wanted(const Row& row, const std::string& definition) const;
  void measure(const Row& row) const;

  const AskedModel& asked_;
  const BenchmarkMeasureOptions& measure_;
  const std::vector<std::string>& shuffled_;
  std::string directory_;
};

}  // namespace reverie
