// What the density kernels share on the device: points of a list, numbers of rows, the end of a sum.
#pragma once

#include <cstdint>

#include "cuda/density_problem.hpp"
#include "cuda/row_items.cuh"

namespace fastgen::cuda {

__device__ __forceinline__ std::int64_t point_row(const PointList& list, std::int64_t place) {
  return list.rows ? list.rows[list.begin + place] : list.begin + place;
}

// The type is the same for all threads, so the branches cost little beside the load.
__device__ __forceinline__ double wide_item(const RowView& rows, std::int64_t row,
                                            std::int64_t feature) {
  if (rows.dtype == DType::float64) return number(__ldg(items_of<double>(rows, row) + feature));
  if (rows.dtype == DType::float32) {
    return static_cast<double>(number(__ldg(items_of<float>(rows, row) + feature)));
  }
  return static_cast<double>(number(__ldg(items_of<__half>(rows, row) + feature)));
}

// 2^-x for x >= 0 to 2^-41 of it, without results below 2^-1022. Half of the work of exp2, which is exact.
__device__ __forceinline__ double exp2_of_minus(double x) {
  // Taylor's series of 2^r for |r| <= 1/2: the next term is 2.2e-13.
  constexpr double kPowers[10] = {
      0x1.62e42fefa39efp-1,  0x1.ebfbdff82c58fp-3,  0x1.c6b08d704a0c0p-5,  0x1.3b2ab6fba4e77p-7,
      0x1.5d87fe78a6731p-10, 0x1.430912f86c787p-13, 0x1.ffcbfc588b0c7p-17, 0x1.62c0223a5c824p-20,
      0x1.b5253d395e7c4p-24, 0x1.e4cf5158b8ecap-28};
  const double steps = rint(x);
  const double r = steps - x;
  double series = kPowers[9];
#pragma unroll
  for (int i = 8; i >= 0; --i) series = fma(series, r, kPowers[i]);
  series = fma(series, r, 1.0);
  // At least 2^(-1/2): its exponent stays above that of subnormal numbers for so many steps.
  if (!(steps <= 1021.0)) return 0.0;
  const long long down = static_cast<long long>(static_cast<int>(steps)) << 52;
  return __longlong_as_double(__double_as_longlong(series) - down);
}

// The natural logarithm of a sum of terms that were counted from `anchor`; infinite: there were none.
__device__ __forceinline__ double log_of_sum(double sum, double rate, double anchor) {
  return isfinite(anchor) ? log(sum) - kLn2 * rate * anchor : log(0.0);
}

// What the largest term has of a sum; 0 unless it is more than half.
__device__ __forceinline__ double share_of_largest(double largest, double sum) {
  return largest > 0.5 * sum ? largest / sum : 0.0;
}

// Adds the number of a warp's threads that say yes; called by whole warps.
__device__ __forceinline__ void count_votes(bool yes, unsigned long long* to) {
  const unsigned votes = __ballot_sync(0xffffffffu, yes);
  if (threadIdx.x % 32 == 0 && votes != 0) {
    atomicAdd(to, static_cast<unsigned long long>(__popc(votes)));
  }
}

}  // namespace fastgen::cuda
