#pragma once
/// Report of a profiled stretch of training: a table by kernel and by op, and a trace for Perfetto.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/profile.h"
#include "trainers/training/callback.h"
#include "trainers/training/plan.h"

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

/// Bytes that a step took at its peak, beside those of its plan.
std::string memory_line(size_t tensors, const Plan& planned);

/// Profiles `steps` steps of a run after a few that warm up, prints the table and what the steps took
/// of memory, and leaves profile.txt and profile_trace.json in the run directory.
class ProfileCallback final : public Callback {
 public:
  /// `planned`: this run's plan_run().
  ProfileCallback(int64_t steps, const Plan& planned) : steps_(steps), planned_(planned) {}
  void on_start(const RunView&, int64_t first_step) override;
  void on_step(const RunView&, const StepInfo&) override;
  void on_evaluation(const RunView&, const EvaluationInfo&) override;
  void on_sample(const RunView&, int64_t step, const std::string& text) override;
  void on_end(const RunView&) override;

 private:
  int64_t steps_, begin_ = 0;
  Plan planned_;
  size_t peak_ = 0;  ///< of the profiled steps so far
};

}  // namespace reverie
