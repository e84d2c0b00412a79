#include "layers/forked_state.h"

namespace reverie {
namespace {

// Rows [B, T, C] of these sequences.
Tensor gathered(const Tensor& rows, const std::vector<int64_t>& of) {
  Tensor out =
      Tensor::empty({int64_t(of.size()), rows.size(1), rows.size(2)}, rows.dtype(), rows.device());
  for (size_t i = 0; i < of.size(); ++i) {
    Tensor place = out.slice(0, int64_t(i), int64_t(i) + 1);
    place.copy_from(rows.slice(0, of[i], of[i] + 1));
  }
  return out;
}

}  // namespace

SequenceState forked_state(const SequenceState& state, const std::vector<int64_t>& of) {
  SequenceState forked;
  forked.use_cache = state.use_cache;
  forked.position = state.position;
  forked.rows_before = state.rows_before;
  forked.memory = state.memory.rows(of);
  forked.layers.resize(state.layers.size());
  for (size_t i = 0; i < state.layers.size(); ++i) {
    if (state.layers[i].length() == 0) continue;
    forked.layers[i].append(gathered(state.layers[i].key(), of),
                            gathered(state.layers[i].value(), of));
  }
  return forked;
}

}  // namespace reverie
