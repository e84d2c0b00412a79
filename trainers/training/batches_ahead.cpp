#include "trainers/training/batches_ahead.h"

#include <utility>

namespace reverie {

Batch BatchesAhead::rows(int64_t index, const BatchPart& part) {
  if (auto p = std::exchange(prepared_, std::nullopt);
      p && p->index == index && p->part.first_row == part.first_row && p->part.rows == part.rows)
    return std::move(p->batch);
  return sampler_.rows(index, part.first_row, part.rows);
}

void BatchesAhead::prepare(int64_t index, const BatchPart& part) {
  if (device_.kind == DeviceKind::cpu) return;
  prepared_.reset();
  Batch batch = sampler_.rows(index, part.first_row, part.rows);
  const size_t bytes = batch.tokens.bytes() + batch.targets.bytes();
  const std::shared_ptr<cuda::StagingBuffer> buffer = free_buffer(bytes);
  // The tensors share the buffer, so that it is not written again before they are gone.
  const auto storage = std::make_shared<Storage>(buffer->host(), bytes, Device{}, [buffer] {});
  int64_t offset = 0;
  for (Tensor* t : {&batch.tokens, &batch.targets}) {
    Tensor there = Tensor::over(storage, t->shape(), t->dtype(), offset);
    there.copy_from(*t);
    offset += t->numel();
    *t = there;
  }
  buffer->upload();
  prepared_ = Prepared{index, part, std::move(batch)};
}

std::shared_ptr<cuda::StagingBuffer> BatchesAhead::free_buffer(size_t bytes) {
  std::erase_if(buffers_, [&](const auto& p) { return p->bytes() < bytes; });
  for (const auto& p : buffers_)
    if (p.use_count() == 1) return p;
  return buffers_.emplace_back(std::make_shared<cuda::StagingBuffer>(bytes));
}

}  // namespace reverie
