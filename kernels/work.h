#pragma once
/// The least work of a call, for the work() that stands beside a kernel's arguments: the bytes of
/// its tensors, each touched once, and the floating-point operations where those are the bound.

#include "core/profile.h"
#include "core/tensor.h"

namespace reverie {

template <class... T>
profile::Work touched(const T&... tensors) {
  return {0, ((tensors.defined() ? double(tensors.bytes()) : 0.0) + ...)};
}
template <class... T>
profile::Work computed(double flops, const T&... tensors) {
  return {flops, touched(tensors...).bytes};
}

}  // namespace reverie
