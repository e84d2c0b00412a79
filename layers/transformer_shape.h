#pragma once
/// The differences between decoder-only families, as data that the same blocks read.

#include <string>
#include <vector>

#include "autograd/ops/matmul.h"
#include "core/config.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"

namespace reverie {

/// Properties that may differ from layer to layer.
struct LayerShape {
  int64_t window = 0;  ///< a row sees this many keys, its own included; 0: all before it
  /// Rotary positions (Su et al. 2021): pair i turns by position * inverse_frequencies[i], head_dim
  /// / 2 of them. Empty: none.
  std::vector<double> inverse_frequencies;
};

struct TransformerShape {
  int64_t vocabulary = 0, block_size = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0,
          features = 0, hidden = 0;
  std::vector<LayerShape> per_layer;  ///< one a layer
  Norm norm = Norm::layer;
  double norm_eps = 1e-5;
  /// Gemma's files hold w for a norm that multiplies by 1 + w. In memory it is 1 + w like any other;
  /// reading and writing such files convert.
  bool norm_stored_minus_one = false;
  Unary activation = Unary::gelu;
  bool bias = false;                  ///< of every linear layer and norm
  bool query_key_value_bias = false;  ///< of these projections alone
  bool tied = true;                   ///< the output projection is the embedding table
  double embedding_scale = 1;         ///< embeddings are multiplied by it
  double attention_scale = 0;         ///< scores are multiplied by it; 0: 1 / sqrt(head_dim)
  double attention_softcap = 0;       ///< of scores; 0: none
  double logit_softcap = 0;
  double dropout = 0;
  bool rematerialize = false;
  WeightLayout layout = WeightLayout::out_in;
  /// Parameter names, Hugging Face's. An empty one of the second group: the block has no such part.
  struct Names {
    std::string root, embedding, blocks, final_norm, head;
    std::string attention_norm, attention, mlp_norm, mlp, attention_out, up, down;

    std::string qkv;                   ///< query, key and value from one projection (GPT-2), or
    std::string query, key, value;     ///< from three
    std::string query_norm, key_norm;  ///< of each head, before it is turned
    std::string attention_post_norm, mlp_post_norm;  ///< before the sum with the residual stream
    std::string gate;       ///< activation(gate) * up instead of activation(up)
    std::string positions;  ///< a learned table of them
  } names;
  Component memory;
};

}  // namespace reverie
