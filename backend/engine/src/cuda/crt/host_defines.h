// The words that NVIDIA's runtime headers put before their declarations, for a compiler that makes
// host code alone.
//
// CUDA 13 keeps its own file of this name in a package for its compiler, which is not installed with
// libtorch. Where it is, it is found first.
#pragma once

#define __host__
#define __device__
#define __global__
#define __shared__
#define __constant__
#define __managed__
#define __device_builtin__
#define __cudart_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __align__(n)
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define CUDAAPI
