// Stands in for nccl_transport.cpp where CMake found no NCCL, or the build has no CUDA.

#include "core/error.h"
#include "trainers/distributed/nccl/nccl_transport.h"

namespace reverie {

std::string nccl_library() {
  return "";
}

std::unique_ptr<DeviceTransport> make_nccl_transport(Communicator& host) {
  host.fail_together();  // ranks have the same build
  throw ConfigError(fmt::format(
      "$.device is cuda in a run of {} ranks, but this build has no NCCL to exchange tensors "
      "between GPUs: install libnccl-dev (NVIDIA's packages) and configure again, or use device "
      "cpu, or use one process",
      host.size()));
}

}  // namespace reverie
