#pragma once
/// A published model on benchmarks: plainly, by chain of thought, and with the latents of runs beside
/// it. Each measurement is a file, so that a table which was stopped goes on.

#include <map>
#include <string>
#include <vector>

#include "datasets/benchmarks/items.h"
#include "trainers/tables/benchmarks/benchmark_table.h"
#include "trainers/tables/benchmarks/benchmark_table_definition.h"

namespace reverie {

/// The rows of a published model: "base", "zero_shot" and "few_shot" are the model itself.
inline constexpr const char *kAskedBase = "base", *kAskedZeroShot = "zero_shot",
                            *kAskedFewShot = "few_shot";

class AskedBenchmarks {
 public:
  /// Measurements lie in `directory`/asked; `shuffled`: models whose latents are shuffled, too;
  /// `device`: where the published model is asked, "cpu" or "cuda" (runs are asked on their own).
  AskedBenchmarks(const AskedModel& asked, const BenchmarkMeasureOptions& measure,
                  const std::vector<std::string>& shuffled, const std::string& directory,
                  const std::string& device)
      : asked_(asked),
        measure_(measure),
        shuffled_(shuffled),
        directory_(directory),
        device_(device) {}

  /// Measures what is missing. Rows whose items are not here are left out, and one warning names
  /// their files before anything is measured; UserError where that is all there is to measure and
  /// nothing was measured before. Another warning where a model that the definition names has no
  /// finished run: which command makes it. ConfigError for a device that is not usable here, and for
  /// latents that are to be made anew in answers where no task has any.
  void measure() const;
  /// What would be measured, were its items here.
  std::vector<BenchmarkGap> gaps() const;
  /// Models that the definition names and that have no finished run.
  std::vector<MissingRuns> missing_runs() const;
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
    int64_t latents_every = 0;
  };
  /// A row on one of its tasks.
  struct Question {
    Row row;
    std::string task, definition;
  };
  using MissingByDefinition = std::map<std::string, std::vector<MissingData>>;
  std::vector<Row> rows() const;
  std::vector<Row> rows_of_runs() const;
  void require_written_answers() const;
  static BenchmarkCell cell_of(const Row& row, const std::string& task);
  /// "" where the task is not asked in this way.
  static std::string definition_of(const AskedTask& task, const Row& row);
  std::string file_of(const Row& row, const std::string& task) const;
  Json wanted(const Row& row, const std::string& definition) const;
  /// The answers in the file of a row and task, where they are of these weights and items; else
  /// null.
  Json kept(const Row& row, const std::string& task, const std::string& definition) const;
  std::vector<Question> unmeasured() const;
  static MissingByDefinition missing_of(const std::vector<Question>& questions);
  void tell_missing(const std::vector<Question>& questions,
                    const MissingByDefinition& missing) const;
  void measure(const Row& row, const MissingByDefinition& missing) const;

  const AskedModel& asked_;
  const BenchmarkMeasureOptions& measure_;
  const std::vector<std::string>& shuffled_;
  std::string directory_, device_;
};

}  // namespace reverie
