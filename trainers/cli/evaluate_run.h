#pragma once
// `reverie eval RUN`: a run on its own data.

#include <cstdint>
#include <string>

namespace reverie {

struct EvalRunArguments {
  int64_t windows = 0, prefix_windows = 64, batch_size = 32;
  bool other_data = false;
};
void evaluate_run(const std::string& run, const std::string& json, const EvalRunArguments& a);

}  // namespace reverie
