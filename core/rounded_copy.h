#pragma once
/// Weights of f32 beside which whoever updates them keeps a copy in bf16: products of bf16 read the
/// copy instead of rounding the weights each time (master weights: Micikevicius et al. 2018, mixed
/// precision training).

#include "core/tensor.h"

namespace reverie {

/// Until the next write to `weights`, rounded_copy() of any part of them is a part of `rounded`. Both
/// are whole storages of as many elements, f32 and bf16, on one device, and `rounded` holds each
/// element of `weights` rounded to nearest even.
void keep_rounded_copy(const Tensor& weights, const Tensor& rounded);

/// t in bf16, without rounding anything. Undefined where no copy is kept, t was written since, or its
/// elements do not lie in a row.
Tensor rounded_copy(const Tensor& t);

}  // namespace reverie
