#pragma once
/// Attention by cuDNN, where the build has it and attention_choice() is cudnn.

#include <string>

#include "kernels/attention.h"

namespace reverie::cuda {

/// False where cuDNN was not asked for, or does not serve the case; nothing was done then. Beyond
/// what AttentionOptions::bf16 says, the output and the gradients are rounded to bf16.
bool cudnn_attention_forward(const AttentionForward&);
bool cudnn_attention_backward(const AttentionBackward&);

/// Name and version; "" where this build has none.
std::string cudnn_library();

}  // namespace reverie::cuda
