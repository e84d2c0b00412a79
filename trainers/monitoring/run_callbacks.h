#pragma once
// The callbacks that every run has: metrics.jsonl, TensorBoard, the audit, progress.

#include <memory>
#include <vector>

#include "trainers/training/trainer.h"

namespace reverie {

std::vector<std::unique_ptr<Callback>> standard_callbacks(const Trainer&, bool progress,
                                                          int64_t first_step);

}  // namespace reverie
