#pragma once
/// Queries of the kernel emulation about the emulated device's memory.

#include <cstddef>
#include <cstdint>
#include <string>

namespace reverie::cuda {

/// Bytes on either side of each block, filled with 0xff as new memory is: NaN as floats, -1 as
/// integers.
inline constexpr size_t kRedZone = 256;

/// Empty, or what was written beside a block since the last call: looks at every block.
std::string red_zone_damage();

/// How many copies to the device were taken from a StagingBuffer.
int64_t copies_from_staging_buffers();

}  // namespace reverie::cuda
