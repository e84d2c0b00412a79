#pragma once
// What writes latents into a model's context: a coprocessor, or one of the baselines it must beat.

#include "core/registry.h"
#include "layers/key_values.h"
#include "layers/row_context.h"
#include "layers/transformer.h"

namespace reverie {

// Where a source is built: beside this base.
struct LatentSite {
  const Transformer& base;
  const Build& build;
};

// What a source may read of a text. Nothing of it that lies behind a group's limit may change that
// group's latents: `reverie check mask` proves it.
struct TextView {
  const KeyValues& text;   // the base's, of every row
  const Variable& hidden;  // the base's final hidden states [B, T, C]
  const Tensor& limits;    // i32 [B, G]: group g of entry b may read rows 0 ..
                           // limits[b, g] - 1
};

class LatentSource : public Module {
 public:
  // How many latents a group gets (N_L).
  virtual int64_t count() const = 0;
  // [B, G * count(), C], read by the base as input embeddings.
  virtual Variable latents(const TextView& view) = 0;
  // What the base's rows of latents, and those of the tokens behind them, see of what lies before.
  virtual GroupSight sight() const { return {count()}; }
  // Floating-point operations for one group of latents.
  virtual double flops_per_group(int64_t length) const = 0;
};

// The same learned rows [count, C] for every group of limits [B, G]: [B, G * count, C].
Variable for_each_group(const Variable& rows, const Tensor& limits);

using LatentRegistry = Registry<LatentSource, const LatentSite&>;
template <>
LatentRegistry& LatentRegistry::instance();

}  // namespace reverie
