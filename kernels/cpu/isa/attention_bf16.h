#pragma once
/// Attention whose products have bf16 operands (AttentionOptions::bf16); see attention.cpp for the
/// others.

#include "kernels/attention.h"

namespace reverie::cpu::REVERIE_ISA {

void attention_forward_bf16(const AttentionForward&);
void attention_backward_bf16(const AttentionBackward&);

}  // namespace reverie::cpu::REVERIE_ISA
