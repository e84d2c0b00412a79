#pragma once
/// Models in Hugging Face's form.

#include <string>

#include "datasets/tokenizers/tokenizer.h"
#include "layers/language_model.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// Writes into `directory` (made, or an earlier export that is replaced)
///   config.json, generation_config.json, model.safetensors: for AutoModelForCausalLM;
///   tokenizer.json, tokenizer_config.json, special_tokens_map.json: for AutoTokenizer;
///   reverie_tokenizer.json: the same tokenizer for us;
///   reverie_logits.safetensors (`tokens` i32 [1, T], `logits` f32 [1, T, V]) and
///   reverie_texts.json ({"begins", "ends", "texts", "ids"}): what this model and tokenizer make of
///   a fixed sequence and of 2,000 odd texts, for scripts/check_hf_export.py to compare with.
/// A model around a plain one (pretrained, coconut) is written as that. `tokenizer` null: the
/// model's files alone, for who keeps the tokenizer elsewhere. `verdict`: of the run, to stand in
/// config.json (trainers/runs/exported_verdict.h); null: nothing is known. UserError, before
/// anything is written, for what transformers cannot express; and for a directory that holds
/// something else.
void export_hugging_face(LanguageModel& model, const Component& config, const Tokenizer* tokenizer,
                         const std::string& directory, const Verdict* verdict = nullptr);

}  // namespace reverie
