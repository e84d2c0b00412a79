#include "layers/memory/repeated_state.h"

#include <algorithm>

#include "core/error.h"

namespace reverie {
namespace {

// Values may be equal: the Variable itself is looked for.
size_t place_of(const Variable& v, std::span<const Variable> among) {
  const auto found = std::find_if(among.begin(), among.end(),
                                  [&](const Variable& o) { return o.impl() == v.impl(); });
  return size_t(found - among.begin());
}

}  // namespace

RepeatedState::RepeatedState(const MemoryState& begun) : counters_(begun.counters) {
  for (const auto& [name, value] : begun.values) names_.push_back(name);
}

std::vector<Variable> RepeatedState::values(const MemoryState& state) {
  std::vector<Variable> values;
  for (const auto& [name, value] : state.values) values.push_back(value);
  return values;
}

MemoryState RepeatedState::begun(std::span<const Variable> values) const {
  MemoryState state;
  state.counters = counters_;
  for (size_t i = 0; i < names_.size(); ++i) state.values[names_[i]] = values[i];
  return state;
}

void RepeatedState::append_changes(const MemoryState& ended, std::span<const Variable> values,
                                   std::vector<Variable>& results) {
  if (noted_) {
    for (const std::string& name : appended_) {
      const auto found = ended.values.find(name);
      require(found != ended.values.end() && found->second.defined(),
              "memory state \"{}\": a layer left it in the forward pass, and not when backward "
              "computed the layer again. With \"rematerialize\", the hooks of a memory module must "
              "do the same for the same state: keep nothing of a call in the module, or set "
              "\"rematerialize\" to false",
              name);
      results.push_back(found->second);
    }
    return;
  }
  noted_ = true;
  ended_counters_ = ended.counters;
  for (const auto& [name, value] : ended.values) {
    if (!value) continue;  // asked for, and never given
    if (const size_t at = place_of(value, values); at < values.size()) {
      places_.push_back({name, false, at});
      continue;
    }
    const size_t at = place_of(value, results);
    if (at == results.size()) {
      results.push_back(value);
      appended_.push_back(name);
    }
    places_.push_back({name, true, at});
  }
}

MemoryState RepeatedState::ended(std::span<const Variable> values,
                                 std::span<const Variable> results) const {
  MemoryState state;
  state.counters = ended_counters_;
  for (const Place& p : places_) state.values[p.name] = (p.changed ? results : values)[p.at];
  return state;
}

}  // namespace reverie
