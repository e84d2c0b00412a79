#include "trainers/distributed/launch.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "core/error.h"
#include "core/log.h"
#include "trainers/distributed/mpi/mpi_transport.h"
#include "trainers/distributed/tcp/tcp_transport.h"

namespace reverie {
namespace {

using Lookup = std::function<const char*(const char*)>;

std::optional<int> number_in(const char* variable, const Lookup& look_up = std::getenv) {
  const char* text = look_up(variable);
  if (!text || !*text) return {};
  const std::string_view view(text);
  int value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc{} || end != view.data() + view.size())
    throw ConfigError(
        fmt::format("the environment variable {} is '{}', not a number", variable, text));
  return value;
}

int needed_number(const char* variable) {
  if (const auto value = number_in(variable)) return *value;
  throw ConfigError(fmt::format(
      "WORLD_SIZE is set, but {} is not: ranks need RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT",
      variable));
}

bool from_mpirun() {
  return number_in("OMPI_COMM_WORLD_SIZE").value_or(1) > 1 || number_in("PMI_SIZE").value_or(1) > 1;
}

TcpPlan plan_from_environment() {
  TcpPlan plan;
  plan.rank = needed_number("RANK");
  plan.size = needed_number("WORLD_SIZE");
  if (const char* host = std::getenv("MASTER_ADDR")) plan.host = host;
  int port = number_in("MASTER_PORT").value_or(plan.port);
  // torchrun's agent keeps a store of its own at that port.
  const char* agent = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  if (agent && std::string_view(agent) == "True") ++port;
  if (port < 1 || port > 65535)
    throw ConfigError(
        fmt::format("MASTER_PORT is {}, wanted a port "
                    "from 1 to 65535",
                    port));
  plan.port = uint16_t(port);
  plan.seconds = number_in("REVERIE_START_SECONDS").value_or(60);
  return plan;
}

// The machine, and the cores of it that this process may use.
std::string cores_text() {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  cpu_set_t mask;
  CPU_ZERO(&mask);
  std::string cores;
  if (::sched_getaffinity(0, sizeof mask, &mask) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &mask)) cores += fmt::format(" {}", i);
  return std::string(host) + cores;
}

}  // namespace

bool launched_as_rank() {
  return from_mpirun() || number_in("WORLD_SIZE").value_or(1) > 1;
}

std::shared_ptr<Communicator> communicator_from_environment() {
  if (!launched_as_rank()) return {};
  if (from_mpirun()) return make_communicator(make_mpi_transport());
  return make_communicator(make_tcp_transport(plan_from_environment()));
}

int gpu_of_rank(int rank, int gpus, const Lookup& variable) {
  const char* visible = variable("CUDA_VISIBLE_DEVICES");
  if (gpus == 1 && visible && *visible) return 0;
  for (const char* name : {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"}) {
    const auto local = number_in(name, variable);
    if (!local) continue;
    if (*local < 0 || *local >= gpus)
      throw ConfigError(fmt::format(
          "rank {} is number {} on its machine ({}), where ranks see {} GPU{}: each rank needs "
          "its own. Start at most {} there, or use device cpu",
          rank, *local, name, gpus, gpus == 1 ? "" : "s", gpus));
    return *local;
  }
  return rank % gpus;
}

void require_gpus_of_their_own(Communicator& communicator, const std::string& uuid) {
  const std::vector<std::string> all = communicator.all_gather(uuid);
  for (size_t r = 0; r < all.size(); ++r) {
    const auto first = size_t(std::find(all.begin(), all.end(), all[r]) - all.begin());
    if (first == r) continue;
    communicator.fail_together();
    throw ConfigError(fmt::format(
        "ranks {} and {} have the same GPU (UUID {}), but NCCL needs one for each rank: start at "
        "most as many ranks on a machine as it has GPUs, separate them by LOCAL_RANK or "
        "CUDA_VISIBLE_DEVICES, or use device cpu",
        first, r, all[r]));
  }
}

void share_cores(Communicator& communicator) {
  if (communicator.size() == 1) return;
  const std::string mine = cores_text();
  const auto all = communicator.all_gather(mine);
  if (std::getenv("OMP_NUM_THREADS")) return;
  // Ranks that are bound to cores of their own have those; others share what they may all use.
  const auto cores = std::max<int64_t>(1, std::count(mine.begin(), mine.end(), ' '));
  const auto sharing = std::count(all.begin(), all.end(), mine);
  const int threads = int(std::max<int64_t>(1, cores / sharing));
  omp_set_num_threads(threads);
  const std::string host = mine.substr(0, mine.find(' '));
  const auto here = std::count_if(all.begin(), all.end(), [&](const std::string& text) {
    return text.substr(0, text.find(' ')) == host;
  });
  const long machine = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (communicator.first() && sharing < here && threads * here * 2 <= machine)
    log_warning(
        "the {} ranks of {} are bound to {} core{} each, of {}: mpirun --bind-to none lets them "
        "use all cores",
        here, host, cores, cores == 1 ? "" : "s", machine);
}

}  // namespace reverie
