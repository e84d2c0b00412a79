#pragma once
/// The file formats behind load_pretrained(): each says which model it holds and where its tensors
/// are, under Hugging Face's names.

#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/config.h"
#include "layers/module.h"
#include "layers/transformer_shape.h"

namespace reverie {

struct PretrainedFiles {
  Json component;  ///< {"type": "llama", ...}
  std::vector<StoredTensor> tensors;
  /// Names of those whose read() is a view of the mapped file, or compact (core/compact_weights.h).
  std::set<std::string> in_place;
  /// In which type of 16 bits the weights were saved, by a config.json that says so.
  std::optional<DType> narrow = {};
  /// Norm weights are w where the family multiplies by 1 + w (see TransformerShape).
  bool norms_as_published = true;
  std::optional<int32_t> bos;
  std::vector<int32_t> ends;  ///< tokens that end a text, the usual one first
};

PretrainedFiles open_hugging_face(const std::string& directory);
/// The same without its tensors, whose files need not be there; `narrow` is given alone here.
PretrainedFiles open_hugging_face_shape(const std::string& directory);
/// The files of such a directory that open_hugging_face() reads.
std::vector<std::string> hugging_face_files(const std::string& directory);
PretrainedFiles open_gguf_model(const std::string& file);
PretrainedFiles open_llama2c(const std::string& file);

class Family;
/// The shape that a file's component means; errors as resolve_component().
TransformerShape shape_of(const Family&, const Json& component, const std::string& file);
/// The bias that the family's files have beside this weight, and the model has not; else "".
std::string missing_bias(const Family&, const TransformerShape&, const std::string& weight);

/// Rows of a query or key projection [heads * D, in], from neighbouring pairs (rotary positions as
/// Meta, llama2.c and GGUF's llama have them) to pairs half a head apart (Hugging Face): row 2i + p
/// of a head becomes row p D/2 + i.
Tensor half_split_rows(const Tensor& weight, int64_t heads);
/// The same for a stored tensor, when it is read.
StoredTensor half_split_rows(StoredTensor stored, int64_t heads);

}  // namespace reverie
