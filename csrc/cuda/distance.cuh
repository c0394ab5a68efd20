// The canonical squared distance (csrc/README.md) by one warp: lane l of the warp is lane l of the
// definition, every operation is rounded on its own, so the bits are the CPU's.
#pragma once

#include <cstdint>

#include "common/rows.hpp"
#include "cuda/gpu.hpp"

namespace fastgen::cuda {

constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ __forceinline__ double widen(double value) { return value; }
__device__ __forceinline__ double widen(float value) { return static_cast<double>(value); }
__device__ __forceinline__ double widen(__half value) {
  return static_cast<double>(__half2float(value));
}

__device__ __forceinline__ const unsigned char* row_address(const RowView& rows, std::int64_t row) {
  return rows.data + row * rows.row_stride;
}

// From one row to kCount others: the row is loaded and widened once. A lane's features lie 32 apart, so
// a warp's load is one run of 64, 128 or 256 bytes; four rounds of them in flight hide the memory.
template <int kCount, class X, class Y>
__device__ __forceinline__ void sq_distances_of(const X* x, const Y* const (&y)[kCount], int d,
                                                double (&sq)[kCount]) {
#pragma unroll
  for (int c = 0; c < kCount; ++c) sq[c] = 0.0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) & 31; i < d; i += 32) {
    const double a = widen(__ldg(x + i));
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      const double t = __dsub_rn(a, widen(__ldg(y[c] + i)));
      sq[c] = __dadd_rn(sq[c], __dmul_rn(t, t));
    }
  }
  // Both lanes of an exchange form the same sum, so all 32 end with lane 0's.
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      sq[c] = __dadd_rn(sq[c], __shfl_xor_sync(kWholeWarp, sq[c], width));
    }
  }
}

template <int kCount, class X, class Y>
__device__ __forceinline__ void sq_distances_as(const unsigned char* x,
                                                const unsigned char* const (&y)[kCount], int d,
                                                double (&sq)[kCount]) {
  const Y* rows[kCount];
#pragma unroll
  for (int c = 0; c < kCount; ++c) rows[c] = reinterpret_cast<const Y*>(y[c]);
  sq_distances_of(reinterpret_cast<const X*>(x), rows, d, sq);
}

template <int kCount, class X>
__device__ __forceinline__ void sq_distances_from(const unsigned char* x,
                                                  const unsigned char* const (&y)[kCount],
                                                  DType y_type, int d, double (&sq)[kCount]) {
  if (y_type == DType::float32) {
    sq_distances_as<kCount, X, float>(x, y, d, sq);
  } else if (y_type == DType::float16) {
    sq_distances_as<kCount, X, __half>(x, y, d, sq);
  } else {
    sq_distances_as<kCount, X, double>(x, y, d, sq);
  }
}

// Squared distances from one row of x to rows of y, in every lane; called by whole warps. The types are
// the same for all threads of a kernel, so these branches cost nothing.
template <int kCount>
__device__ __forceinline__ void warp_sq_distances(const RowView& x, std::int64_t x_row,
                                                  const RowView& y,
                                                  const std::int32_t (&y_rows)[kCount],
                                                  double (&sq)[kCount]) {
  const unsigned char* from = row_address(x, x_row);
  const unsigned char* to[kCount];
#pragma unroll
  for (int c = 0; c < kCount; ++c) to[c] = row_address(y, y_rows[c]);
  const int d = static_cast<int>(x.d);
  if (x.dtype == DType::float32) {
    sq_distances_from<kCount, float>(from, to, y.dtype, d, sq);
  } else if (x.dtype == DType::float16) {
    sq_distances_from<kCount, __half>(from, to, y.dtype, d, sq);
  } else {
    sq_distances_from<kCount, double>(from, to, y.dtype, d, sq);
  }
}

__device__ __forceinline__ double warp_sq_distance(const RowView& x, std::int64_t x_row,
                                                   const RowView& y, std::int32_t y_row) {
  const std::int32_t rows[1] = {y_row};
  double sq[1];
  warp_sq_distances<1>(x, x_row, y, rows, sq);
  return sq[0];
}

// Squared distances of the pairs that the first `pairs` lanes hold, each to its lane. Up to four pairs in a
// row that share their row of x read it once.
__device__ __forceinline__ double warp_sq_distances_of_lanes(const RowView& x, std::int32_t x_row,
                                                             const RowView& y, std::int32_t y_row,
                                                             int pairs) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  double own = 0.0;
  int run = 1;
  for (int first = 0; first < pairs; first += run) {
    const std::int32_t from = __shfl_sync(kWholeWarp, x_row, first);
    const unsigned same = __ballot_sync(kWholeWarp, lane < pairs && x_row == from) >> first;
    run = 1;
    while (run < 4 && (same >> run & 1u) != 0) ++run;
    std::int32_t rows[4];
    double sq[4];
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      rows[q] = __shfl_sync(kWholeWarp, y_row, first + (q < run ? q : run - 1));
    }
    warp_sq_distances<4>(x, from, y, rows, sq);
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      if (lane == first + q) own = sq[q];
    }
  }
  return own;
}

}  // namespace fastgen::cuda
