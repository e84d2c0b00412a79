#pragma once
/// Several texts that go on from a state that was read once.

#include <vector>

#include "layers/sequence_state.h"

namespace reverie {

/// The state of these sequences, in this order; one may be named several times. What goes on from it
/// leaves `state` as it is.
SequenceState forked_state(const SequenceState& state, const std::vector<int64_t>& of);

}  // namespace reverie
