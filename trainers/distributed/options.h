#pragma once
/// How ranks work together: nothing here changes what a run computes.

#include "core/config.h"

namespace reverie {

struct DistributedOptions final : Fieldset {
  bool shard_optimizer = false;
  double bucket_megabytes = 4, timeout_seconds = 60;
  void fields(Fields& f) override {
    f.boolean(
        "shard_optimizer", shard_optimizer,
        "each rank keeps the optimizer's moments of its share of the parameters (ZeRO-1), and with "
        "precision bf16 the f32 values of its share of the matrices: less memory, one more "
        "exchange a "
        "step, the same results");
    f.number("bucket_megabytes", bucket_megabytes, {1e-6, 1e6},
             "gradients are sent in pieces of about this size, while the backward pass continues");
    f.number("timeout_seconds", timeout_seconds, {0.1, 1e6},
             "a rank that gives no sign of life for this long is taken for dead, and ends the run");
  }
};

}  // namespace reverie
