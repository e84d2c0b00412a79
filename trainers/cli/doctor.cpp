#include <fmt/format.h>
#include <omp.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "core/compact_weights.h"
#include "core/cuda.h"
#include "core/machine.h"
#include "kernels/attention.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/distributed/mpi/mpi_transport.h"
#include "trainers/distributed/nccl/nccl_transport.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

// By what tensors on device cuda go from rank to rank.
std::string gpu_exchange() {
  switch (cuda::status().flavour) {
    case cuda::Flavour::off:
      return "on device cpu, because this build has no CUDA";
    case cuda::Flavour::emulated:
      return "device cuda is emulated and sends as the cpu does, without NCCL";
    case cuda::Flavour::on:
      break;
  }
  const std::string nccl = nccl_library();
  return nccl.empty() ? "no NCCL in this build (libnccl-dev): device cuda works in one process "
                        "only"
                      : "on device cuda by " + nccl + ", a GPU for each";
}

// What computes attention in bf16 on device cuda.
std::string gpu_attention() {
  const bool chosen = attention_choice() == AttentionChoice::cudnn;
  const std::string library = attention_library();
  if (library.empty()) return "attention by Reverie's kernels; no cuDNN in this build";
  return fmt::format("attention in bf16 by {} (this build has {}; REVERIE_ATTENTION=own|cudnn)",
                     chosen ? "cuDNN where it serves the case" : "our kernels", library);
}

// Lines of a name and what is known of it.
std::string machine_text() {
  const MachineInfo m = machine_info();
  std::string out;
  out += fmt::format("build        {}\n", build_commit());
  out += fmt::format("machine      {}, {} cores, {:.1f} GiB, {}\n", m.cpu, m.cores,
                     double(m.memory_bytes) / (1 << 30), m.system);
  std::string supported;
  for (Isa isa : {Isa::portable, Isa::avx2, Isa::avx512})
    if (isa_supported(isa))
      supported += (supported.empty() ? "" : ", ") + std::string(name_of(isa));
  out += fmt::format("cpu kernels  {} in use (this machine runs: {}; REVERIE_ISA overrides)\n",
                     name_of(active_isa()), supported);
  out += fmt::format("threads      {} (OMP_NUM_THREADS overrides)\n", omp_get_max_threads());
  out += fmt::format("f32 matmul   {}\n", matmul_library());
  out += fmt::format(
      "weights      frozen ones of a published model {} (REVERIE_WEIGHTS=compact|f32)\n",
      keeps_weights_compact() ? "stay as their file has them"
                              : "are widened to f32 when they are read");
  const std::string mpi = mpi_library();
  out +=
      fmt::format("ranks        {}; RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT (TCP)\n",
                  mpi.empty() ? "no MPI in this build (libopenmpi-dev)" : "mpirun (" + mpi + ")");
  out += fmt::format("             {}\n", gpu_exchange());
  int cuda = 0, rows = 0;
  for (const KernelRow* row : kernel_table()) {
    ++rows;
    cuda += row->has_cuda();
  }
  out += fmt::format("cuda         {} of {} kernels in this build; {}\n", cuda, rows,
                     cuda::status().in_words);
  out += fmt::format("             kernels {}\n", hardware_record());
  out += fmt::format("             {}\n", gpu_attention());
  const char* data = std::getenv("REVERIE_DATA");
  out += fmt::format("data         REVERIE_DATA {}\n",
                     !data ? "is not set: scripts/fetch.py shakespeare fetches the text"
                     : std::filesystem::exists(std::string(data) + "/tinyshakespeare/input.txt")
                         ? std::string("holds tinyshakespeare")
                         : std::string("is set, but holds no tinyshakespeare/input.txt"));
  return out;
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  auto* command = app.add_subcommand("doctor",
                                     "Show this machine and this build: kernels, "
                                     "threads, ranks, GPU, data");
  command->callback([] { fmt::print("{}", fit_list(STDOUT_FILENO, machine_text())); });
}

}  // namespace reverie
