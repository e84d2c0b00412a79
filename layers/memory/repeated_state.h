#pragma once
/// The state of a memory module around a layer that is computed again in backward.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "layers/sequence_state.h"

namespace reverie {

/// As rematerialize_all() wants it, the layer becomes a function of the state's values: values()
/// in, what the layer changed out. Every call begins with the same state. Holds names and counters,
/// and no value.
class RepeatedState {
 public:
  explicit RepeatedState(const MemoryState& begun);

  /// Some may be undefined.
  static std::vector<Variable> values(const MemoryState&);
  /// The state that the layer begins with, of these values().
  MemoryState begun(std::span<const Variable> values) const;
  /// Appends to `results` the values of `ended` that are neither among values() nor there already,
  /// and notes which name has which. `results`: what the function gives back besides. A later call
  /// appends the values of the same names, since Variables that were two may be one in backward;
  /// UserError where it has none.
  void append_changes(const MemoryState& ended, std::span<const Variable> values,
                      std::vector<Variable>& results);
  /// The state behind the layer, of the values() that it began with and all results.
  MemoryState ended(std::span<const Variable> values, std::span<const Variable> results) const;

 private:
  struct Place {
    std::string name;
    bool changed;  ///< among results, else among values()
    size_t at;
  };
  std::vector<std::string> names_;
  std::map<std::string, int64_t> counters_, ended_counters_;
  bool noted_ = false;
  std::vector<Place> places_;
  std::vector<std::string> appended_;
};

}  // namespace reverie
