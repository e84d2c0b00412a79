#pragma once
/// Ranks that mpirun started.

#include <memory>
#include <string>

#include "trainers/distributed/transport.h"

namespace reverie {

/// "Open MPI 4.1.4", or "" in a build without MPI.
std::string mpi_library();

/// Begins MPI: once a process, by the thread that will also destroy the communicator. MachineError
/// in a build without MPI, and where MPI does not start.
std::unique_ptr<Transport> make_mpi_transport();

}  // namespace reverie
