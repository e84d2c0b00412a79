#include "trainers/tables/explained/explained_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace reverie {
namespace {

// The figures of one memory over the seeds of a cell.
ExplainedRow make_row(const std::vector<const ExplainedRun*>& runs, const TableModel& model,
                      const std::string& memory) {
  const ExplainedRun& first = *runs[0];
  ExplainedRow row;
  row.model = model.name;
  row.title = model.title;
  row.use = first.use;
  row.reads = first.reads;
  row.memory = memory;
  row.facts = first.measured.facts;
  row.records = first.measured.records();
  row.pieces = first.measured.pieces;
  std::vector<double> exact, right, whole, loss;
  for (const ExplainedRun* run : runs) {
    const WrittenMeasurement& m = run->measured;
    require(m.words == first.measured.words && m.pieces == row.pieces,
            "{} was measured on other records than {}: their figures cannot stand in one row",
            run->directory, first.directory);
    const WrittenFigures& f = *m.find(memory);
    const auto words = double(m.all_words());
    exact.push_back(double(f.exact) / double(m.pieces));
    right.push_back(double(f.right) / words);
    whole.push_back(double(f.whole) / double(m.records()));
    double sum = 0;
    row.losses.resize(f.losses.size(), 0);
    for (size_t i = 0; i < f.losses.size(); ++i) {
      row.losses[i] += f.losses[i] / double(runs.size());
      sum += f.losses[i];
    }
    loss.push_back(sum / words);
    row.verdict.merge(run->verdict);
  }
  row.exact = statistic(exact);
  row.right = statistic(right);
  row.whole = statistic(whole);
  row.loss = statistic(loss);
  row.seeds = int64_t(runs.size());
  return row;
}

std::string sentence_of(const ExplainedFinding& f, const ExplainedRow& own,
                        const std::vector<const ExplainedRow*>& others) {
  const std::string subject = fmt::format("{}, {}: ", own.use, own.title);
  std::string out = subject;
  switch (f.holds) {
    case ExplainedFinding::Holds::unknown:
      return subject + "not known yet whether the memory holds anything that the controls do not.";
    case ExplainedFinding::Holds::nothing:
      out += "the memory holds nothing that the controls do not.";
      break;
    case ExplainedFinding::Holds::something:
      out +=
          "the memory holds something of its own text, but nothing that the final hidden state "
          "does "
          "not hold as well.";
      break;
    case ExplainedFinding::Holds::more_than_final_state:
      out += "the memory holds something that no control does.";
      break;
  }
  out += fmt::format(" From it {} of the {} are written exactly", percent_text(own.exact),
                     own.facts ? "facts" : "words");
  for (const ExplainedRow* row : others)
    out += fmt::format(
        "; {} {}",
        row->model == own.model
            ? fmt::format("with {}", row->memory == "wiped" ? "a wiped one" : "another text's")
            : row->title + ":",
        percent_text(row->exact));
  out += ". Change of the loss in nats a word, 95 % over records:";
  for (const auto& c : f.controls)
    out += fmt::format("{} {} {}", &c == f.controls.data() ? "" : ",", c.name, c.change.text());
  return out + ".";
}

// Whether replacing the memory raises the loss, control by control.
ExplainedFinding find_out(const ExplainedTable& table, const ExplainedRow& own,
                          const WrittenMeasurement& records) {
  ExplainedFinding f;
  f.model = own.model;
  f.use = own.use;
  std::vector<const ExplainedRow*> others;
  bool all_rise = true, has_nothing = false;
  std::optional<bool> beyond_final;
  for (const ExplainedRow* row : table.of_use(own.use)) {
    const bool other_memory = row->model == own.model && row->memory != "own",
               other_decoder = row->reads != "memory" && row->memory == "own";
    if (!other_memory && !other_decoder) continue;
    others.push_back(row);
    f.controls.push_back({other_memory ? row->memory : row->title,
                          change_of_losses(records, own.losses, row->losses)});
    const bool rises = f.controls.back().change.rises();
    if (row->reads == "final_state") {
      beyond_final = rises;
    } else {
      all_rise = all_rise && rises;
      has_nothing = has_nothing || row->reads == "nothing";
    }
  }
  using Holds = ExplainedFinding::Holds;
  if (!has_nothing || !beyond_final)
    f.holds = Holds::unknown;
  else if (!all_rise)
    f.holds = Holds::nothing;
  else
    f.holds = *beyond_final ? Holds::more_than_final_state : Holds::something;
  f.sentence = sentence_of(f, own, others);
  return f;
}

}  // namespace

double ExplainedRow::perplexity() const {
  return std::exp(loss.mean);
}

std::vector<const ExplainedRow*> ExplainedTable::of_use(const std::string& use) const {
  std::vector<const ExplainedRow*> out;
  for (const ExplainedRow& row : rows)
    if (row.use == use) out.push_back(&row);
  return out;
}

ExplainedTable build_explained_table(const TableReport& report, const TableHeading& heading,
                                     const std::vector<std::string>& uses,
                                     const std::vector<ExplainedRun>& runs, Provenance provenance) {
  ExplainedTable table;
  table.title = heading.title;
  table.citation = report.citation;
  table.notes = report.notes;
  table.models = report.table_models();
  table.planned_runs = heading.planned_runs;
  table.finished_runs = int64_t(runs.size());
  table.provenance = std::move(provenance);
  table.provenance.preset = heading.preset;
  table.provenance.command = heading.command;
  for (const ExplainedRun& run : runs) {
    if (std::none_of(table.models.begin(), table.models.end(),
                     [&](const TableModel& m) { return m.name == run.model; }))
      table.models.push_back({run.model, run.model, ""});
    table.provenance.add_run_of_part(run.summary, run.directory, run.use);
  }
  for (const std::string& use : uses) {
    const ExplainedRun* first = nullptr;
    for (const TableModel& model : table.models) {
      std::vector<const ExplainedRun*> cell;
      for (const ExplainedRun& run : runs) {
        if (run.model != model.name || run.use != use) continue;
        for (const ExplainedRun* before : cell)
          require(before->seed != run.seed, "two runs of {} on {} have seed {}; the second is {}",
                  run.model, use, run.seed, run.directory);
        cell.push_back(&run);
      }
      if (cell.empty()) continue;
      if (!first) first = cell[0];
      require(cell[0]->measured.words == first->measured.words,
              "{} was measured on other records than {}: they cannot be compared",
              cell[0]->directory, first->directory);
      for (const WrittenFigures& f : cell[0]->measured.memories)
        table.rows.push_back(make_row(cell, model, f.memory));
    }
    if (!first) continue;
    table.uses.push_back(use);
    for (const ExplainedRow* row : table.of_use(use))
      if (row->reads == "memory" && row->memory == "own")
        table.findings.push_back(find_out(table, *row, first->measured));
  }
  return table;
}

}  // namespace reverie
