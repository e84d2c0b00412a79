#pragma once
/// The kernel table: a row per kernel, a column per device. Kernels are data: a missing one is a
/// clear error and a failing coverage test, not a stub. The CPU column has one entry per instruction
/// set. Rows live in namespace reverie::kernel (kernel::matmul(device, args)), so that the ops of
/// autograd can have the plain names.

#include <array>
#include <concepts>
#include <string_view>
#include <vector>

#include "core/device.h"
#include "core/error.h"
#include "core/host_device.h"
#include "core/profile.h"

namespace reverie {

/// Instruction sets that the CPU kernels are compiled for, worst first.
enum class Isa : uint8_t { portable = 0, avx2 = 1, avx512 = 2 };
inline constexpr int kIsas = 3;
constexpr std::string_view name_of(Isa i) {
  return i == Isa::portable ? "portable" : i == Isa::avx2 ? "avx2" : "avx512";
}
bool isa_supported(Isa);  ///< by this machine
/// The best supported one, or what REVERIE_ISA names (ConfigError if this machine lacks it).
Isa active_isa();
void set_active_isa(Isa);  ///< for tests; throws ConfigError when not supported

class KernelRow {
 public:
  explicit constexpr KernelRow(std::string_view name) : name_(name) {}
  std::string_view name() const { return name_; }
  bool has_cpu(Isa isa) const { return cpu_[size_t(isa)] != nullptr; }
  bool has_cuda() const { return cuda_ != nullptr; }

 protected:
  using Function = void (*)();
  Function function(Device) const;  ///< throws "rms_norm_forward: no cuda kernel in this build"
  void set_cpu(Isa, Function);
  void set_cuda(Function);

 private:
  std::string_view name_;
  std::array<Function, kIsas> cpu_{};
  Function cuda_ = nullptr;
};

/// Throws InternalError: a switch over a kind, a dtype or a function met a value that it does not
/// know. Compiled once, outside the instruction sets.
[[noreturn]] void no_case_for(const char* what, int value);

/// All rows that have at least one implementation, by name.
std::vector<const KernelRow*> kernel_table();

/// What stands beside each Args: void check(const Args&), which throws UserError on shapes, dtypes
/// or devices that the comment on Args rules out, so that implementations for every device and
/// instruction set may rely on them; and profile::Work work(const Args&), the least work of a call.
/// kernels/demands.h and kernels/work.h help with either.
template <class Args>
concept HasDemands = requires(const Args& args) {
  { check(args) } -> std::same_as<void>;
};
template <class Args>
concept HasWork = requires(const Args& args) {
  { work(args) } -> std::same_as<profile::Work>;
};

template <class Args>
class Kernel : public KernelRow {
  static_assert(HasDemands<Args>, "a row needs check(const Args&) between its Args and itself");
  static_assert(HasWork<Args>, "a row needs work(const Args&) between its Args and itself");

 public:
  using Implementation = void (*)(const Args&);
  explicit constexpr Kernel(std::string_view name) : KernelRow(name) {}
  void operator()(Device device, const Args& args) const {
    check(args);
    profile::Scope scope(profile::Kind::kernel, name());
    if (scope.recording()) scope.set_work(work(args));
    reinterpret_cast<Implementation>(function(device))(args);
  }
  REVERIE_INLINE bool add_cpu(Isa isa, Implementation f) {
    set_cpu(isa, reinterpret_cast<Function>(f));
    return true;
  }
  bool add_cuda(Implementation f) {
    set_cuda(reinterpret_cast<Function>(f));
    return true;
  }
};

}  // namespace reverie

/// In kernels/cpu/isa/*.cpp, inside namespace reverie::cpu::REVERIE_ISA.
#define REVERIE_CPU_KERNEL(row, implementation)          \
  [[maybe_unused]] static const bool reverie_cpu_##row = \
      ::reverie::kernel::row.add_cpu(::reverie::Isa::REVERIE_ISA, &implementation)
