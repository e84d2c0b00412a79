#pragma once
/// A model in a GGUF file: llama.cpp's names for shapes and tensors.

#include "core/gguf_writer.h"
#include "layers/pretrained/plain_model.h"

namespace reverie {

/// Adds the model's metadata and tensors. Matrices are stored as `type`, as llama.cpp's converter
/// does; norms, biases and learned positions as f32. The tensors are read when the file is saved:
/// the model must live until then. UserError for what the format leaves to its reader and the model
/// has otherwise: exact GELU in GPT-2, another scale of attention, pattern of windows, local rotary
/// base or a Gemma without soft-caps than the published ones.
void write_gguf_model(GgufWriter& out, const PlainModel& plain, GgufTensorType type);

}  // namespace reverie
