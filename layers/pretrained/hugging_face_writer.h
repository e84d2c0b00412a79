#pragma once
/// A model in the words of transformers: config.json and the tensors beside it.

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/safetensors.h"
#include "layers/pretrained/plain_model.h"

namespace reverie {

/// The token that begins a text, and those that end one; none: the model knows no such token.
struct TextEnds {
  std::optional<int32_t> begin;
  std::vector<int32_t> end;
};

/// config.json with every key on which a result depends, so that nothing is left to a default of
/// transformers: rotary angles in the words of its versions 4 and 5, absent tokens as null.
/// UserError for what the family's class cannot compute.
Json hugging_face_config(const PlainModel&, const TextEnds&);
/// generation_config.json.
Json generation_config(const TextEnds&);
/// The tensors of that class, f32: biases that GPT-2 has and the model has not are zeros; norms of
/// Gemma are w, where the model multiplies by 1 + w.
NamedTensors hugging_face_tensors(const PlainModel&);

}  // namespace reverie
