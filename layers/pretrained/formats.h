#pragma once
// The file formats behind load_pretrained(): each says which model it holds and where its tensors
// are, under Hugging Face's names.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "layers/module.h"

namespace reverie {

struct PretrainedFiles {
  Json component;  // {"type": "llama", ...}
  std::vector<StoredTensor> tensors;
  // Norm weights are w where the family multiplies by 1 + w (see TransformerShape).
  bool norms_as_published = true;
  std::optional<int32_t> bos;
  std::vector<int32_t> ends;  // tokens that end a text, the usual one first
};

PretrainedFiles open_hugging_face(const std::string& directory);
PretrainedFiles open_gguf_model(const std::string& file);
PretrainedFiles open_llama2c(const std::string& file);

// The component that a config.json (parsed from `file`) describes. DataError naming the key when it
// asks for what is not built.
Json hugging_face_component(const Json& config, const std::string& file);

// Rows of a query or key projection [heads * D, in], from neighbouring pairs (rotary positions as
// Meta, llama2.c and GGUF's llama have them) to pairs half a head apart (Hugging Face): row 2i + p
// of a head becomes row p D/2 + i.
Tensor half_split_rows(const Tensor& weight, int64_t heads);
// The same for a stored tensor, when it is read.
StoredTensor half_split_rows(StoredTensor stored, int64_t heads);

}  // namespace reverie
