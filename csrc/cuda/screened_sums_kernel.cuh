// The tile kernels of screened_sums.cu: exponents from one product of float16 rows, on tensor cores.
//
// With z scaled so that a term is w 2^(x . y - |x|^2 / 2 - |y|^2 / 2), t = x . y - b, b = |y|^2 / 2 - log2 w, is
// all of its exponent that depends on the sample. A pair takes a multiply-add, the threshold's
// subtraction, a maximum, the exponential and its addition: 5 issue slots for the exponential's 8 cycles, beside
// products of another block.
#pragma once

#include <cstdint>

#include "cuda/density_items.cuh"
#include "cuda/ptx.cuh"
#include "cuda/tile_product.cuh"

namespace fastgen::cuda {
namespace {  // one source each: other tile kernels have the same words

constexpr int kScreenTile = 128;
// Pairs of a point that are computed from their rows; 64 KB of them each.
constexpr int kMostListed = 8192;

struct ScreenTask {
  TileOperand points, samples;         // one plane each
  std::int64_t bytes;                  // of a row
  float scale;                         // of a product
  const float* minus_b;                // [samples, padded] -b; -infinity beyond the last
  const std::int32_t* own;             // [points, padded] a point's own sample, or -1
  const std::int32_t* own_range;       // [point tiles, 2] the least of them, and the largest
  std::int64_t count;                  // points
  int point_tiles, part_tiles, tiles;  // tiles of points; of samples, in a part and in all
  int step;                            // of the tiles that the estimate looks at
  // Estimate, out, by part, warp column and point [parts, 4, padded points]: the largest t and the sum of
  // 2^t counted from it.
  float *peaks, *sums;
  // Sums: t from `listed` [padded points] on goes onto the point's list; `sums` are of the others, counted from there.
  const float* listed;
  unsigned* counts;     // [points] on the list, also beyond its end
  std::int64_t* lists;  // [points, kMostListed] of samples
};

__device__ __forceinline__ float minus_infinity() { return __int_as_float(0xff800000); }

// What a block keeps in shared memory beside the ring: [4, kScreenTile] by warp column, and by point and sample.
constexpr int kKept = 4 * kScreenTile;
// Two slices, 64 KB with the sums and two numbers: two blocks fit into the 164 KB of sm_80.
constexpr int kScreenStages = 2;
template <bool kEstimate>
constexpr std::int64_t kScreenBytes =
    kRingBytes<4, kScreenStages> + (kEstimate ? 2 * kKept : kKept + 2 * kScreenTile) * 4;

// Takes a row's eight terms to what the estimate knows of it: the largest t so far, and the sum.
__device__ __forceinline__ void estimate_row(const ScreenTask& task, const float (&sum)[4][4],
                                             int m, int h, int row0, int column0,
                                             const float (&minus_b)[8], float* kept) {
  const int row = tile_row(m, h), own = __ldg(task.own + row0 + row) - column0;
  float* peak = kept + static_cast<int>(threadIdx.x) / 32 % 4 * kScreenTile + row;
  const float before = *peak;
  float t[8], most = before;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    t[i] = fmaf(sum[i / 2][2 * h + i % 2], task.scale, minus_b[i]);
    if (own == tile_column(i / 2, i % 2)) t[i] = minus_infinity();
    most = fmaxf(most, t[i]);
  }
  most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
  most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
  const float from = most > minus_infinity() ? most : 0.0f;
  float terms = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) terms += exp2_flushed(t[i] - from);
  terms += __shfl_xor_sync(0xffffffffu, terms, 1);
  terms += __shfl_xor_sync(0xffffffffu, terms, 2);
  __syncwarp();  // all lanes have read what changes now
  if (threadIdx.x % 4 != 0) return;
  peak[kKept] = peak[kKept] * exp2_flushed(before - from) + terms;
  *peak = most;
}

__device__ __forceinline__ void estimate_tile(const ScreenTask& task, const float (&sum)[4][4][4],
                                              int row0, int column0, float* kept) {
  float minus_b[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    minus_b[i] = __ldg(task.minus_b + column0 + tile_column(i / 2, i % 2));
  }
  // One by one: a compiler that does not unroll a loop around exchanges would take the tile out of its registers.
  estimate_row(task, sum[0], 0, 0, row0, column0, minus_b, kept);
  estimate_row(task, sum[0], 0, 1, row0, column0, minus_b, kept);
  estimate_row(task, sum[1], 1, 0, row0, column0, minus_b, kept);
  estimate_row(task, sum[1], 1, 1, row0, column0, minus_b, kept);
  estimate_row(task, sum[2], 2, 0, row0, column0, minus_b, kept);
  estimate_row(task, sum[2], 2, 1, row0, column0, minus_b, kept);
  estimate_row(task, sum[3], 3, 0, row0, column0, minus_b, kept);
  estimate_row(task, sum[3], 3, 1, row0, column0, minus_b, kept);
}

// Puts those of eight pairs of a row that matter by themselves onto its list, and takes them out of the rest.
__device__ __forceinline__ void list_pairs(const ScreenTask& task, int place, int column0,
                                           float (&t)[8]) {
  unsigned found = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    found |= t[i] >= 0 ? 1u << i : 0u;
    if (t[i] >= 0) t[i] = minus_infinity();
  }
  while (found != 0) {
    const int i = __ffs(static_cast<int>(found)) - 1;
    found &= found - 1;
    const unsigned number = atomicAdd(task.counts + place, 1u);
    if (number < kMostListed) {
      task.lists[std::int64_t{place} * kMostListed + number] = column0 + tile_column(i / 2, i % 2);
    }
  }
}

// Adds up a row's eight terms, counted from its threshold, but for those that are listed.
__device__ __forceinline__ void add_row(const ScreenTask& task, const float (&sum)[4][4], int m,
                                        int h, int row0, int column0, bool own_tile, float* kept) {
  const int row = tile_row(m, h);
  const float listed = kept[kKept + row];
  const float* minus_b = kept + kKept + kScreenTile;
  float t[8], most = minus_infinity();
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const float2 two = *reinterpret_cast<const float2*>(minus_b + tile_column(n, 0));
    t[2 * n] = fmaf(sum[n][2 * h], task.scale, two.x) - listed;
    t[2 * n + 1] = fmaf(sum[n][2 * h + 1], task.scale, two.y) - listed;
    most = fmaxf(most, fmaxf(t[2 * n], t[2 * n + 1]));
  }
  if (own_tile) {
    const int own = __ldg(task.own + row0 + row) - column0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (own == tile_column(i / 2, i % 2)) t[i] = minus_infinity();
    }
  }
  if (most >= 0) list_pairs(task, row0 + row, column0, t);
  float terms = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) terms += exp2_flushed(t[i]);
  terms += __shfl_xor_sync(0xffffffffu, terms, 1);
  terms += __shfl_xor_sync(0xffffffffu, terms, 2);
  if (threadIdx.x % 4 == 0)
    kept[static_cast<int>(threadIdx.x) / 32 % 4 * kScreenTile + row] += terms;
}

// A block takes 128 points along one part of the samples.
template <bool kEstimate>
__global__ void __launch_bounds__(kTileThreads, 2) screen_kernel(const ScreenTask task) {
  const int tile = static_cast<int>(blockIdx.x) % task.point_tiles;
  const int part = static_cast<int>(blockIdx.x) / task.point_tiles;
  const int end = min(task.tiles, (part + 1) * task.part_tiles);
  const int step = kEstimate ? task.step : 1;
  int column = (part * task.part_tiles + step - 1) / step * step;  // the tile to multiply
  const int thread = static_cast<int>(threadIdx.x);
  float* kept = reinterpret_cast<float*>(shared_memory() + kRingBytes<4, kScreenStages>);
  for (int i = thread; i < kKept; i += kTileThreads) {
    kept[i] = kEstimate ? minus_infinity() : 0.0f;
    if (kEstimate) kept[kKept + i] = 0;
  }
  if (!kEstimate && thread < kScreenTile)
    kept[kKept + thread] = task.listed[tile * kScreenTile + thread];
  TileRing<__half, 1, 4, kScreenStages> ring(task.points, task.samples, task.bytes,
                                             shared_memory());
  int next_column = column;
  const auto next = [&] {
    next_column += step;
    if (next_column < end)
      ring.open(std::int64_t{tile} * kScreenTile, std::int64_t{next_column} * kScreenTile);
  };
  if (column < end) {
    ring.open(std::int64_t{tile} * kScreenTile, std::int64_t{column} * kScreenTile);
    ring.start(next);
  }
  for (; column < end; column += step) {
    const int column0 = column * kScreenTile;
    if (!kEstimate) {
      __syncthreads();  // the tile before is done with these
      if (thread < kScreenTile) {
        kept[kKept + kScreenTile + thread] = __ldg(task.minus_b + column0 + thread);
      }
    }
    float sum[4][4][4];
    ring.multiply(sum, next);  // barriers in there
    if (kEstimate) {
      estimate_tile(task, sum, tile * kScreenTile, column0, kept);
    } else {
      const bool own_tile = column0 <= __ldg(task.own_range + 2 * tile + 1) &&
                            __ldg(task.own_range + 2 * tile) < column0 + kScreenTile;
      // One by one, as above.
      add_row(task, sum[0], 0, 0, tile * kScreenTile, column0, own_tile, kept);
      add_row(task, sum[0], 0, 1, tile * kScreenTile, column0, own_tile, kept);
      add_row(task, sum[1], 1, 0, tile * kScreenTile, column0, own_tile, kept);
      add_row(task, sum[1], 1, 1, tile * kScreenTile, column0, own_tile, kept);
      add_row(task, sum[2], 2, 0, tile * kScreenTile, column0, own_tile, kept);
      add_row(task, sum[2], 2, 1, tile * kScreenTile, column0, own_tile, kept);
      add_row(task, sum[3], 3, 0, tile * kScreenTile, column0, own_tile, kept);
      add_row(task, sum[3], 3, 1, tile * kScreenTile, column0, own_tile, kept);
    }
  }
  __syncthreads();
  const std::int64_t padded = std::int64_t{task.point_tiles} * kScreenTile;
  for (int i = thread; i < kKept; i += kTileThreads) {
    const std::int64_t to =
        (std::int64_t{part} * 4 + i / kScreenTile) * padded + tile * kScreenTile + i % kScreenTile;
    if (kEstimate) task.peaks[to] = kept[i];
    task.sums[to] = kept[(kEstimate ? kKept : 0) + i];
  }
}

}  // namespace
}  // namespace fastgen::cuda
