#include "trainers/tables/runs/run_record.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/verdict.h"

namespace reverie {
namespace {

constexpr int kCurvePoints = 100;

Json read_if_there(const std::string& file) {
  return std::filesystem::exists(file) ? read_stored_json(file).json() : Json();
}

std::string value_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

void flatten(const Json& value, const std::string& path,
             std::vector<std::pair<std::string, std::string>>& out) {
  const bool inner = (value.is_object() || value.is_array()) && !value.empty();
  if (!inner) {
    out.emplace_back(path, value_text(value));
    return;
  }
  // A component's type is its value: where another run has null, both stand in one row.
  const bool component = value.is_object() && value.contains("type") && !path.empty();
  if (component) out.emplace_back(path, value_text(value.at("type")));
  size_t index = 0;
  for (const auto& [key, more] : value.items()) {
    if (component && key == "type") continue;
    const std::string name = value.is_array() ? std::to_string(index++) : key;
    flatten(more, path.empty() ? name : path + "." + name, out);
  }
}

// metric_value() by a path such as "augmented.val_loss".
double value_at(const Json& object, const std::string& path) {
  const size_t dot = path.find('.');
  if (dot == path.npos) return metric_value(object, path.c_str());
  const auto inner = object.find(path.substr(0, dot));
  if (inner == object.end() || !inner->is_object()) return std::nan("");
  return value_at(*inner, path.substr(dot + 1));
}

}  // namespace

std::string RunRecord::label() const {
  if (summary.is_object())
    if (const std::string label = Verdict::of_file(summary).label(); !label.empty()) return label;
  if (leak.leaks()) return leak.label();
  std::string label;
  for (const Json& event : metrics)
    if (event.contains("label") && !label.starts_with(kLeakLabel)) {
      label = event.at("label").get<std::string>();
      // Less was known at the time: "LEAKS (unknown before step 250)".
      if (const size_t more = label.find(" ("); more != label.npos) label.resize(more);
    }
  return label;
}

bool RunRecord::leaks() const {
  return label().starts_with(kLeakLabel);
}

std::string RunRecord::verdict() const {
  if (!label().empty()) return label();
  if (!finished()) return "passed the gate; its trained weights are probed at the end";
  return summary.value("causal", false) ? "causal" : "unknown";
}

bool RunRecord::has_latents() const {
  const auto augmented = [](const Json& object) {
    return object.is_object() && object.contains("augmented");
  };
  return augmented(summary) || std::any_of(metrics.begin(), metrics.end(), augmented);
}

int64_t RunRecord::last_step() const {
  int64_t last = 0;
  for (const Json& event : metrics)
    if (event.at("event") == "train") last = std::max(last, event.at("step").get<int64_t>());
  return last;
}

std::vector<PlotPoint> RunRecord::curve(const std::string& event, const std::string& key) const {
  std::vector<PlotPoint> points;
  for (const Json& e : metrics)
    if (e.at("event") == event) points.push_back({metric_value(e, "step"), value_at(e, key)});
  return points;
}

std::vector<PlotPoint> RunRecord::smooth_curve(const std::string& event, const std::string& key,
                                               double steps) const {
  const auto points = curve(event, key);
  return points.size() <= kCurvePoints ? points : bucket_means(points, steps, kCurvePoints);
}

double RunRecord::figure(const char* key) const {
  return summary.is_object() ? value_at(summary, key) : std::nan("");
}

bool same_losses(const std::vector<RunRecord>& runs) {
  const auto counted = [](const RunRecord& run) {
    Json parts = Json::array();
    if (const auto found = run.summary.find("augmented"); found != run.summary.end())
      for (const char* key : {"predictions", "positions", "rule"})
        parts.push_back(found->value(key, Json()));
    return parts;
  };
  const RunRecord* first = nullptr;
  for (const RunRecord& run : runs) {
    if (!run.finished()) continue;
    if (first && counted(run) != counted(*first)) return false;
    first = &run;
  }
  return true;
}

RunRecord read_run_record(const std::string& given) {
  namespace fs = std::filesystem;
  std::string directory = given;
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  RunRecord run;
  run.directory = directory;
  run.name = fs::path(directory).filename().string();
  if (run.name.empty() || run.name == "." || run.name == "..")
    run.name = fs::absolute(directory).lexically_normal().filename().string();
  if (!is_run_directory(directory))
    throw UserError(
        fmt::format("{} is no run directory: there is no {} in it; give the directory that "
                    "`reverie train --run-dir` wrote",
                    directory, kConfigFile));
  run.config = read_stored_json(file_in(directory, kConfigFile)).json();
  if (run_finished(directory)) run.summary = read_summary(directory);
  run.leak = kept_leak(directory);
  run.leak.set_shrunk(run.config.value("shrunk_by", int64_t(1)));
  run.dataset = read_if_there(directory + "/dataset.json");
  run.metrics = read_metrics(directory);
  return run;
}

std::vector<std::pair<std::string, std::string>> flat_values(const Json& object) {
  std::vector<std::pair<std::string, std::string>> out;
  flatten(object, "", out);
  return out;
}

std::vector<ConfigDifference> differing_values(const std::vector<RunRecord>& runs) {
  std::vector<ConfigDifference> rows;
  std::map<std::string, size_t> at;
  for (size_t r = 0; r < runs.size(); ++r)
    for (const auto& [path, value] : flat_values(runs[r].config)) {
      const auto [found, is_new] = at.try_emplace(path, rows.size());
      if (is_new) rows.push_back({path, std::vector<std::string>(runs.size())});
      rows[found->second].values[r] = value.empty() ? "\"\"" : value;
    }
  const auto has_parts = [&](const std::string& path) {
    const auto next = at.lower_bound(path + ".");
    return next != at.end() && next->first.starts_with(path + ".");
  };
  std::erase_if(rows, [&](const ConfigDifference& row) {
    const bool same = std::all_of(row.values.begin(), row.values.end(),
                                  [&](const std::string&v) { return v == row.values[0]; }),
               empty = std::all_of(row.values.begin(), row.values.end(), [](const std::string&v) {
                 return v.empty() || v == "null" || v == "[]" || v == "{}";
               });
    return same || (empty && has_parts(row.path));  // the rows of its parts say the same
  });
  return rows;
}

}  // namespace reverie
