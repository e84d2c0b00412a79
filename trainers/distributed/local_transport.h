#pragma once
/// Ranks that are threads of one process: for tests.

#include <memory>
#include <vector>

#include "trainers/distributed/communicator.h"

namespace reverie {

std::vector<std::unique_ptr<Transport>> make_local_transports(int ranks);
std::vector<std::shared_ptr<Communicator>> make_local_communicators(int ranks);

}  // namespace reverie
