#pragma once
/// Pretrained models from the files that others publish.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "layers/language_model.h"

namespace reverie {

/// Tokens that a vocabulary gets.
struct NewTokens {
  int64_t end = 0;    ///< the new ids are end - count to end - 1; rows behind them stay
  int64_t count = 0;  ///< 0: none, and every token below `end` must have a row
  /// Their rows of the embedding table, and of an output projection of its own, begin as this
  /// token's; nullopt: as the mean of all rows before them.
  std::optional<int64_t> copied = {};
};

struct PretrainedOptions {
  DType dtype = DType::f32;  ///< of the parameters: what is stored is cast to it
  Device device = {};
  bool frozen = true;
  /// Longest sequence, instead of the model's own. Rotary models work at any (beyond what they were
  /// trained for, worse); learned positions cannot be extended.
  std::optional<int64_t> block_size = {};
  bool rematerialize = false;  ///< TransformerShape::rematerialize, which no file says
  std::optional<NewTokens> new_tokens = {};
};

struct LoadedModel {
  std::unique_ptr<LanguageModel> model;  ///< in eval mode
  Component component;                   ///< what a config's "model" would say to build its like
  /// Token ids, where the model's files give them. Whether texts begin with `bos` is the
  /// tokenizer's to say: Tokenizer::adds_begin_of_text().
  std::optional<int32_t> bos;
  std::vector<int32_t> ends;  ///< tokens that end a text, the usual one first
};

/// `path` is one of
///   a Hugging Face directory: config.json, and model.safetensors or model.safetensors.index.json
///     with its shards; model types as the families register them (layers/families);
///   a .gguf file of those architectures, in any type that GgufFile::dequantize knows;
///   a llama2.c .bin file (legacy header).
/// Weights are mapped, and converted one tensor at a time; no initial values are drawn. Frozen ones
/// that the file has in this dtype and layout stay mapped, so that processes share them. UserError
/// when the path cannot be read; DataError for a file that is damaged, asks for a feature that is
/// not built (naming the key), or holds tensors that do not fit: one error lists all that are
/// missing, unexpected, transposed or of a wrong shape.
/// New tokens that do not fit are UserErrors, see rows_with().
/// In a dry run it is the shape alone: of a directory, config.json is enough, and frozen matrices
/// count in the type that its "dtype" names, where that has 16 bits and the weights are not there.
LoadedModel load_pretrained(const std::string& path, const PretrainedOptions& = {});

/// The files that it reads for such a path.
std::vector<std::string> pretrained_files(const std::string& path);

}  // namespace reverie
