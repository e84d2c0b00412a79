#pragma once
/// The table of answers by stage: what finished runs answered, taken together over seeds.

#include <string>
#include <vector>

#include "trainers/generation/answer_accuracy.h"
#include "trainers/reports/provenance.h"
#include "trainers/runs/verdict.h"
#include "trainers/tables/definition.h"

namespace reverie {

struct ReasoningRun {
  std::string model;  ///< "": the run of stage 0, from which all models begin
  int64_t stage = 0, seed = 0;
  Json summary;
  std::string directory;
  AnswerAccuracy held_out, train;
};

struct ReasoningLine {
  std::string model, title;
  int64_t stage = 0;
  std::vector<int64_t> seeds;
  AnswerAccuracy held_out, train;  ///< of all seeds together
  Verdict verdict;                 ///< of all its runs
};

struct ReasoningTable {
  std::string title, citation;
  std::vector<std::string> notes;
  std::vector<TableModel> models;
  std::vector<ReasoningLine> lines;  ///< stage 0 first, then by model and stage
  int64_t finished_runs = 0, planned_runs = 0;
  Provenance provenance;
};

/// UserError for runs of different texts.
ReasoningTable build_reasoning_table(const TableReport& report, const TableHeading& heading,
                                     const std::vector<ReasoningRun>& runs,
                                     Provenance provenance = {});
/// Rows {"model", "stage", "seeds", "measured": {"held_out": {"accuracy", "right", "of",
/// "tokens_written"}, "train": ..}, "verdict"}; "model" null: stage 0; with "label" where it leaks.
Json reasoning_table_json(const ReasoningTable& table);
std::string reasoning_table_markdown(const ReasoningTable& table);

}  // namespace reverie
