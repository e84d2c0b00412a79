#pragma once
/// Collectives for tensors on device cuda.

#include <memory>

#include "trainers/distributed/communicator.h"
#include "trainers/distributed/device_transport.h"

namespace reverie {

/// Tensors on device cuda go from device to device over `transport`, while kernels run; all else
/// goes over `host`. A sum adds the same pairs in the same order as on the CPU, unless its tree
/// allows any. While this rank waits, `host` says whether the others live.
std::shared_ptr<Communicator> make_device_communicator(std::shared_ptr<Communicator> host,
                                                       std::unique_ptr<DeviceTransport> transport);

/// The communicator of ranks on `device`, given the ranks of `host`: `host` itself if
/// it takes tensors there, as on the CPU; on device cuda over NCCL, each rank with a GPU of its own
/// (see gpu_of_rank), which it has taken then. A collective: ConfigError on all ranks where their
/// devices differ, two have one GPU, or the build has no NCCL.
std::shared_ptr<Communicator> communicator_on(Device device, std::shared_ptr<Communicator> host);

}  // namespace reverie
