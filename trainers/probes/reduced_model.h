#pragma once
/// A model's architecture at a fraction of its size.

#include "core/config.h"

namespace reverie {

/// The config of a model with the same parts and options (family, memory, kinds of layers, longest
/// text) and smaller sizes: heads of 8 features, at most 8 of them, a few layers, 64 tokens. Sizes are
/// found by the names that families give them (n_layer, n_head, n_kv_head, head_dim, n_embd,
/// n_hidden, vocab_size). As much is reduced as the model still takes; what is small already stays,
/// and a model without such options is given back as it is.
Component reduced_model(const Component& model);

}  // namespace reverie
