#pragma once
/// Tensors between GPUs, by NCCL.

#include <memory>
#include <string>

#include "trainers/distributed/communicator.h"
#include "trainers/distributed/device_transport.h"

namespace reverie {

/// "NCCL 2.28.9", or "" in a build without it.
std::string nccl_library();

/// Between the GPUs in use of `host`'s ranks, each rank's another; `host` carries what they need to
/// find each other, and says while this rank waits whether the others live. A collective.
/// ConfigError in a build without NCCL.
std::unique_ptr<DeviceTransport> make_nccl_transport(Communicator& host);

}  // namespace reverie
