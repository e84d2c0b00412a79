#pragma once
// Tensor names in GGUF files and in Hugging Face's.

#include <string>
#include <vector>

namespace reverie {

// GGUF's architectures that are built here; they are called like our families.
const std::vector<std::string>& gguf_architectures();

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight". A name that is not known stays
// as it is: the model will call it unexpected.
std::string published_name(const std::string& architecture, const std::string& name);
// And back. InternalError for a name that the architecture does not have.
std::string gguf_name(const std::string& architecture, const std::string& name);

}  // namespace reverie
