// A table as JSON, as Markdown, and in sentences.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "trainers/reports/markdown.h"
#include "trainers/tables/losses/loss_table.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

Json statistic_json(const Statistic& s) {
  return {{"mean", number_or_null(s.mean)}, {"sd", s.sd ? Json(*s.sd) : Json()}, {"n", s.n}};
}

const LossColumn& column_named(const std::string& name) {
  for (const LossColumn& column : loss_columns())
    if (name == column.name) return column;
  throw InternalError(fmt::format("table has no column \"{}\"", name));
}

// "a; b; and c": titles may hold commas.
std::string enumerate(const std::vector<std::string>& items) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i)
    out += (i == 0                 ? ""
            : i + 1 < items.size() ? "; "
            : items.size() > 2     ? "; and "
                                   : " and ") +
           items[i];
  return out;
}

std::string labelled_title(const LossRow& row) {
  return row.label().empty() ? row.title : row.title + " (" + row.label() + ")";
}

// The leak that deceives most: where the training loss is farthest below what a forward over the
// prefix scores.
const LossRow* worst_leak(const LossTable& table) {
  const LossRow* worst = nullptr;
  double widest = -INFINITY;
  for (const LossRow& row : table.rows) {
    const double gap = row.val_loss_prefix_only.mean - row.train_loss.mean;
    if (!row.causal && (!worst || gap > widest)) {
      worst = &row;
      widest = std::isnan(gap) ? -INFINITY : gap;
    }
  }
  return worst;
}

const LossRow* baseline(const LossTable& table, int64_t block_size) {
  for (const TableModel& model : table.models)
    if (const LossRow* row = table.find(model.name, block_size); row && row->causal) return row;
  return nullptr;
}

// Where a forward over the prefix leaves the leaking model.
std::string against_guessing(const LossTable& table, const LossRow& leak) {
  const LossRow* base = baseline(table, leak.block_size);
  const double prefix_only = leak.val_loss_prefix_only.mean;
  const auto uniform = table.uniform_loss();
  if (uniform && prefix_only > *uniform) return ", worse than guessing uniformly";
  if (base && prefix_only > base->val_loss_prefix_only.mean) return ", worse than " + base->title;
  return "";
}

std::string explain_leak(const LossTable& table, const LossRow& leak) {
  const LossRow* base = baseline(table, leak.block_size);
  const double prefix_only = leak.val_loss_prefix_only.mean;
  std::string out =
      fmt::format("At block size {}, {} reaches a training loss of {}", leak.block_size,
                  labelled_title(leak), format_loss(leak.train_loss.mean));
  if (base)
    out += fmt::format(" where {} reaches {}", base->title, format_loss(base->train_loss.mean));
  if (std::isfinite(prefix_only))
    out += fmt::format(
        ", but a forward that sees only the prefix, as generation does, scores {} on validation "
        "text{}",
        format_loss(prefix_only), against_guessing(table, leak));
  return out + ".";
}

std::string detail_leak(const LossTable& table, const LossRow& leak) {
  std::string out =
      fmt::format("Changing only later tokens moves earlier logits of {} by up to {}.",
                  labelled_title(leak), format_change(leak.max_future_logit_change));
  if (const LossRow* base = baseline(table, leak.block_size))
    out += fmt::format(" {} scores {} from prefixes alone.", base->title,
                       format_loss(base->val_loss_prefix_only.mean));
  if (const auto uniform = table.uniform_loss())
    out += fmt::format(" Guessing uniformly scores ln {} = {}.", *table.vocabulary_size,
                       format_loss(*uniform));
  return out;
}

std::string explain_causal(const LossTable& table, int64_t block_size) {
  const LossRow* base = baseline(table, block_size);
  if (!base) return "No model here is causal.";
  std::vector<std::string> losses{
      fmt::format("{} for {}", format_loss(base->val_loss.mean), base->title)};
  for (const LossRow& row : table.rows)
    if (row.block_size == block_size && row.causal && &row != base)
      losses.push_back(fmt::format("{} for {} ({:+.3f})", format_loss(row.val_loss.mean), row.title,
                                   row.val_loss.mean - base->val_loss.mean));
  return fmt::format(
      "Among the models that cannot see the future, validation loss at block size {} is {}.",
      block_size, enumerate(losses));
}

}  // namespace

const std::vector<LossColumn>& loss_columns() {
  static const std::vector<LossColumn> columns{
      {"block_size", "block size", true},
      {"model", "model", false},
      {"paper_train_loss", "paper: train", true},
      {"train_loss", "train", true},
      {"val_loss", "val, teacher-forced", true},
      {"val_loss_prefix_only", "val, prefix-only", true},
      {"val_loss_carried", "val, memory carried", true},
      {"val_loss_on_carried_windows", "val, memory reset", true},
      {"max_future_logit_change", "largest future logit change", true},
      {"verdict", "verdict", false},
      {"parameters", "parameters", true},
      {"seeds", "seeds", true}};
  return columns;
}

LossCell loss_cell(const LossRow& row, const std::string& column) {
  if (column == "block_size") return {fmt::format("{}", row.block_size)};
  if (column == "model") return {row.title};
  if (column == "paper_train_loss")
    return {row.paper.is_null() ? kUnknown
                                : fmt::format("{:.2f}", row.paper.at("train_loss").get<double>())};
  if (column == "train_loss") return {format_statistic(row.train_loss), true};
  if (column == "val_loss") return {format_statistic(row.val_loss), true};
  if (column == "val_loss_prefix_only") return {format_statistic(row.val_loss_prefix_only), true};
  const auto carried = [&](const Statistic& loss) {
    return loss.n > 0 ? LossCell{format_statistic(loss), true} : LossCell{kUnknown};
  };
  if (column == "val_loss_carried") return carried(row.val_loss_carried);
  if (column == "val_loss_on_carried_windows") return carried(row.val_loss_on_carried_windows);
  if (column == "max_future_logit_change")
    return {format_change(row.max_future_logit_change), true};
  if (column == "verdict")
    return {!row.causal ? row.label() : row.shrunk.empty() ? "causal" : "causal, " + row.shrunk};
  if (column == "parameters") return {format_integer(row.parameters)};
  if (column == "seeds") return {fmt::format("{}", row.seeds.size())};
  throw InternalError(fmt::format("table has no column \"{}\"", column));
}

std::string explain_losses(const LossTable& table) {
  if (table.rows.empty()) return "No run has finished yet.";
  if (const LossRow* leak = worst_leak(table)) return explain_leak(table, *leak);
  double change = 0;
  for (const LossRow& row : table.rows)
    if (std::isnan(row.max_future_logit_change) || row.max_future_logit_change > change)
      change = row.max_future_logit_change;
  return fmt::format(
      "None of these models sees the future: changing later tokens moves no earlier logit by more "
      "than {}.",
      format_change(change));
}

std::string detail_losses(const LossTable& table) {
  if (table.rows.empty()) return "";
  const LossRow* leak = worst_leak(table);
  const int64_t block_size = leak ? leak->block_size : table.rows[0].block_size;
  return (leak ? detail_leak(table, *leak) + " " : "") + explain_causal(table, block_size);
}

std::string explain_carried(const LossTable& table) {
  if (std::find(table.columns.begin(), table.columns.end(), "val_loss_carried") ==
      table.columns.end())
    return "";
  return "Memory carried: validation texts read in consecutive windows, each from the memory that "
         "the window before left; memory reset: the same windows, each from a clean memory.";
}

Json loss_table_json(const LossTable& table) {
  Json rows = Json::array();
  for (const LossRow& row : table.rows) {
    Json out = {{"model", row.model},
                {"title", row.title},
                {"block_size", row.block_size},
                {"paper", row.paper},
                {"measured",
                 {{"train_loss", statistic_json(row.train_loss)},
                  {"val_loss", statistic_json(row.val_loss)},
                  {"val_loss_prefix_only", statistic_json(row.val_loss_prefix_only)}}},
                {"causal", row.causal}};
    if (row.val_loss_carried.n > 0) {
      out["measured"]["val_loss_carried"] = statistic_json(row.val_loss_carried);
      out["measured"]["val_loss_on_carried_windows"] =
          statistic_json(row.val_loss_on_carried_windows);
    }
    if (!row.label().empty()) out["label"] = row.label();
    out["max_future_logit_change"] = number_or_null(row.max_future_logit_change);
    out["parameters"] = row.parameters;
    out["seeds"] = row.seeds;
    rows.push_back(std::move(out));
  }
  const auto uniform = table.uniform_loss();
  return {{"title", table.title},
          {"citation", table.citation},
          {"rows", std::move(rows)},
          {"explanation", explain_losses(table) + " " + detail_losses(table)},
          {"notes", table.notes},
          {"finished_runs", table.finished_runs},
          {"planned_runs", table.planned_runs ? Json(table.planned_runs) : Json()},
          {"vocabulary_size", table.vocabulary_size ? Json(*table.vocabulary_size) : Json()},
          {"uniform_loss", uniform ? Json(*uniform) : Json()},
          {"provenance", provenance_json(table.provenance)}};
}

std::string loss_table_markdown(const LossTable& table, const std::vector<PlotFile>& plots) {
  std::string out = "# " + escape_markdown(title_of_table(table.title, table.provenance.preset)) +
                    "\n\n" + escape_markdown(explain_losses(table)) + "\n\n";
  if (!table.provenance.dataset_note.empty())
    out += "**Data: " + escape_markdown(table.provenance.dataset_note) + "**\n\n";
  if (const std::string note = unfinished_note(table.finished_runs, table.planned_runs);
      !note.empty())
    out += "**" + note + "**\n\n";
  std::string rule = "|";
  out += "|";
  for (const std::string& name : table.columns) {
    const LossColumn& column = column_named(name);
    out += fmt::format(" {} |", column.heading);
    rule += column.numeric ? "---:|" : "---|";
  }
  out += "\n" + rule + "\n";
  for (const LossRow& row : table.rows) {
    out += "|";
    for (const std::string& name : table.columns) {
      const LossCell cell = loss_cell(row, name);
      const bool verdict = name == "verdict" && !row.causal;
      out += " " + (verdict ? "**" + cell.text + "**" : escape_markdown(cell.text));
      if (cell.labelled && !row.label().empty()) out += " " + row.label();
      out += " |";
    }
    out += "\n";
  }
  if (const std::string detail = detail_losses(table); !detail.empty())
    out += "\n" + escape_markdown(detail) + "\n";
  out +=
      "\nLosses are nats per character or token, mean \u00b1 sample standard deviation over the "
      "seeds. "
      "*Teacher-forced*: one forward over the whole block, as in training. *Prefix-only*: each "
      "position is scored by a "
      "forward over its own prefix alone, as in generation; for a causal model the two differ only "
      "by which positions were drawn. *Largest future logit "
      "change*: how far logits at earlier positions move when only later tokens change; 0 for a "
      "causal model. **" +
      std::string(kLeakLabel) +
      "**: the model saw the tokens it was asked to predict, so this number says nothing "
      "about prediction.\n";
  if (const std::string carried = explain_carried(table); !carried.empty()) out += carried + "\n";
  if (const auto uniform = table.uniform_loss())
    out += fmt::format("Uniform guessing over {} symbols scores ln {} = {}.\n",
                       *table.vocabulary_size, *table.vocabulary_size, format_loss(*uniform));
  if (!table.citation.empty()) out += "Paper: " + escape_markdown(table.citation) + "\n";
  return out + markdown_plots(plots) + markdown_notes(table.notes, table.provenance);
}

}  // namespace reverie
