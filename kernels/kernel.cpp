#include "kernels/kernel.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>

#include "core/dry_run.h"

namespace reverie {
namespace {

// Rows register themselves while libraries load, hence a table that exists on first use.
struct Table {
  std::mutex mutex;
  std::vector<const KernelRow*> rows;
};
Table& table() {
  static Table t;
  return t;
}
void remember(const KernelRow* row) {
  Table& t = table();
  const std::lock_guard lock(t.mutex);
  if (std::find(t.rows.begin(), t.rows.end(), row) == t.rows.end()) t.rows.push_back(row);
}

Isa best_isa() {
  return isa_supported(Isa::avx512) ? Isa::avx512
         : isa_supported(Isa::avx2) ? Isa::avx2
                                    : Isa::portable;
}
Isa checked(Isa isa) {
  if (!isa_supported(isa)) {
    throw ConfigError(fmt::format(
        "instruction set {} is asked for, but this machine lacks it; the best it has is {}",
        name_of(isa), name_of(best_isa())));
  }
  return isa;
}
Isa initial_isa() {
  const char* wanted = std::getenv("REVERIE_ISA");
  if (wanted == nullptr || *wanted == '\0') return best_isa();
  for (int i = 0; i < kIsas; ++i)
    if (name_of(Isa(i)) == wanted) return checked(Isa(i));
  throw ConfigError(fmt::format(
      "environment variable REVERIE_ISA is '{}'; wanted portable, avx2 or avx512", wanted));
}

constexpr int kUnknown = -1;
std::atomic<int> active{kUnknown};

// Every kernel in a dry run.
void compute_nothing(const void*) {}

}  // namespace

#if defined(__x86_64__)
namespace {

bool has_f16c() {
#if defined(__clang__)
  return true;  // clang 14 cannot ask; every processor with AVX2 has it
#else
  return __builtin_cpu_supports("f16c");
#endif
}

}  // namespace
#endif

bool isa_supported(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::portable:
      return true;
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("fma");
  }
  return false;
#else
  return isa == Isa::portable;
#endif
}

Isa active_isa() {
  int isa = active.load(std::memory_order_relaxed);
  if (isa == kUnknown) {
    isa = int(initial_isa());
    active.store(isa, std::memory_order_relaxed);
  }
  return Isa(isa);
}

void set_active_isa(Isa isa) {
  active.store(int(checked(isa)), std::memory_order_relaxed);
}

KernelRow::Function KernelRow::function(Device device) const {
  if (dry_run()) return reinterpret_cast<Function>(&compute_nothing);
  if (device.kind == DeviceKind::cpu) {
    for (int isa = int(active_isa()); isa >= 0; --isa)
      if (cpu_[size_t(isa)] != nullptr) return cpu_[size_t(isa)];
  } else if (cuda_ != nullptr) {
    return cuda_;
  }
  throw UserError(fmt::format("{}: no {} kernel in this build", name_, name_of(device.kind)));
}

void KernelRow::set_cpu(Isa isa, Function f) {
  cpu_[size_t(isa)] = f;
  remember(this);
}

void KernelRow::set_cuda(Function f) {
  cuda_ = f;
  remember(this);
}

std::vector<const KernelRow*> kernel_table() {
  Table& t = table();
  const std::lock_guard lock(t.mutex);
  std::vector<const KernelRow*> rows = t.rows;
  std::sort(rows.begin(), rows.end(), [](auto* a, auto* b) { return a->name() < b->name(); });
  return rows;
}

void no_case_for(const char* what, int value) {
  throw InternalError(fmt::format("no case for {} {}", what, value));
}

}  // namespace reverie
