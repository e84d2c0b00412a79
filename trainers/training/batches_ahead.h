#pragma once
/// The next rows of a run's batches, read and sent to the device while it computes.

#include <memory>
#include <optional>
#include <vector>

#include "core/staging_buffer.h"
#include "datasets/sampler.h"
#include "trainers/training/batch_split.h"

namespace reverie {

/// The result of rows() never depends on what was prepared, and the sampler's position is not
/// touched: a checkpoint knows nothing of it, and a run that stops has lost nothing.
class BatchesAhead {
 public:
  /// Where the device is the CPU, there is nothing to send: prepare() does nothing.
  BatchesAhead(const Sampler& sampler, Device device) : sampler_(sampler), device_(device) {}

  /// The rows `part` of batch `index`: what was prepared last, if it is that, else read now.
  Batch rows(int64_t index, const BatchPart& part);
  /// Reads these rows and starts their copy to the device. Tensors of rows() that were given out
  /// before keep their numbers.
  void prepare(int64_t index, const BatchPart& part);

 private:
  struct Prepared {
    int64_t index;
    BatchPart part;
    Batch batch;
  };
  /// One that no tensor lies over any more, and that holds so many bytes.
  std::shared_ptr<cuda::StagingBuffer> free_buffer(size_t bytes);

  const Sampler& sampler_;
  Device device_;
  std::vector<std::shared_ptr<cuda::StagingBuffer>> buffers_;
  std::optional<Prepared> prepared_;
};

}  // namespace reverie
