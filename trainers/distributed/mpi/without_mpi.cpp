// Stands in for mpi_transport.cpp where CMake found no MPI.

#include "trainers/distributed/mpi/mpi_transport.h"

namespace reverie {

std::string mpi_library() {
  return "";
}

std::unique_ptr<Transport> make_mpi_transport() {
  throw MachineError(
      "mpirun started this process, but this build has no MPI: install libopenmpi-dev and "
      "configure "
      "anew, or start ranks with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set "
      "(docs/distributed.md)");
}

}  // namespace reverie
