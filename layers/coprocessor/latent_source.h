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
  Tensor tokens = {};      // i32 [B, T]; undefined where only keys and values are known
};

// What a source learns beside the base's loss on what follows: a sum over targets, nats.
struct OwnLoss {
  Variable sum;
  int64_t targets = 0;
};

class LatentSource : public Module {
 public:
  // How many latents a group gets (N_L).
  virtual int64_t count() const = 0;
  // [B, G * count(), C], read by the base as input embeddings; or, where writes_cache(), [B, G *
  // count(), layers * 2 * kv_heads * D]: keys and values of every layer of the base, as
  // packed_cache() joins them.
  virtual Variable latents(const TextView& view) = 0;
  // Whether the latents are put into the base's cache, instead of being read as embeddings.
  virtual bool writes_cache() const { return false; }
  // What the base's rows of latents, and those of the tokens behind them, see of what lies before.
  // With writes_cache(): everything.
  virtual GroupSight sight() const { return {count()}; }
  // The part of the training loss that is the source's own; the rest is the base's.
  virtual double own_share() const { return 0; }
  // Of these groups, whose latents are given; asked only where own_share() > 0.
  virtual OwnLoss own_loss(const TextView& view, const Variable& latents) { return {}; }
  // Floating-point operations for one group of latents.
  virtual double flops_per_group(int64_t length) const = 0;
  // Of reading a text by itself, once for all of its groups.
  virtual double flops_per_text(int64_t length) const { return 0; }
};

// The same learned rows [count, C] for every group of limits [B, G]: [B, G * count, C].
Variable for_each_group(const Variable& rows, const Tensor& limits);

// Keys and values of all layers side by side: [B, T, layers * 2 * kv_heads * D], layer by layer,
// keys before values; and back.
Variable packed_cache(const KeyValues& cache);
KeyValues unpacked_cache(const Variable& packed, int64_t layers);

using LatentRegistry = Registry<LatentSource, const LatentSite&>;
template <>
LatentRegistry& LatentRegistry::instance();

}  // namespace reverie
