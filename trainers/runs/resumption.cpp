#include "trainers/runs/resumption.h"

#include <omp.h>

#include <array>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/json.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"
#include "trainers/runs/experiment.h"

namespace reverie {
namespace {

// These change nothing of what is trained.
constexpr std::array kMayChange = {"distributed", "evaluation", "sample", "checkpoint",
                                   "monitoring"};
// These change nothing of what a finished run reports.
constexpr std::array kBesideFigures = {"distributed", "sample", "checkpoint", "monitoring",
                                       "plugins"};

// Models whose base may lie elsewhere when a run goes on: its weights are known by their hash, or lie
// in the checkpoint.
constexpr std::array<std::pair<const char*, const char*>, 4> kBases = {
    {{"augmented", "base"}, {"coconut", "base"}, {"explained", "base"}, {"pretrained", "path"}}};

void leave_out_paths(Json& value) {
  if (value.is_structured())
    for (Json& inner : value) leave_out_paths(inner);
  else if (value.is_string() && value.get_ref<const std::string&>().starts_with('/'))
    value = "";
}

}  // namespace

Json machine_numerics(bool exact, DType dtype, int ranks) {
  Json numerics = {{"isa", std::string(name_of(active_isa()))},
                   {"matmul_library", matmul_library()}};
  const bool own_products = dtype == DType::f64 || gemm() == GemmChoice::own;
  if (!exact || !own_products) numerics["threads"] = omp_get_max_threads();
  if (!exact) numerics["ranks"] = ranks;
  return numerics;
}

bool numerics_differ(const Json& before, const Json& now) {
  for (const auto& [key, value] : now.items())
    if (before.value(key, key == "ranks" ? Json(1) : Json()) != value) return true;
  return false;
}

Json in_todays_form(const Json& config, const std::string& run_directory) {
  ExperimentOptions options = read_experiment(Config(config, "$"), run_directory);
  return write_config(options);
}

std::vector<std::string> obstacles_to_resuming(Json before, Json now) {
  for (const char* key : kMayChange) {
    before.erase(key);
    now.erase(key);
  }
  for (const auto& [type, key] : kBases)
    if (now["model"].value("type", "") == type && before["model"].contains(key))
      before["model"][key] = now["model"][key];
  if (now["train"]["steps"] > before["train"]["steps"])
    now["train"]["steps"] = before["train"]["steps"];
  return config_differences(before, now);
}

Json config_behind_figures(Json config) {
  for (const char* key : kBesideFigures) config.erase(key);
  leave_out_paths(config);
  return config;
}

std::string config_hash(const Json& config) {
  const std::string text = json_text(config_behind_figures(config));
  return hash_bytes(text.data(), text.size());
}

void keep_config_hash(const RunDirectory& run, const Json& before, const Json& now) {
  if (!run_finished(run.path())) return;
  Json summary = read_stored_json(run.file(kSummaryFile)).json();
  if (summary.value(kConfigHashKey, Json()) != config_hash(before)) return;
  summary[kConfigHashKey] = config_hash(now);
  run.write(kSummaryFile, summary);
}

}  // namespace reverie
