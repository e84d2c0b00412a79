#pragma once
/// Words in files that families of RotaryOptions share.

#include <nlohmann/json.hpp>

#include "layers/families/family.h"

namespace reverie {

// ---- config.json --------------------------------------------------------------------------------

/// Sizes, rms_norm_eps and tie_weights. `defaults`: values for what a config.json may leave out;
/// "tied", given, means that tie_word_embeddings is true by default. Refuses biases.
Json rotary_options(const HuggingFaceConfig&, const Json& defaults);

struct Rope {
  double theta;
  Json scaling;  ///< RopeScaling's options
};
/// transformers 5 has all in "rope_parameters"; 4 had "rope_theta" and, where scaled,
/// "rope_scaling".
Rope rope_of(const HuggingFaceConfig&, double default_theta);
/// RopeScaling's options from one kind of rotary angles.
Json rope_scaling_of(const HuggingFaceConfig& rope, int64_t longest);
void refuse_scaling(const HuggingFaceConfig&, const Rope&, const std::string& type);
void refuse_other_activations(const HuggingFaceConfig&);  ///< than silu
void refuse_windows(const HuggingFaceConfig&);
void refuse_windowed_layers(const HuggingFaceConfig&);  ///< in "layer_types"

/// The other way: sizes, rms_norm_eps, and rotary angles in the words of transformers 4 and 5.
Json rotary_config(const Json& options, const TransformerShape&);
/// One kind of rotary angles; `scaling` null: none.
Json rope_parameters(const Json& theta, const Json& scaling);
/// "sliding_attention" or "full_attention" for each layer.
Json layer_types(const TransformerShape&);

// ---- GGUF ---------------------------------------------------------------------------------------

/// n_kv_head, head_dim, rms_norm_eps, rope_theta and tie_weights.
Json rotary_options(GgufKeys&, double default_theta = 1e4);
int64_t gguf_head_dim(GgufKeys&);
/// RopeScaling's options. llama.cpp scales linearly where a factor is given without a type, and
/// reads the factor under its older name too; a factor of 0 is none. Llama 3's is a tensor.
Json rope_scaling(GgufKeys&);
void refuse_scaling(GgufKeys&);

void write_rotary_keys(GgufKeyWriter&, const Json& options, const TransformerShape&);
/// Linear scaling as keys. Other kinds are refused.
void write_rope_scaling(GgufKeyWriter&, const Json& options);
/// Llama 3's as well: a tensor of what each inverse frequency is divided by.
void write_llama3_scaling(GgufKeyWriter&, const Json& options, const TransformerShape&);

}  // namespace reverie
