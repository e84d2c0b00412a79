#pragma once
/// `reverie eval RUN`: a run on its own data.

#include <cstdint>
#include <string>

#include "trainers/runs/verdict.h"

namespace reverie {

struct EvalRunArguments {
  int64_t windows = 0, prefix_windows = 64, batch_size = 32;
  bool other_data = false;
};
/// The last line of an evaluation. CheckFailed (exit code 5) where it found a leak that the model's
/// own verdict does not know.
void report_verdict(const Verdict& known, const Verdict& now);
void evaluate_run(const std::string& run, const std::string& json, const EvalRunArguments& a);

}  // namespace reverie
