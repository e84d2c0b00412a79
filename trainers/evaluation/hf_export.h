#pragma once
// Models in Hugging Face's form.

#include <string>

#include "layers/language_model.h"

namespace reverie {

// Writes `directory`/{config.json, model.safetensors, reverie_logits.safetensors}: what
// transformers' AutoModelForCausalLM (and load_pretrained) loads, and this model's logits on a
// fixed sequence
// (`tokens` i32 [1, T], `logits` f32 [1, T, V]) to compare with. Biases that GPT-2 has and the
// model has not are written as zeros; Gemma's norms as w, where the model multiplies by 1 + w.
// UserError for a model with a memory module: transformers has none; and for a type that is not
// Hugging Face's.
void export_hf(LanguageModel& model, const Component& config, const std::string& directory);

}  // namespace reverie
