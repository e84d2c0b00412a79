#pragma once
/// Which rank this process is, from what started it.

#include <functional>
#include <memory>
#include <string>

#include "trainers/distributed/communicator.h"

namespace reverie {

/// mpirun's ranks (OMPI_COMM_WORLD_SIZE or PMI_SIZE) over MPI; else those of RANK and WORLD_SIZE, as
/// torchrun sets them, over TCP: rank 0 listens at MASTER_ADDR:MASTER_PORT. Null where neither is
/// set, or there is one rank. ConfigError where a variable is missing or no number. Waits for all
/// ranks: up to REVERIE_START_SECONDS (60).
std::shared_ptr<Communicator> communicator_from_environment();
/// Whether there are several ranks, without waiting for them: for commands that run in one process.
bool launched_as_rank();

/// Which of the `gpus` GPUs that this process sees are this rank's: that of its number on its
/// machine (LOCAL_RANK or OMPI_COMM_WORLD_LOCAL_RANK, as torchrun and mpirun set them, or Hydra's
/// MPI_LOCALRANKID), or where nothing says that number, of its rank modulo `gpus`. The only one
/// where CUDA_VISIBLE_DEVICES leaves it one. `variable` looks up the environment. ConfigError where
/// there are fewer GPUs.
int gpu_of_rank(int rank, int gpus, const std::function<const char*(const char*)>& variable);
/// ConfigError on all ranks where two have the same GPU, which `uuid` names. A collective.
void require_gpus_of_their_own(Communicator& communicator, const std::string& uuid);

/// Gives this rank its share of the cores that it and other ranks of its machine may run on, unless
/// OMP_NUM_THREADS says how many threads it has. A collective.
void share_cores(Communicator& communicator);

}  // namespace reverie
