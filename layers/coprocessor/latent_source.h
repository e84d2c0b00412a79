#pragma once
/// Latent sources write latents into a model's context: a coprocessor, or a baseline it must beat.

#include <memory>
#include <vector>

#include "core/registry.h"
#include "layers/key_values.h"
#include "layers/row_context.h"
#include "layers/transformer.h"

namespace reverie {

/// Where a source is built: beside this base.
struct LatentSite {
  const Transformer& base;
  const Build& build;
};

class LatentSource;

/// A text as a source of latents reads it. What a group of latents may depend on is declared:
///   its own text      entry b of the batch for the groups of entry b
///   before its limit  of that, the first limits[b, g] tokens for group g
/// The usual interface reaches nothing else. The gate probes both boundaries of every source, at the
/// run's own sizes (latent_canary.h).
class TextView {
 public:
  /// keys: the base's, of every row; hidden: the base's final hidden states [B, T, C]; limits i32
  /// [B, G]; tokens i32 [B, T], undefined where only keys and values are known.
  TextView(KeyValues keys, Variable hidden, Tensor limits, Tensor tokens = {})
      : keys_(std::move(keys)),
        hidden_(std::move(hidden)),
        limits_(std::move(limits)),
        tokens_(std::move(tokens)) {}

  const Tensor& limits() const { return limits_; }
  int64_t batch() const { return limits_.size(0); }
  int64_t groups() const { return limits_.size(1); }
  int64_t base_layers() const { return int64_t(keys_.layers.size()); }

  /// For `rows_per_group` rows of every group, [B, G * rows_per_group, ..]: each sees the base's
  /// keys and values before its group's limit, and, causally, its group. Block i of who asks reads
  /// the base's layer layers[i]; none: its own number.
  std::unique_ptr<RowContext> beside(int64_t rows_per_group,
                                     const std::vector<int64_t>& layers = {}) const;
  /// The base's final hidden states at the last row before each group's limit, [1, B * G, C].
  Variable last_hidden() const;
  /// The last token before each group's limit, i32 [B, G]; UserError where tokens are not known.
  Tensor last_tokens() const;

  /// More than a group may depend on: the texts up to the last row that any group of the batch may
  /// see, for who masks them by itself. InternalError unless `asking` says that it asks
  /// (LatentSource::asks_for_whole_text()).
  struct Whole {
    Variable hidden;  ///< [B, T', C]
    Tensor tokens;    ///< i32 [B, T'], may be undefined
    int64_t length = 0;
  };
  Whole whole(const LatentSource& asking) const;

 private:
  Tensor last_rows(int64_t time) const;

  KeyValues keys_;
  Variable hidden_;
  Tensor limits_, tokens_;
};

/// A source's own loss beside the base's loss on what follows: a sum over targets, nats.
struct OwnLoss {
  Variable sum;
  int64_t targets = 0;
};

class LatentSource : public Module {
 public:
  /// How many latents a group gets (N_L).
  virtual int64_t count() const = 0;
  /// [B, G * count(), C], read by the base as input embeddings; or, where writes_cache(), [B, G *
  /// count(), layers * 2 * kv_heads * D]: keys and values of every layer of the base, as
  /// packed_cache() joins them.
  virtual Variable latents(const TextView& view) = 0;
  /// Whether it calls TextView::whole(). The gate says so in its verdict.
  virtual bool asks_for_whole_text() const { return false; }
  /// Whether the latents are put into the base's cache, instead of being read as embeddings.
  virtual bool writes_cache() const { return false; }
  /// The context that the base's rows of latents, and of the tokens behind them, see.
  /// With writes_cache(): everything.
  virtual GroupMask mask() const { return {count()}; }
  /// The part of the training loss that is the source's own; the rest is the base's.
  virtual double own_share() const { return 0; }
  /// The own loss of these groups, whose latents are given; called only where own_share() > 0.
  virtual OwnLoss own_loss(const TextView& view, const Variable& latents) { return {}; }
  /// Forwards of the base, one after another, in which a group's latents are made, besides the one
  /// over its text. Rounding adds up over them (rounding.h).
  virtual int64_t base_forwards() const { return 0; }
  /// Floating-point operations for one group of latents.
  virtual double flops_per_group(int64_t length) const = 0;
  /// Operations of reading a text, once for all of its groups.
  virtual double flops_per_text(int64_t length) const { return 0; }
};

/// The same learned rows [count, C] for every group of limits [B, G]: [B, G * count, C].
Variable for_each_group(const Variable& rows, const Tensor& limits);

/// Keys and values of all layers side by side: [B, T, layers * 2 * kv_heads * D], layer by layer,
/// keys before values; and back.
Variable packed_cache(const KeyValues& cache);
KeyValues unpacked_cache(const Variable& packed, int64_t layers);

using LatentRegistry = Registry<LatentSource, const LatentSite&>;
template <>
LatentRegistry& LatentRegistry::instance();

}  // namespace reverie
