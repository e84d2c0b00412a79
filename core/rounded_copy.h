#pragma once
/// Weights of f32 beside which whoever updates them keeps a copy in bf16: products of bf16 read the
/// copy instead of rounding the weights each time (master weights: Micikevicius et al. 2018, mixed
/// precision training).

#include "core/tensor.h"

namespace reverie {

/// Until the next write to `weights`, rounded_copy() of any part of them is a part of `rounded`,
/// which holds each element rounded to nearest even. `weights` are a whole storage of f32;
/// `rounded` are as many elements of bf16 in a row, all or part of a storage on the same device.
void keep_rounded_copy(const Tensor& weights, const Tensor& rounded);

/// t in bf16, without rounding anything. Undefined where no copy is kept, t was written since, or its
/// elements do not lie in a row.
Tensor rounded_copy(const Tensor& t);

/// Weights of f32, of the shape of `rounded` (bf16, in a row), whose copy in bf16 is all that this
/// process has of them: another one updates them. rounded_copy() gives it; who reads or writes
/// their elements gets a UserError.
Tensor only_rounded(const Tensor& rounded);

}  // namespace reverie
