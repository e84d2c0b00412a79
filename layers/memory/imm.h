#pragma once
/// The Implicit Memory Module (J. I. Orlicki, "Beyond Words", arXiv 2502.21030), as published and in
/// causal forms.

#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie {

enum class ImmMode { as_published, full_rank, causal_mean, segment, slots };

struct ImmOptions final : Fieldset {
  std::string mode = "causal_mean";
  int64_t low_rank_dim = 128;
  std::optional<int64_t> num_slots;  ///< auto: floor(sqrt(n_embd)), the paper's
  double dropout = 0;
  int64_t segment_length = 16;
  int64_t chunk_length = 16;
  bool carry_state = false;
  void fields(Fields&) override;
};

/// Weights are shared by all layers; every layer has its own memory of N slots [B, N, d], zero at
/// the start of a text. After each block, with s = write(x), q = query(x), keys K = M P^T (low rank
/// k), values V = value(M), scale 1/sqrt(k):
///   as_published  M[0] = mean of s over the WHOLE block; x = LN(x + softmax(q K^T) V).
///                 Leaks the future: row t reads its own target.
///   full_rank     the same without P: K = M, scale 1/sqrt(d). Leaks as well.
///   causal_mean   as_published, but row t reads the mean of s over rows 0..t.
///   segment       M[j mod N] = mean of s over segment j, readable from segment j + 1 on.
///   slots         the paper's own definition made causal: a learned gate writes chunk means into
///                 slots in turn, rows of later chunks read the slots written so far, and a
///                 learned gate merges: x = x + sigmoid(merge_gate(x)) r.
class Imm final : public MemoryModule {
 public:
  Imm(const ImmOptions&, const MemorySite&);
  MemoryState initial(int64_t batch, DType, Device) const override { return {}; }
  Variable after_block(const LayerView&, MemoryState&) override;
  /// The whole-block mean needs the whole block.
  bool incremental() const override {
    return mode_ != ImmMode::as_published && mode_ != ImmMode::full_rank;
  }
  bool carries_memory() const override { return carry_state_; }
  /// The slots; of causal_mean, the mean. Modes that read whole blocks keep nothing.
  std::vector<Variable> readable(const MemoryState&, int64_t batch) const override;
  double flops_per_token() const override;

 private:
  Variable whole_block(const Variable& x);
  Variable running_mean(const Variable& x, MemoryState&, const std::string& layer);
  Variable in_pieces(const Variable& x, MemoryState&, const std::string& layer);
  /// All slots of a layer [B, N, d], the oldest first; those never written are zero, before them.
  Variable slots_of(const MemoryState&, const std::string& layer, int64_t batch) const;
  /// What pieces with the given means [B, n, d], n <= N, write, with the slots so far, the oldest
  /// first (undefined: none).
  Variable written_by(const Variable& means, const Variable& slots) const;
  /// M P^T [B, n, k] of slots M [B, n, d].
  Variable keys_of(const Variable& slots) const;
  /// softmax(q K^T / sqrt(k)) V for queries [B, T, k], keys [B, n, k] and values [B, n, d].
  Variable read(const Variable& query, const Variable& keys, const Variable& values) const;
  /// The weights of values, from scores [B, T, n]; valid: as softmax() has it.
  Variable weights_by(const Variable& scores, const Tensor& valid = {}) const;
  /// The same for the rows of whole pieces, of which each sees the N newest slots: of `before` slots,
  /// and of those that the pieces before its own wrote, whose columns stand behind them.
  Variable weights_of_pieces(const Variable& scores, int64_t before) const;
  Variable merge(const Variable& x, const Variable& r) const {
    return layer_norm(add(x, r), {}, {}, 1e-5);
  }

  ImmMode mode_;
  int64_t layers_, features_, key_size_, slots_, piece_;
  double dropout_;
  bool carry_state_;
  Linear *write_, *query_, *value_;
  Linear *project_ = nullptr, *write_gate_ = nullptr, *merge_gate_ = nullptr;
};

}  // namespace reverie
