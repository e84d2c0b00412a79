#pragma once
/// Where a table's numbers come from.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"
#include "core/machine.h"

namespace reverie {

struct Provenance {
  std::string command, preset;
  std::string dataset, dataset_hash,
      dataset_note;  ///< note: "shakespeare-globe: not the paper's text"
  std::string date = utc_now();
  std::string commit = build_commit();  ///< of the program that made the table
  MachineInfo machine = machine_info();
  std::vector<std::string> run_commits;  ///< of the programs that trained the runs; see add_run()
  double total_seconds = 0;              ///< of training, over all runs; see add_run()
  /// Models trained on other data than the table's, which all are measured on: name, data and hash.
  std::vector<std::pair<std::string, std::string>> other_training_data;
  /// Of a table whose parts (tasks) have data of their own; then `dataset` is empty.
  struct PartData {
    std::string part, name, hash, note;
  };
  std::vector<PartData> data_of_parts;

  /// Adds commit, time and data of a run's summary.json. UserError where its data is not
  /// that of runs before: their losses cannot stand in one table. DataError for a summary without
  /// what it must hold.
  void add_run(const Json& summary, const std::string& run_directory);
  /// The same for a run of a model that is to be trained on other data.
  void add_run_on_other_data(const Json& summary, const std::string& run_directory,
                             const std::string& model);
  /// The same for a run of one part. UserError where its data is not that of the part's runs before.
  void add_run_of_part(const Json& summary, const std::string& run_directory,
                       const std::string& part);

 private:
  void add_commit_and_time(const Json& summary, const std::string& run_directory);
};

/// The table.json form.
Json provenance_json(const Provenance&);
/// {"commit of this program", "abc"}, ...: for people, in the order to be shown.
std::vector<std::pair<std::string, std::string>> provenance_lines(const Provenance& provenance);

}  // namespace reverie
