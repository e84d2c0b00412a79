#pragma once
/// The plain model behind another one, for writers of other programs' files.

#include "core/config.h"
#include "layers/transformer.h"

namespace reverie {

/// A model around a plain one, whose weights are all that it has ("pretrained", "coconut").
class AroundPlainModel {
 public:
  virtual ~AroundPlainModel() = default;
  virtual const Transformer& plain_model() const = 0;
  virtual const Component& plain_component() const = 0;  ///< what builds it
  /// The scale of low-rank updates beside its weights (Linear::add_low_rank_update); 0: none.
  virtual double low_rank_scale() const { return 0; }
};

struct PlainModel {
  const Transformer& model;
  Component component;
  double low_rank_scale = 0;
};

/// `model`, which `component` built, or the model that it is around. UserError where it is no
/// transformer of a published family, or has a memory module: the message says what is exported
/// instead.
PlainModel plain_model(const LanguageModel& model, const Component& component);

/// Its parameters, on the host, with low-rank updates added to the weights they stand beside.
NamedTensors plain_state(const PlainModel&);

}  // namespace reverie
