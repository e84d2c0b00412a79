#include "layers/frozen_base.h"

#include <nlohmann/json.hpp>
#include <set>

namespace reverie {

FrozenBase frozen_base(const std::string& path, const std::string& prefix, const Module& opened,
                       const Component& component) {
  FrozenBase base{path, prefix, {}, opened.weights_hash(), component.resolved->dump(), true};
  for (const auto& [name, parameter] : opened.parameters())
    base.parameters.push_back(prefix + name);
  return base;
}

FrozenBase* frozen_base_of(Module& model) {
  auto* beside = dynamic_cast<BesideFrozenBase*>(&model);
  return beside ? beside->frozen_base() : nullptr;
}

NamedTensors base_weights(const FrozenBase& base, const NamedTensors& all) {
  const std::set<std::string> of_base(base.parameters.begin(), base.parameters.end());
  NamedTensors found;
  for (const auto& [name, tensor] : all)
    if (of_base.contains(name)) found.emplace_back(name.substr(base.prefix.size()), tensor);
  return found.size() == of_base.size() ? found : NamedTensors();
}

NamedTensors weights_beside(const FrozenBase& base, const NamedTensors& all) {
  const std::set<std::string> of_base(base.parameters.begin(), base.parameters.end());
  NamedTensors found;
  for (const auto& named : all)
    if (!of_base.contains(named.first)) found.push_back(named);
  return found;
}

}  // namespace reverie
