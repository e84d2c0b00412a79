#pragma once
/// Report of a profiled stretch of training: a table by kernel and by op, and a trace for Perfetto.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/profile.h"
#include "trainers/training/callback.h"

namespace reverie {

/// This machine's measured ceilings: the denominators of the table.
struct Ceilings {
  double gemm_flops = 0;       ///< a second, f32 matrix products of 1024 x 1024
  double bf16_gemm_flops = 0;  ///< 0: no bf16 dot products here
  double bytes = 0;            ///< a second, read and written, of arrays that no cache holds
};
Ceilings measure_ceilings();

struct ProfileLine {
  std::string name;  ///< "matmul", "linear forward"
  int64_t calls = 0;
  double seconds = 0;
  double kernel_seconds = 0;  ///< ops: within kernels
  profile::Work work;
};
struct ProfileSummary {
  int64_t steps = 0;
  double seconds = 0;                              ///< of whole steps
  std::vector<ProfileLine> phases, kernels, ops;   ///< longest first; phases in order
  double kernel_seconds = 0, product_seconds = 0;  ///< product: matmul.., linear_..
  /// Between the kernels of forward and backward: the tape, checks, allocation.
  double tape_seconds = 0;
};
/// `events` of profile::stop(). Steps are the outermost scopes of Kind::step; what lies outside of
/// them (evaluation, logging) does not count.
ProfileSummary summarise(const std::vector<profile::Event>& events);

std::string profile_table(const ProfileSummary&, const Ceilings&, bool bf16);
/// The Trace Event Format, which ui.perfetto.dev and chrome://tracing open.
nlohmann::json profile_trace(const std::vector<profile::Event>& events);

/// Profiles `steps` steps of a run after a few that warm up, prints the table and leaves profile.txt
/// and profile_trace.json in the run directory.
class ProfileCallback final : public Callback {
 public:
  explicit ProfileCallback(int64_t steps) : steps_(steps) {}
  void on_start(const RunView&, int64_t first_step) override;
  void on_step(const RunView&, const StepInfo&) override;
  void on_end(const RunView&) override;

 private:
  int64_t steps_, begin_ = 0;
};

}  // namespace reverie
