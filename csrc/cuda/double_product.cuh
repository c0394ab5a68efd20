// Products of float64 rows on tensor cores, for tiles of 128 x 128: fused multiply-adds, features in ascending
// order, so that x . y and y . x have the same bits. Slices have 16 features.
//
// Per 4 features a warp reads 12 doubles a lane from shared memory for 32 products of 8 x 8 x 4, 24 cycles
// for the 64 that these take at an H100's peak.
#pragma once

#include <cstdint>

#include "cuda/slice_ring.cuh"

namespace fastgen::cuda {

class DoubleProduct {
 public:
  static constexpr int kSliceFeatures = 16;
  using Real = double;
  using Sums = double[8][4][2];  // a thread's, see sum_row

  // Half a warp reads 4 features, two chunks, of 4 rows at a time.
  struct Place {
    static constexpr bool kAhead = false;
    static __device__ __forceinline__ unsigned chunk(unsigned row, unsigned chunk) {
      return chunk ^ (row % 4 * 2);
    }
  };
  using Ring = SliceRing<Place>;

  static __device__ __forceinline__ double& at(Sums& sums, int r, int n, int e) {
    return sums[r][n][e];
  }

  // The products of the ring's next tile.
  __device__ __forceinline__ void multiply(Ring& ring, int slices, Sums& total) const {
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i / 8][i / 2 % 4][i % 2] = 0;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // Rows 8 further on have their chunks at the same places.
    const unsigned left = (64 * (warp / 4) + lane / 4) * 128 + lane % 2 * 8;
    const unsigned right = (kSumTile + 32 * (warp % 4) + lane / 4) * 128 + lane % 2 * 8;
    const unsigned first_chunk = Place::chunk(lane / 4, lane % 4 / 2) * 16;
    ring.begin();
#pragma unroll 1
    for (int slice = 0; slice < slices; ++slice) {
      const std::uint32_t offset = ring.arrive();
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        const unsigned char* chunks = shared_memory() + offset + (first_chunk ^ step * 32);
        double a[8], b[4];
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          b[n] = *reinterpret_cast<const double*>(chunks + right + n * 1024);
        }
#pragma unroll
        for (int r = 0; r < 8; ++r) {
          a[r] = *reinterpret_cast<const double*>(chunks + left + r * 1024);
        }
#pragma unroll
        for (int r = 0; r < 8; r += 2) {
#pragma unroll
          for (int n = 0; n < 4; ++n) {
            multiply_add(total[r][n], total[r + 1][n], a[r], a[r + 1], b[n]);
          }
        }
      }
    }
  }
};

}  // namespace fastgen::cuda
