#include "trainers/optimizers/sharded_masters.h"

#include "autograd/node.h"
#include "core/error.h"
#include "core/rounded_copy.h"
#include "core/storage.h"
#include "kernels/copy.h"

namespace reverie {

ShardedMasters::ShardedMasters(ParameterBucket& bucket, Communicator& communicator)
    : bucket_(bucket),
      communicator_(communicator),
      begin_(bucket.begin.at(size_t(communicator.rank()))),
      end_(bucket.begin.at(size_t(communicator.rank()) + 1)) {
  const Tensor& gradients = bucket.gradients;
  const DType dtype = gradients.dtype();
  bucket.values = Tensor::zeros({end_ - begin_}, dtype, gradients.device());
  for (size_t i = 0; i < bucket.members.size(); ++i) {
    Member& m = bucket.members[i];
    Variable& v = m.variable;
    const bool in_f32 = v.read_by() == ReadBy::any;
    if (in_f32) read_in_f32_.push_back(i);
    Tensor place;
    if (bucket.owner(m) == communicator.rank()) {
      place = Tensor::over(bucket.values.storage(), v.shape(), dtype, m.offset - begin_);
    } else if (in_f32) {
      place = Tensor::empty(v.shape(), dtype, v.device());
    } else {
      elsewhere_.push_back({i, {}});
      place = place_in_gradients(m);
    }
    place.copy_from(v.tensor());
    v.set_tensor(place);
  }
  hide_gradients();
  // The blocks that the parameters lay in are of sizes that nobody else asks for.
  allocator(gradients.device()).release_cached();
  bucket.rounded = Tensor::zeros({bucket.begin.back()}, DType::bf16, gradients.device());
  for (Elsewhere& e : elsewhere_) e.rounded = only_rounded(rounded_of(bucket.members[e.member]));
}

Tensor ShardedMasters::own_rounded() const {
  return bucket_.rounded.slice(0, begin_, end_);
}
Tensor ShardedMasters::rounded_of(const Member& m) const {
  return Tensor::over(bucket_.rounded.storage(), m.variable.shape(), DType::bf16, m.offset);
}
Tensor ShardedMasters::place_in_gradients(const Member& m) const {
  return Tensor::over(bucket_.gradients.storage(), m.variable.shape(), bucket_.gradients.dtype(),
                      m.offset);
}

// A backward pass would write over gathered values.
void ShardedMasters::hide_gradients() {
  for (Member& m : bucket_.members) {
    m.variable.clear_grad();
    m.variable.impl()->grad_buffer = Tensor();
  }
}

void ShardedMasters::begin_step() {
  if (gathered_) {
    bucket_.gradients.storage()->bump();  // copies in bf16 are of the weights that lay there
    for (Member& m : bucket_.members) m.variable.set_grad_buffer(place_in_gradients(m));
    for (const Elsewhere& e : elsewhere_) bucket_.members[e.member].variable.set_tensor(e.rounded);
    gathered_ = false;
    return exchange();
  }
  for (const Tensor& t : kept())
    require(
        bool(rounded_copy(t)),
        "weights were written between two training steps by something else than the optimizer. "
        "With distributed.shard_optimizer and precision bf16 the other ranks do not hear of it: "
        "write them before the first step or in an evaluation, or set shard_optimizer to false");
}

void ShardedMasters::exchange() {
  if (gathered_) throw InternalError("an update of weights before begin_step()");
  if (begin_ < end_ && !rounded_copy(bucket_.values)) {
    Tensor rounded = own_rounded();
    kernel::cast(rounded.device(), {bucket_.values, rounded});
  }
  communicator_.all_gather(bucket_.rounded, bucket_.begin);
  for (const size_t i : read_in_f32_) {
    const Member& m = bucket_.members[i];
    Tensor values = m.variable.tensor();
    communicator_.broadcast(values, bucket_.owner(m));
  }
  keep_copies();
}

void ShardedMasters::keep_copies() {
  if (begin_ < end_) keep_rounded_copy(bucket_.values, own_rounded());
  for (const size_t i : read_in_f32_)
    if (const Member& m = bucket_.members[i]; bucket_.owner(m) != communicator_.rank())
      keep_rounded_copy(m.variable.tensor(), rounded_of(m));
  for (const Elsewhere& e : elsewhere_) {
    e.rounded.storage()->bump();  // they are others now
    keep_rounded_copy(e.rounded, rounded_of(bucket_.members[e.member]));
  }
}

void ShardedMasters::gather() {
  if (gathered_) return;
  hide_gradients();
  if (begin_ < end_) bucket_.gradients.slice(0, begin_, end_).copy_from(bucket_.values);
  communicator_.all_gather(bucket_.gradients, bucket_.begin);
  keep_rounded_copy(bucket_.gradients, bucket_.rounded);
  for (const Elsewhere& e : elsewhere_) {
    Member& m = bucket_.members[e.member];
    m.variable.set_tensor(place_in_gradients(m));
  }
  gathered_ = true;
}

std::vector<Tensor> ShardedMasters::kept() const {
  std::vector<Tensor> values;
  if (begin_ < end_) values.push_back(bucket_.values);
  for (const size_t i : read_in_f32_)
    if (const Member& m = bucket_.members[i]; bucket_.owner(m) != communicator_.rank())
      values.push_back(m.variable.tensor());
  return values;
}

std::vector<Tensor> ShardedMasters::gathered() const {
  std::vector<Tensor> values;
  if (!gathered_) return values;
  for (const Elsewhere& e : elsewhere_)
    values.push_back(bucket_.members[e.member].variable.tensor());
  return values;
}

}  // namespace reverie
