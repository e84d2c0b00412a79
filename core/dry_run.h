#pragma once
/// A dry run: the same code, tensors of the same shapes, and no values.

#include <cstddef>

namespace reverie {

/// While one is alive in this process, kernels check their arguments and compute nothing, and large
/// tensors of numbers are neither filled nor copied, so that a step of any size ends at once. Tensors on the CPU
/// come from an allocator of their own (allocator() gives it meanwhile), which counts as the usual one
/// and whose pages nobody touches: their values are zeros. Integers are kept, since code looks at them.
class DryRun {
 public:
  DryRun();
  ~DryRun();
  DryRun(const DryRun&) = delete;
  DryRun& operator=(const DryRun&) = delete;
};

bool dry_run();
/// Whether so many bytes of floating-point numbers are left as they are.
bool without_values(size_t bytes, bool floating);

}  // namespace reverie
