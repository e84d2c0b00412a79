#pragma once
/// A model's keys and values of a text as a differentiable value: what a coprocessor reads.

#include <string>
#include <vector>

#include "autograd/variable.h"

namespace reverie {

/// One layer's keys and values: [B, T, kv_heads * D], keys turned to their positions already.
struct LayerKeyValues {
  Variable key, value;
};

/// Keys and values of all layers. A value: copies share what they hold, and no function changes it
/// in place, so that gradients flow to exactly those rows that were recorded with a graph.
struct KeyValues {
  std::vector<LayerKeyValues> layers;
  std::string base;  ///< hash of the weights that made them (weights_hash()); "":
                     ///< not known

  int64_t batch() const { return layers.at(0).key.size(0); }
  int64_t length() const { return layers.empty() ? 0 : layers[0].key.size(1); }
  KeyValues slice(int64_t begin, int64_t end) const;  ///< rows, half-open
  KeyValues detach() const;                           ///< outside any graph
  /// These rows and then `more`. UserError where the two come from different bases or differ in
  /// layers, batch or width.
  KeyValues append(const KeyValues& more) const;

  /// A safetensors file: "layers.0.key", ...; the base's hash stands in its metadata.
  void save(const std::string& file) const;
  /// DataError when the file holds something else, UserError when another base made it (`base` "":
  /// any will do).
  static KeyValues load(const std::string& file, const std::string& base = "");
};

}  // namespace reverie
