#pragma once
/// Rates and memory of GPUs, as their data sheets give them.

#include <string>
#include <vector>

#include "core/dtype.h"

namespace reverie {

struct GpuRates {
  std::string name;          ///< "h100"
  std::string product;       ///< as the data sheet calls it
  double memory = 0;         ///< bytes
  double bandwidth = 0;      ///< bytes of its memory a second
  double bf16 = 0, f32 = 0;  ///< operations a second: dense products on tensor cores; plain f32
};

const std::vector<GpuRates>& gpu_rates();
/// UserError, with those that are known, where there is none of this name.
const GpuRates& find_gpu(const std::string& name);

}  // namespace reverie
