#pragma once
/// Where and from what a number came: the machine, the build's commit, the time.

#include <cstdint>
#include <string>

#include "core/config.h"

namespace reverie {

struct MachineInfo {
  std::string cpu;           ///< "AMD EPYC 7B13"; the architecture where the system gives no name
  int cores = 0;             ///< that this process may use
  int64_t memory_bytes = 0;  ///< of the whole machine; 0: unknown
  std::string system;        ///< "Linux 6.1.0 x86_64"
};
MachineInfo machine_info();
Json machine_json(const MachineInfo&);  ///< {"cpu","cores","memory_bytes","system"}

/// The commit that this library was built from (40 hexadecimal digits), with "-dirty" when tracked
/// files had been changed; "unknown" outside git.
std::string build_commit();
/// At which commit docs/results/gpu_*.json says that the CUDA kernels last ran on hardware, and how
/// many files of kernels/ this build has that differ from it.
std::string hardware_record();

std::string utc_now();  ///< "2025-03-01T12:34:56Z"

}  // namespace reverie
