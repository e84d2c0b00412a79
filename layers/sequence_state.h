#pragma once
/// State that a model carries from one piece of a sequence to the next.

#include <map>
#include <string>
#include <vector>

#include "autograd/variable.h"

namespace reverie {

/// Keys and values of one layer, appended to as a sequence grows. A value: a copy goes on by itself.
/// No gradient flows through it.
class KvCache {
 public:
  /// key, value [B, T, kv_heads * D]: appended after what is there.
  void append(const Tensor& key, const Tensor& value);
  /// [B, length, kv_heads * D], views into larger buffers (rows of one batch entry are contiguous).
  Tensor key() const { return key_.slice(1, 0, length_); }
  Tensor value() const { return value_.slice(1, 0, length_); }
  int64_t length() const { return length_; }
  /// The last `count` rows, as a cache of their own.
  KvCache last(int64_t count) const;
  /// Forgets all rows but the first `length`.
  void shorten(int64_t length);

 private:
  Tensor key_, value_;
  int64_t length_ = 0;
};

/// A memory module's state: named tensors, one set per sequence of the batch (first dimension:
/// batch).
struct MemoryState {
  std::map<std::string, Variable> values;
  std::map<std::string, int64_t> counters;
  /// Cuts the graph: truncated backpropagation through time.
  void detach() {
    for (auto& [name, v] : values) v = v.detach();
  }
  /// The state of these sequences, in this order, without a graph.
  MemoryState rows(const std::vector<int64_t>& of) const;
};

struct SequenceState {
  bool use_cache =
      false;  ///< true: incremental decoding, keys and values are kept and positions go on
  std::vector<KvCache> layers;
  MemoryState memory;
  int64_t position = 0;     ///< rows seen so far (with use_cache)
  int64_t rows_before = 0;  ///< rows of memory in front of them in the cache
};

}  // namespace reverie
