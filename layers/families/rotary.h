#pragma once
/// Options shared by families with rotary positions, RMS norms and gated MLPs.

#include <optional>
#include <string>
#include <vector>

#include "layers/transformer_shape.h"

namespace reverie {

/// How a model trained on short texts stretches its rotary angles to longer ones.
struct RopeScaling final : Fieldset {
  std::string type = "none";
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_block_size = 8192;
  void fields(Fields&) override;
};

/// base^(-2i / head_dim) for i in 0 .. head_dim / 2, scaled: `linear` divides all by the factor;
/// `llama3` divides those that turn less than low_freq_factor times within the original block,
/// leaves those that turn more than high_freq_factor times, and blends between.
std::vector<double> inverse_frequencies(int64_t head_dim, double base, const RopeScaling&);

/// Fields that every such family reads, and the shape they mean; a family adds its own to both.
struct RotaryOptions : Fieldset {
  int64_t vocab_size = 0, block_size = 64, n_layer = 4, n_head = 4, n_embd = 128;
  std::optional<int64_t> n_kv_head, n_hidden, head_dim;
  double rope_theta = 10000, rms_norm_eps = 1e-5, dropout = 0;
  bool tie_weights = false, rematerialize = false;
  Component memory;
  void fields(Fields&) override;

 protected:
  TransformerShape rotary_shape() const;
  /// Layer i sees `window` keys, but every layer whose number, counted from 1, is a multiple of
  /// `global_every` sees all.
  void alternate(TransformerShape&, int64_t window, int64_t global_every,
                 const std::vector<double>& local, const std::vector<double>& global) const;
};

}  // namespace reverie
