// Values of a warp's lanes put together, in every lane, in one order; called by whole warps.
#pragma once

#include "cuda/gpu.hpp"

namespace fastgen::cuda {

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) value += __shfl_xor_sync(0xffffffffu, value, width);
  return value;
}

__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, width));
  }
  return value;
}

__device__ __forceinline__ double warp_max(double value) {
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) {
    value = fmax(value, __shfl_xor_sync(0xffffffffu, value, width));
  }
  return value;
}

}  // namespace fastgen::cuda
