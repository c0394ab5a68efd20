// Products of split rows: x . y in float32 accuracy from float16 tensor cores, for tiles of 128 x 128.
//
// A row v is stored as hi + lo, float16 numbers 2^-11 apart, in slices of 32 features: 64 bytes of hi, then
// 64 of lo. Both parts are loaded once for the three products hi.hi, hi.lo and lo.hi that matter.
//
// How they are added (measured on a model of the tensor cores, 2048 features of a ReLU, errors in units of
// 2^-24 |x| |y|; Hopper, Ampere):
//   one chain, lo.hi, hi.lo, hi.hi:      rms 13.7, 26; of a row with itself -206, -400 (sums are truncated)
//   as here, promoted every 32 features: rms 0.29, 0.40; of a row with itself -2.1, -4.2, at most 11
//   promoted every 128 features:         rms 1.0; of a row with itself -12.8
//   float32 in chains of 128 (the CPU):  rms 0.16, at most 4
// so every slice's products are added to float32 totals, which cost 64 registers and a thirtieth of the time.
// lo.hi and hi.lo of one feature are neighbours in one product of 16: whatever the hardware does within it,
// x . y and y . x get the same bits, on which MMD(X, X) = 0 rests.
//
// A slice's 1.6 M products take 256 cycles of writes and 768 of reads of shared memory, 75 % of an H100's
// tensor peak at most, and ask L2 for 19 bytes a cycle at 45 % of it.
#pragma once

#include <cstdint>

#include "cuda/slice_ring.cuh"

namespace fastgen::cuda {

class SplitProduct {
 public:
  static constexpr int kSliceFeatures = 32;
  using Real = float;
  using Sums = float[4][4][4];  // a thread's, see sum_row

  struct Place {
    static constexpr bool kAhead = true;
    static __device__ __forceinline__ unsigned chunk(unsigned row, unsigned chunk) {
      return chunk ^ (row % 8);
    }
  };
  using Ring = SliceRing<Place>;

  __device__ __forceinline__ SplitProduct() {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const std::uint32_t base = shared_address(shared_memory());
    // Lanes 0 to 15 of a load give rows 0 to 15 of the left operand, lanes 16 to 31 the same rows 16 bytes
    // on; of the right one lanes 0 to 7 and 8 to 15 are rows 0 to 7 and those 16 bytes on.
    left_ = base + (64 * (warp / 4) + lane % 16) * 128;
    right_ = base + (kSumTile + 32 * (warp % 4) + lane % 8 + lane / 16 * 8) * 128;
    left_chunk_ = ((lane / 16) ^ (lane % 8)) << 4;
    right_chunk_ = ((lane / 8 % 2) ^ (lane % 8)) << 4;
  }

  static __device__ __forceinline__ float& at(Sums& sums, int r, int n, int e) {
    return sums[r / 2][n][r % 2 * 2 + e];
  }

  // The products of the ring's next tile.
  __device__ __forceinline__ void multiply(Ring& ring, int slices, Sums& total) const {
#pragma unroll
    for (int i = 0; i < 64; ++i) total[i / 16][i / 4 % 4][i % 4] = 0;
    ring.begin();
#pragma unroll 1
    for (int slice = 0; slice < slices; ++slice) {
      const std::uint32_t offset = ring.arrive();
      float sum[4][4][4];
#pragma unroll
      for (int i = 0; i < 64; ++i) sum[i / 16][i / 4 % 4][i % 4] = 0;
#pragma unroll
      for (int step = 0; step < 2; ++step) add_step(offset, step, sum);
#pragma unroll
      for (int i = 0; i < 64; ++i) {
        total[i / 16][i / 4 % 4][i % 4] += sum[i / 16][i / 4 % 4][i % 4];
      }
    }
  }

 private:
  // Of the features of two pairs (a, a'), (b, b'): (a, b) and (a', b').
  static __device__ __forceinline__ std::uint32_t first(std::uint32_t a, std::uint32_t b) {
    return __byte_perm(a, b, 0x5410);
  }
  static __device__ __forceinline__ std::uint32_t second(std::uint32_t a, std::uint32_t b) {
    return __byte_perm(a, b, 0x7632);
  }

  // 16 features: with lo beside hi on the left and hi beside lo on the right a product of 16 items has
  // lo.hi and hi.lo of 8 features.
  __device__ __forceinline__ void add_step(std::uint32_t offset, int step, Sums& sum) const {
    const std::uint32_t left = left_ + offset, right = right_ + offset;
    const std::uint32_t low = 4u << 4;  // chunks from hi to lo
    std::uint32_t high[2][4], even[2][4], odd[2][4];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const std::uint32_t rows = right + n * 16 * kSumSliceBytes,
                          chunk = right_chunk_ ^ (step << 5);
      std::uint32_t lows[4];
      load_matrices(high[n], rows + chunk);
      load_matrices(lows, rows + (chunk ^ low));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        even[n][i] = first(high[n][i], lows[i]);
        odd[n][i] = second(high[n][i], lows[i]);
      }
    }
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const std::uint32_t rows = left + m * 16 * kSumSliceBytes, chunk = left_chunk_ ^ (step << 5);
      std::uint32_t highs[4], lows[4], evens[4], odds[4];
      load_matrices(highs, rows + chunk);
      load_matrices(lows, rows + (chunk ^ low));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        evens[i] = first(lows[i], highs[i]);
        odds[i] = second(lows[i], highs[i]);
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        multiply_add(sum[m][n], evens, even[n / 2][n % 2 * 2], even[n / 2][n % 2 * 2 + 1]);
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        multiply_add(sum[m][n], odds, odd[n / 2][n % 2 * 2], odd[n / 2][n % 2 * 2 + 1]);
      }
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        multiply_add(sum[m][n], highs, high[n / 2][n % 2 * 2], high[n / 2][n % 2 * 2 + 1]);
      }
    }
  }

  std::uint32_t left_, right_, left_chunk_, right_chunk_;
};

}  // namespace fastgen::cuda
