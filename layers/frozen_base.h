#pragma once
/// Weights that a model computes with and no step changes. A checkpoint names them by path and hash
/// instead of holding them.

#include <string>
#include <vector>

#include "core/config.h"
#include "layers/module.h"

namespace reverie {

struct FrozenBase {
  std::string path;                     ///< of its files or run, as the model's config names it
  std::string prefix;                   ///< of its parameters' names in the model: "base."
  std::vector<std::string> parameters;  ///< their names; none where they are no part of the model
  std::string hash;                     ///< Module::weights_hash() of the base
  std::string model;                    ///< JSON: what a config would say to build its like
  /// False: a checkpoint gave it other weights than its files have, so that checkpoints hold them.
  bool in_files = true;
};

/// A model with a frozen base.
class BesideFrozenBase {
 public:
  virtual ~BesideFrozenBase() = default;
  /// Null where its base is trained, or it has none.
  virtual FrozenBase* frozen_base() = 0;
};

/// `opened`: the base as its files have it, before anything else became part of it; `component`: what
/// a config would say to build its like.
FrozenBase frozen_base(const std::string& path, const std::string& prefix, const Module& opened,
                       const Component& component);

/// Null where the model has none.
FrozenBase* frozen_base_of(Module& model);

/// The base's weights among `all` of a model, without the prefix: those that its hash is of. Empty
/// where some are missing.
NamedTensors base_weights(const FrozenBase& base, const NamedTensors& all);
/// The others, under their full names.
NamedTensors weights_beside(const FrozenBase& base, const NamedTensors& all);

}  // namespace reverie
