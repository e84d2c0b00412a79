#include "layers/sequence_state.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/copy.h"

namespace reverie {
namespace {

void put(Tensor& buffer, const Tensor& rows, int64_t at) {
  Tensor place = buffer.slice(1, at, at + rows.size(1));
  kernel::strided_copy(rows.device(), {rows, false, place});
}

}  // namespace

void KvCache::append(const Tensor& key, const Tensor& value) {
  require(key.rank() == 3 && key.shape() == value.shape(),
          "a KV cache takes keys and values [B, T, C], got {} and {}", key, value);
  require(!key_ || (key_.size(0) == key.size(0) && key_.size(2) == key.size(2)),
          "a KV cache of {} got rows {} of another batch or width", key_, key);
  const int64_t needed = length_ + key.size(1);
  // A buffer that a copy of this cache reads is left alone: copies go on independently.
  if (!key_.defined() || needed > key_.size(1) || !key_.unique() || !value_.unique()) {
    // Doubling keeps the cost of growing linear in the final length.
    const Shape shape{key.size(0), std::max<int64_t>({needed, 2 * length_, 64}), key.size(2)};
    Tensor bigger_key = Tensor::empty(shape, key.dtype(), key.device()),
           bigger_value = Tensor::empty(shape, key.dtype(), key.device());
    if (length_ > 0) {
      put(bigger_key, this->key(), 0);
      put(bigger_value, this->value(), 0);
    }
    key_ = bigger_key;
    value_ = bigger_value;
  }
  put(key_, key, length_);
  put(value_, value, length_);
  length_ = needed;
}

KvCache KvCache::last(int64_t count) const {
  require(count >= 0 && count <= length_, "the last {} rows of a cache of {}", count, length_);
  KvCache rest;
  if (count > 0)
    rest.append(key_.slice(1, length_ - count, length_), value_.slice(1, length_ - count, length_));
  return rest;
}

void KvCache::shorten(int64_t length) {
  require(length >= 0 && length <= length_, "a KV cache of {} rows cannot be shortened to {}",
          length_, length);
  length_ = length;
}

MemoryState MemoryState::rows(const std::vector<int64_t>& of) const {
  MemoryState chosen;
  chosen.counters = counters;
  for (const auto& [name, value] : values) {
    const Tensor all = value.tensor().contiguous();
    Shape shape = all.shape();
    require(shape.rank() >= 1, "the memory {} is {}: its first dimension must be the sequences",
            name, all);
    shape[0] = int64_t(of.size());
    Tensor some = Tensor::empty(shape, all.dtype(), all.device());
    for (size_t i = 0; i < of.size(); ++i) {
      Tensor place = some.slice(0, int64_t(i), int64_t(i) + 1);
      place.copy_from(all.slice(0, of[i], of[i] + 1));
    }
    chosen.values[name] = Variable(some);
  }
  return chosen;
}

}  // namespace reverie
