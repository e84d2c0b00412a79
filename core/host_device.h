#pragma once
/// Functions shared by host code, by kernels that are compiled once per instruction set, and by
/// device code.

#if defined(__CUDACC__)
#define REVERIE_HOST_DEVICE __host__ __device__
#else
#define REVERIE_HOST_DEVICE
#endif

/// Always inlined, so that no out-of-line copy exists: a copy compiled for AVX-512 could otherwise
/// be the one that the linker keeps for every caller, on every machine.
#define REVERIE_INLINE REVERIE_HOST_DEVICE inline __attribute__((always_inline))
