// Sums over lanes in a fixed order, and what they add to integer totals.
#pragma once

#include <cstdint>

#include "common/limbs.hpp"
#include "cuda/ptx.cuh"
#include "cuda/sum_tiles.hpp"

namespace fastgen::cuda {

__device__ __forceinline__ double add_lanes(double value, int width) {
  return __dadd_rn(value, __shfl_xor_sync(0xffffffffu, value, width));
}

// The residues of a run of columns modulo 8: lane a % 4 has 2 a and 2 a + 1, which are added already.
__device__ __forceinline__ double add_four_lanes(double pair) {
  return add_lanes(add_lanes(pair, 1), 2);
}

// The residues of a run of rows, lane / 4, for 8 columns: the same tree. Every lane gets the sum of one
// column, whose number it is told.
__device__ __forceinline__ double add_eight_rows(const double (&sums)[8], int& column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  double four[4], two[2];
  const bool first = (lane & 4) != 0, second = (lane & 8) != 0, third = (lane & 16) != 0;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const double sent = first ? sums[c] : sums[c + 4];
    four[c] = __dadd_rn(first ? sums[c + 4] : sums[c], __shfl_xor_sync(0xffffffffu, sent, 4));
  }
#pragma unroll
  for (int c = 0; c < 2; ++c) {
    const double sent = second ? four[c] : four[c + 2];
    two[c] = __dadd_rn(second ? four[c + 2] : four[c], __shfl_xor_sync(0xffffffffu, sent, 8));
  }
  const double sent = third ? two[0] : two[1];
  column = (first ? 4 : 0) + (second ? 2 : 0) + (third ? 1 : 0);
  return __dadd_rn(third ? two[1] : two[0], __shfl_xor_sync(0xffffffffu, sent, 16));
}

__device__ __forceinline__ double add_warp(double value) {
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) value = add_lanes(value, width);
  return value;
}

__device__ __forceinline__ double power_of_two(int exponent) {
  return __longlong_as_double(static_cast<long long>(exponent + 1023) << 52);
}

struct Limbs {
  long long high, low;
};
// |value scale| <= 2^37: the high limb counts units of the grid and the low one 2^-37 of them.
__device__ __forceinline__ Limbs limbs_of(double value, double scale) {
  const double units = __dmul_rn(value, scale);
  const long long high = __double2ll_rn(units);
  const double rest = __dmul_rn(__dsub_rn(units, static_cast<double>(high)), 0x1p37);
  return {high, __double2ll_rn(rest)};
}

__device__ __forceinline__ void add_limbs(double value, double scale, Limb* high, Limb* low) {
  const Limbs limbs = limbs_of(value, scale);
  if (limbs.high != 0) atomicAdd(high, static_cast<Limb>(limbs.high));
  if (limbs.low != 0) atomicAdd(low, static_cast<Limb>(limbs.low));
}

}  // namespace fastgen::cuda
