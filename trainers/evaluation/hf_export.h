#pragma once
// Models in Hugging Face's form.

#include <string>

#include "layers/language_model.h"

namespace reverie {

// Writes `directory`/{config.json, model.safetensors, reverie_logits.safetensors}: what
// transformers' GPT2LMHeadModel (type gpt2) or LlamaForCausalLM (llama) loads, and this model's
// logits on a fixed sequence (`tokens` i32 [1, T], `logits` f32 [1, T, V]) to compare with. Biases
// that GPT-2 has and the model has not are written as zeros. UserError for a model with a memory
// module: transformers has none.
void export_hf(LanguageModel& model, const Component& config, const std::string& directory);

}  // namespace reverie
