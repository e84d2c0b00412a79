#include "trainers/training/gpu_rates.h"

#include "core/error.h"

namespace reverie {

const std::vector<GpuRates>& gpu_rates() {
  // NVIDIA's data sheets; products without sparsity.
  static const std::vector<GpuRates> all = {
      {"a100-40", "A100 40GB SXM", 40e9, 1.555e12, 312e12, 19.5e12},
      {"a100", "A100 80GB SXM", 80e9, 2.039e12, 312e12, 19.5e12},
      {"h100", "H100 SXM", 80e9, 3.35e12, 989.4e12, 67e12},
      {"h100-pcie", "H100 PCIe", 80e9, 2.0e12, 756e12, 51e12},
      {"h200", "H200 SXM", 141e9, 4.8e12, 989.4e12, 67e12},
      {"l40s", "L40S", 48e9, 0.864e12, 362e12, 91.6e12},
      {"l4", "L4", 24e9, 0.3e12, 121e12, 30.3e12},
  };
  return all;
}

const GpuRates& find_gpu(const std::string& name) {
  std::string known;
  for (const GpuRates& gpu : gpu_rates()) {
    if (gpu.name == name) return gpu;
    known += (known.empty() ? "" : ", ") + gpu.name;
  }
  throw UserError(
      fmt::format("no data sheet of a GPU \"{}\" is known: wanted one of {} (--gpu)", name, known));
}

}  // namespace reverie
