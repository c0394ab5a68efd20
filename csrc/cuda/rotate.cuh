// The Walsh-Hadamard transform of a row in shared memory (or in memory that one block owns) by a team of
// 1 or more whole warps: four stages at a time, sixteen features in the registers of a thread.
#pragma once

#include "cuda/gpu.hpp"

namespace fastgen::cuda {

// Where feature i of a row lies: bits 5 to 8 of the index change bits 2 to 4, so that the butterflies'
// strides of 16 and 256, and 16-byte reads, all hit 32 banks.
__device__ __forceinline__ int placed(int i) { return i ^ (i >> 3 & 28) ^ (i >> 4 & 16); }

// All threads of the team; a team of one warp is one of several in its block.
template <int kWarps>
__device__ __forceinline__ void meet() {
  if (kWarps == 1) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

// In registers. Recursive, because loops whose step doubles are not unrolled.
template <int kRadix, int kWidth = 1>
__device__ __forceinline__ void transform(float (&a)[kRadix]) {
#pragma unroll
  for (int pair = 0; pair < kRadix / 2; ++pair) {
    const int i = pair / kWidth * 2 * kWidth + pair % kWidth;
    const float sum = __fadd_rn(a[i], a[i + kWidth]);
    a[i + kWidth] = __fsub_rn(a[i], a[i + kWidth]);
    a[i] = sum;
  }
  if constexpr (2 * kWidth < kRadix) transform<kRadix, 2 * kWidth>(a);
}

// The transform's first four stages: features 16 g to 16 g + 15.
__device__ __forceinline__ void first_stages(float* z, int rotated, int thread, int step) {
  for (int group = thread; group < rotated / 16; group += step) {
    float a[16];
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const float4 four = *reinterpret_cast<const float4*>(z + placed(16 * group + 4 * part));
      a[4 * part] = four.x;
      a[4 * part + 1] = four.y;
      a[4 * part + 2] = four.z;
      a[4 * part + 3] = four.w;
    }
    transform(a);
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      *reinterpret_cast<float4*>(z + placed(16 * group + 4 * part)) =
          make_float4(a[4 * part], a[4 * part + 1], a[4 * part + 2], a[4 * part + 3]);
    }
  }
}

// log2 kRadix more stages, at strides from 2^kBits on; the largest magnitude that this thread wrote.
template <int kBits, int kRadix, int kStep>
__device__ __forceinline__ float more_stages(float* z, int rotated, int thread) {
  float largest = 0;
  for (int group = thread; group < rotated / kRadix; group += kStep) {
    const int below = group & ((1 << kBits) - 1);
    // `placed` is linear in the bits, and those of j are free in the group's first index.
    const int first = placed((group - below) * kRadix + below);
    float a[kRadix];
#pragma unroll
    for (int j = 0; j < kRadix; ++j) a[j] = z[first ^ placed(j << kBits)];
    transform(a);
#pragma unroll
    for (int j = 0; j < kRadix; ++j) {
      z[first ^ placed(j << kBits)] = a[j];
      largest = fmaxf(largest, fabsf(a[j]));
    }
  }
  return largest;
}

// All stages from strides of 2^kBits on, in blocks of at most 2^kMostBits features.
template <int kWarps, int kMostBits, int kBits = 4>
__device__ __forceinline__ float last_stages(float* z, int rotated, int block_bits, int thread) {
  constexpr int kStep = 32 * kWarps;
  meet<kWarps>();
  const int left = block_bits - kBits;
  if constexpr (kMostBits - kBits > 4) {
    if (left > 4) {
      more_stages<kBits, 16, kStep>(z, rotated, thread);
      return last_stages<kWarps, kMostBits, kBits + 4>(z, rotated, block_bits, thread);
    }
  }
  if constexpr (kMostBits - kBits >= 4) {
    if (left == 4) return more_stages<kBits, 16, kStep>(z, rotated, thread);
  }
  if constexpr (kMostBits - kBits >= 3) {
    if (left == 3) return more_stages<kBits, 8, kStep>(z, rotated, thread);
  }
  if constexpr (kMostBits - kBits >= 2) {
    if (left == 2) return more_stages<kBits, 4, kStep>(z, rotated, thread);
  }
  return more_stages<kBits, 2, kStep>(z, rotated, thread);
}

}  // namespace fastgen::cuda
