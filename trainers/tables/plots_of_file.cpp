#include "trainers/tables/plots_of_file.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "trainers/tables/latents/latent_table.h"
#include "trainers/tables/losses/loss_report.h"
#include "trainers/tables/memories/memory_table.h"

namespace reverie {
namespace {

double number_or_nan(const Json& value) {
  return value.is_number() ? value.get<double>() : std::nan("");
}

Statistic statistic_of(const Json& json) {
  Statistic s{number_or_nan(json.at("mean")), std::nullopt, json.at("n").get<int64_t>()};
  if (json.at("sd").is_number()) s.sd = json.at("sd").get<double>();
  return s;
}

std::vector<PlotFile> loss_plots(const Json& json) {
  LossTable table;
  if (json.at("vocabulary_size").is_number_integer())
    table.vocabulary_size = json.at("vocabulary_size").get<int64_t>();
  for (const Json& row : json.at("rows")) {
    LossRow r;
    r.model = row.at("model");
    r.title = row.at("title");
    r.block_size = row.at("block_size");
    const Json& measured = row.at("measured");
    r.val_loss = statistic_of(measured.at("val_loss"));
    r.val_loss_prefix_only = statistic_of(measured.at("val_loss_prefix_only"));
    r.causal = row.at("causal");
    const bool known = std::any_of(table.models.begin(), table.models.end(),
                                   [&](const TableModel& m) { return m.name == r.model; });
    if (!known) table.models.push_back({r.model, r.title, ""});
    table.rows.push_back(std::move(r));
  }
  return loss_plot_files(table, {});
}

// One position of one line, from either form.
struct LatentCell {
  std::string model, title;
  int64_t latents = 0, position = 0;
  double change = 0, low = 0, high = 0, paper = std::nan("");
  Verdict verdict = {};
};

std::vector<PlotFile> latent_plots(const std::vector<LatentCell>& cells) {
  LatentTable table;
  for (const LatentCell& cell : cells) {
    auto line = std::find_if(table.lines.begin(), table.lines.end(), [&](const LatentLine& l) {
      return l.model == cell.model && l.latents == cell.latents;
    });
    if (line == table.lines.end()) {
      table.lines.emplace_back();
      line = std::prev(table.lines.end());
      line->model = cell.model;
      line->title = cell.title;
      line->latents = cell.latents;
      line->verdict = cell.verdict;
      table.models.push_back({cell.model, cell.title, ""});
    }
    LatentEffect::Position p;
    p.position = cell.position;
    p.change_percent = cell.change;
    p.low = cell.low;
    p.high = cell.high;
    line->effect.by_position.push_back(p);
    if (!std::isnan(cell.paper)) line->paper[cell.position] = cell.paper;
    table.base_perplexity.resize(
        std::max(table.base_perplexity.size(), line->effect.by_position.size()));
  }
  return latent_plot_files(table);
}

std::vector<LatentCell> cells_of(const Json& json) {
  std::vector<LatentCell> cells;
  for (const Json& row : json.at("rows")) {
    const Json& change = row.at("measured").at("ppl_change_percent");
    const Json& paper = row.at("paper");
    cells.push_back(
        {row.at("model"), row.at("title"), row.at("latents"), row.at("position"),
         number_or_nan(change.at("mean")), number_or_nan(change.at("low")),
         number_or_nan(change.at("high")),
         paper.is_object() ? number_or_nan(paper.at("ppl_change_percent")) : std::nan(""),
         row.contains("label") ? Verdict::of_file(row) : Verdict()});
  }
  return cells;
}

// Null where the model carries nothing.
Statistic statistic_or_none(const Json& json) {
  return json.is_null() ? Statistic() : statistic_of(json);
}

MemoryRow memory_row(const Json& row) {
  MemoryRow r;
  r.model = row.at("model");
  r.title = row.at("title");
  r.task = row.at("task");
  if (row.contains("label")) r.verdict = Verdict::of_file(Json{{"label", row.at("label")}});
  const auto figures = [](const Json& json) {
    return MemoryFigures{statistic_or_none(json.at("carried")), statistic_or_none(json.at("wiped")),
                         statistic_or_none(json.at("swapped")), json.value("chance", 0.0),
                         json.value("answers", int64_t(0))};
  };
  const Json& measured = row.at("measured");
  if (measured.contains("bits_per_character")) r.text = figures(measured["bits_per_character"]);
  if (measured.contains("right_beyond_one_window"))
    r.beyond = figures(measured["right_beyond_one_window"]);
  for (const Json& distance : measured.value("right_by_distance", Json::array()))
    r.distances.push_back({distance.at("distance"), figures(distance)});
  return r;
}

std::vector<PlotFile> memory_plots(const Json& json) {
  MemoryTable table;
  table.oracle = json.value("oracle", "");  // the first versions of the kind did not name it
  for (const Json& row : json.at("rows")) {
    table.rows.push_back(memory_row(row));
    const std::string& task = table.rows.back().task;
    if (std::find(table.tasks.begin(), table.tasks.end(), task) == table.tasks.end())
      table.tasks.push_back(task);
  }
  return memory_plot_files(table);
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields(1);
  for (const char c : line)
    if (c == ',')
      fields.emplace_back();
    else if (c != '\r')
      fields.back() += c;
  return fields;
}

// "imm_causal_mean" -> "imm causal mean": a CSV has no titles.
std::string spoken(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

std::vector<LatentCell> cells_of_csv(const std::string& file) {
  std::istringstream lines(read_file(file));
  std::string line;
  std::getline(lines, line);
  std::map<std::string, size_t> column;
  const auto names = fields_of(line);
  for (size_t i = 0; i < names.size(); ++i) column[names[i]] = i;
  for (const char* name : {"model", "latents", "position", "ppl_change_percent", "low", "high",
                           "paper_ppl_change_percent"})
    require(column.contains(name),
            "{} has no column \"{}\": wanted the table.csv of a table of "
            "latents",
            file, name);
  std::vector<LatentCell> cells;
  for (int64_t number = 2; std::getline(lines, line); ++number) {
    const auto fields = fields_of(line);
    if (fields.size() != names.size())
      throw DataError(
          fmt::format("{}:{} has {} fields, wanted {}", file, number, fields.size(), names.size()));
    const auto value = [&](const char* name) {
      const std::string& text = fields[column.at(name)];
      if (text.empty()) return std::nan("");
      char* end = nullptr;
      const double parsed = std::strtod(text.c_str(), &end);
      if (*end != 0)
        throw DataError(
            fmt::format("{}:{}: {} is \"{}\", wanted a number", file, number, name, text));
      return parsed;
    };
    const std::string& model = fields[column.at("model")];
    cells.push_back({model, spoken(model), int64_t(value("latents")), int64_t(value("position")),
                     value("ppl_change_percent"), value("low"), value("high"),
                     value("paper_ppl_change_percent")});
  }
  return cells;
}

std::vector<PlotFile> plots_of_json(const std::string& file) {
  const Json json = Config::from_file(file).json();
  const Json rows = json.value("rows", Json());
  if (rows.is_array() && !rows.empty()) {
    if (rows[0].contains("block_size")) return loss_plots(json);
    if (rows[0].contains("latents") && rows[0].contains("position"))
      return latent_plots(cells_of(json));
    if (rows[0].contains("task") && rows[0].contains("state_bytes")) return memory_plots(json);
  }
  throw UserError(fmt::format(
      "{} is not a table.json of the kinds losses, latent_effect or memory, so there is nothing to "
      "plot",
      file));
}

}  // namespace

std::vector<PlotFile> plots_of_file(const std::string& file) {
  std::vector<PlotFile> plots;
  try {
    plots = file.ends_with(".csv") ? latent_plots(cells_of_csv(file)) : plots_of_json(file);
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("{} is not a complete table.json: {}", file, e.what()));
  }
  require(!plots.empty(), "{} holds no figures by distance or position: there is nothing to plot",
          file);
  const std::string stem = std::filesystem::path(file).stem().string();
  if (stem != "table")
    for (PlotFile& plot : plots) plot.name = stem + "_" + plot.name;
  return plots;
}

}  // namespace reverie
