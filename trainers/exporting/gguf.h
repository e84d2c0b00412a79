#pragma once
/// Models in one GGUF file, for llama.cpp and what reads its files.

#include <string>

#include "core/gguf_writer.h"
#include "datasets/tokenizers/tokenizer.h"
#include "layers/language_model.h"
#include "trainers/runs/verdict.h"

namespace reverie {

/// Writes the model, matrices as `type`, and its tokenizer (null: the file says that it has none).
/// A model around a plain one (pretrained, coconut) is written as that. `verdict`: of the run, to
/// stand in the metadata (trainers/runs/exported_verdict.h); null: nothing is known. UserError,
/// before anything is written, for what the format cannot express.
GgufWriter::Saved export_gguf(const LanguageModel& model, const Component& config,
                              const Tokenizer* tokenizer, GgufTensorType type,
                              const std::string& file, const Verdict* verdict = nullptr);

}  // namespace reverie
