#pragma once
/// Cosines and sines of rotary positions, kept between calls: a training step turns rows at the same
/// positions in every layer, forward and backward.

#include <cstdint>

namespace reverie::cpu {

/// For every position in [least, end): the cosines of position * frequency[i], i < half, and then
/// the sines. The table is the calling thread's, and valid until its next call. T: float or double.
template <class T>
const T* rotations(const double* frequency, int64_t half, int64_t least, int64_t end);

}  // namespace reverie::cpu
