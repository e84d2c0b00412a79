#include "trainers/tables/table_costs.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "layers/model_options.h"
#include "layers/pretrained/hugging_face_writer.h"
#include "trainers/runs/run_reference.h"
#include "trainers/training/plan.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

// A directory with a config.json alone, which is enough for a plan.
class StandInBase {
 public:
  explicit StandInBase(const PlannedBase& base) {
    const DryRun dry;
    const Component component = with_vocabulary_of_data(
        resolve_component(ModelRegistry::instance(), Config(base.shape, "$")), kUnknownVocabulary);
    Generator random(1);
    const auto model =
        ModelRegistry::instance().make(component, Build{random, DType::f32, Device{}, false});
    const PlainModel plain = plain_model(*model, component);
    Json config = hugging_face_config(plain, {});
    if (base.stored != DType::f32)
      config["dtype"] = base.stored == DType::bf16 ? "bfloat16" : "float16";
    write_file_atomically(path() + "/config.json", json_text(config, 2));
  }
  const std::string& path() const { return folder_.path(); }

 private:
  static constexpr int64_t kUnknownVocabulary = 65;  // as plan_run() takes it
  TemporaryFolder folder_{fs::temp_directory_path() / "reverie", "shape"};
};

Plan plan_of(const TableFile& t, const TableKind& kind, const std::vector<PlannedRun>& all,
             const PlannedRun& run, const CostOptions& o) {
  ExperimentOptions experiment = read_experiment(run.config, t.directory);
  const auto base = configured_base(experiment.model);
  if (!base || fs::exists(*base) || find_run(*base)) return plan_run(experiment, o.ranks);
  const PlannedBase planned = kind.planned_base(all);
  require(!planned.shape.is_null(), "its base {} is not there yet", *base);
  const StandInBase stand_in(planned);
  experiment.model = with_base(experiment.model, stand_in.path());
  return plan_run(experiment, o.ranks);
}

std::string name_of_cell(const PlannedRun& r) {
  const std::string level =
      r.cell.level_name.empty() ? std::to_string(r.cell.level) : r.cell.level_name;
  const char* use = r.trial ? "trial of " : r.in_table ? "" : "first: ";
  return fmt::format("{}{} {}", use, r.cell.model, level);
}

double gibibytes(double bytes) {
  return bytes / double(1 << 30);
}

}  // namespace

std::string table_costs(const TableFile& t, const TableKind& kind,
                        const std::vector<PlannedRun>& runs, const CostOptions& o) {
  const GpuRates* gpu = o.gpu.empty() ? nullptr : &find_gpu(o.gpu);
  std::string out = fmt::format(
      "\neach run on {} rank{}{}: GiB of one rank\n{:<28} {:>5} {:>8} {:>8} {:>9} {:>8} {:>11} "
      "{:>12} {}\n",
      o.ranks, o.ranks == 1 ? "" : "s",
      gpu ? fmt::format(", {} at {:.0f} % of its data sheet's rate", gpu->product,
                        100 * o.utilisation)
          : "",
      "run", "runs", "frozen", "trained", "optimizer", "peak", "evaluation", "PFLOP a run",
      gpu ? "hours a run" : "");
  std::map<std::string, int64_t> counts;
  for (const PlannedRun& r : runs) ++counts[name_of_cell(r)];
  double hours = 0, peta = 0, highest = 0;
  int64_t unknown = 0;
  for (const PlannedRun& r : runs) {
    const std::string name = name_of_cell(r);
    const int64_t count = std::exchange(counts[name], 0);
    if (count == 0) continue;
    try {
      const Plan p = plan_of(t, kind, runs, r, o);
      const bool bf16 = r.config.json().value("precision", "f32") == "bf16";
      const double flops = p.step_flops * double(p.steps) / 1e15,
                   each = gpu ? p.seconds_on(*gpu, o.utilisation, bf16) / 3600 : 0;
      peta += flops * double(count);
      hours += each * double(count);
      highest = std::max(highest, p.most_bytes());
      out += fmt::format(
          "{:<28} {:>5} {:>8.2f} {:>8.2f} {:>9.2f} {:>8.2f} {:>11.2f} {:>12.4g} {}\n", name, count,
          gibibytes(p.frozen_bytes), gibibytes(p.weight_bytes - p.frozen_bytes + p.rounded_bytes),
          gibibytes(p.optimizer_bytes), gibibytes(p.peak_bytes), gibibytes(p.evaluation_peak_bytes),
          flops, gpu ? fmt::format("{:.4g} ({})", each, bf16 ? "bf16" : "f32") : "");
    } catch (const UserError& e) {
      unknown += count;
      out += fmt::format("{:<28} {:>5} not planned: {}\n", name, count, e.what());
    }
  }
  out += fmt::format("all: {:.4g} PFLOP", peta);
  if (gpu)
    out += fmt::format(
        ", {:.4g} hours one after another; the highest peak, {:.1f} GiB, {} its {:.1f} GiB", hours,
        gibibytes(highest), highest < gpu->memory ? "fits" : "exceeds", gibibytes(gpu->memory));
  if (unknown > 0) out += fmt::format("; without {} runs that could not be planned", unknown);
  return out +
         "\nNot counted: program and libraries, scratch inside kernels, buffers of ranks, the "
         "gate, "
         "prefix-only scores, what the table measures after its runs.\n";
}

}  // namespace reverie
