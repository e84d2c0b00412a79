#pragma once
/// A computation in a copy of this process.

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

namespace reverie {

/// The values that `compute` returns, at most `most`, from a forked copy of this process that then
/// ends. What `compute` changes, statics of plug-ins included, stays in the copy. nullopt where no
/// copy could be made, `compute` threw, or `seconds` went by. The copy has this thread and new ones
/// of OpenMP; it must not wait for another.
std::optional<std::vector<double>> in_forked_copy(
    size_t most, double seconds, const std::function<std::vector<double>()>& compute);

}  // namespace reverie
