#pragma once
/// Tensor names in GGUF files, which go by role, and in Hugging Face's.

#include <string>

#include "layers/transformer_shape.h"

namespace reverie {

/// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight", by the names of `shape`. A
/// name that is not known stays as it is: the model will call it unexpected.
std::string published_name(const TransformerShape& shape, const std::string& name);
/// And back. InternalError for a name that the shape does not have.
std::string gguf_name(const TransformerShape& shape, const std::string& name);

}  // namespace reverie
