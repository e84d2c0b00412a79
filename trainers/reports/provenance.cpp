#include "trainers/reports/provenance.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "trainers/text/quantities.h"

namespace reverie {

void Provenance::add_commit_and_time(const Json& summary, const std::string& run_directory) {
  const auto at = [&](const char* key) -> const Json& {
    const auto found = summary.find(key);
    if (found == summary.end())
      throw DataError(
          fmt::format("summary of run {} has no \"{}\"; delete that run to train it again",
                      run_directory, key));
    return *found;
  };
  if (const Json& seconds = at("seconds"); seconds.is_number()) total_seconds += double(seconds);
  const std::string text = at("commit").is_string() ? std::string(at("commit")) : "unknown";
  if (std::find(run_commits.begin(), run_commits.end(), text) == run_commits.end())
    run_commits.push_back(text);
}

void Provenance::add_run_on_other_data(const Json& summary, const std::string& run_directory,
                                       const std::string& model) {
  add_commit_and_time(summary, run_directory);
  const Json data = summary.value("dataset", Json::object());
  std::pair<std::string, std::string> entry{
      model, data.value("name", "unknown") + " (hash " + data.value("hash", "unknown") + ")"};
  if (std::find(other_training_data.begin(), other_training_data.end(), entry) ==
      other_training_data.end())
    other_training_data.push_back(std::move(entry));
}

void Provenance::add_run_of_part(const Json& summary, const std::string& run_directory,
                                 const std::string& part) {
  add_commit_and_time(summary, run_directory);
  const Json data = summary.value("dataset", Json::object());
  const PartData own{part, data.value("name", "unknown"), data.value("hash", "unknown"),
                     data.value("note", "")};
  const auto known = std::find_if(data_of_parts.begin(), data_of_parts.end(),
                                  [&](const PartData& other) { return other.part == part; });
  if (known == data_of_parts.end()) {
    data_of_parts.push_back(own);
    return;
  }
  if (known->hash != own.hash)
    throw UserError(fmt::format(
        "run {} was trained on other data than the runs of {} before it (hash {}, not {}), so one "
        "table cannot compare them: delete it or choose another --run-dir",
        run_directory, part, own.hash, known->hash));
}

void Provenance::add_run(const Json& summary, const std::string& run_directory) {
  add_commit_and_time(summary, run_directory);
  const Json data = summary.value("dataset", Json::object());
  if (!data.is_object()) return;
  const auto take = [&](const char* key, std::string& known) {
    const Json value = data.value(key, Json());
    if (!value.is_string()) return;
    if (known.empty()) known = value.get<std::string>();
    if (known != value.get<std::string>())
      throw UserError(fmt::format(
          "run {} was trained on other data than the runs before it ({} {}, not {}), so one "
          "table cannot compare their losses: delete it or choose another --run-dir",
          run_directory, key, value.get<std::string>(), known));
  };
  take("hash", dataset_hash);
  take("name", dataset);
  if (dataset_note.empty() && data.value("note", Json()).is_string())
    dataset_note = data["note"].get<std::string>();
}

Json provenance_json(const Provenance& p) {
  Json out = {
      {"commit", p.commit},
      {"run_commits", p.run_commits},
      {"machine", machine_json(p.machine)},
      {"command", p.command},
      {"preset", p.preset},
      {"dataset", {{"name", p.dataset}, {"hash", p.dataset_hash}, {"note", p.dataset_note}}},
      {"date", p.date},
      {"total_seconds", p.total_seconds}};
  for (const auto& [model, data] : p.other_training_data) out["training_data"][model] = data;
  if (!p.data_of_parts.empty()) out.erase("dataset");
  for (const auto& data : p.data_of_parts)
    out["datasets"][data.part] = {{"name", data.name}, {"hash", data.hash}, {"note", data.note}};
  return out;
}

std::vector<std::pair<std::string, std::string>> provenance_lines(const Provenance& p) {
  std::vector<std::pair<std::string, std::string>> lines;
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) lines.emplace_back(name, value);
  };
  add("data", p.dataset);
  add("data note", p.dataset_note);
  add("data hash", p.dataset_hash);
  for (const auto& data : p.data_of_parts)
    lines.emplace_back("data of " + data.part,
                       fmt::format("{}{}{} (hash {})", data.name, data.note.empty() ? "" : ": ",
                                   data.note, data.hash));
  for (const auto& [model, data] : p.other_training_data)
    lines.emplace_back("training data of " + model, data);
  add("preset", p.preset);
  add("command", p.command);
  add("commit", p.commit);
  const std::string runs = fmt::format("{}", fmt::join(p.run_commits, ", "));
  if (runs != p.commit) add("commit of the runs", runs);
  add("machine", fmt::format("{}, {} cores, {:.0f} GiB, {}", p.machine.cpu, p.machine.cores,
                             double(p.machine.memory_bytes) / double(1 << 30), p.machine.system));
  add("training time", fmt::format("{} in all runs together", format_duration(p.total_seconds)));
  add("date", p.date);
  return lines;
}

}  // namespace reverie
