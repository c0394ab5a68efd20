// The kernel of tile_sums.cu: what becomes of a tile's products. Squared distances, those that cancellation has
// spoiled again from the rows, each row's nearest, and terms counted from it.
#pragma once

#include <cstdint>
#include <utility>

#include "cuda/tile_sums_products.cuh"
#include "cuda/warp.cuh"

namespace fastgen::cuda {
namespace {

// The squared distance of a pair from its rows, in every lane of a warp.
__device__ __forceinline__ double pair_square(const TileSumsTask& task, std::int64_t point,
                                              std::int64_t sample) {
  double sum = 0;
  for (std::int64_t f = threadIdx.x % 32; f < task.points.d; f += 32) {
    const double t = wide_item(task.points, point, f) * task.unit -
                     wide_item(task.samples, sample, f) * task.unit;
    sum = fma(t, t, sum);
  }
  return warp_sum(sum);
}

// Lowers a row's number to the least of its 8 in each of 4 neighbouring lanes.
__device__ __forceinline__ void lower(unsigned long long* to, double least) {
  least = fmin(least, __shfl_xor_sync(0xffffffffu, least, 1));
  least = fmin(least, __shfl_xor_sync(0xffffffffu, least, 2));
  if (threadIdx.x % 4 == 0) atomicMin(to, bits_of(least));
}

// Lowers the bound on a row's nearest squared distance to the most that one of 8 may be.
__device__ __forceinline__ void bound_nearest(const TileSumsTask& task,
                                              const TileSumsShared& shared, int row,
                                              const double (&square)[4][2]) {
  double least = infinite_square();
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const double both = shared.point_squares[row] + shared.sample_squares[sum_column(i / 2, i % 2)];
    least = fmin(least, square[i / 2][i % 2] + task.cancels * both);
  }
  lower(shared.upper + row, least);
}

// A loop over the numbers would become an access by index too.
template <int... kNumbers>
__device__ __forceinline__ void replace(TileProducts& square, int which, double value,
                                        std::integer_sequence<int, kNumbers...>) {
  ((square[kNumbers / 8][kNumbers % 8 / 2][kNumbers % 2] =
        kNumbers == which ? value : square[kNumbers / 8][kNumbers % 8 / 2][kNumbers % 2]),
   ...);
}

// Squared distances that cancellation may have spoiled, of pairs that may matter, from the rows, each by a
// whole warp.
__device__ __forceinline__ void recompute_close(const TileSumsTask& task,
                                                const TileSumsShared& shared, std::int64_t sample,
                                                TileProducts& square) {
  // One by one: the compiler would not unroll a loop around the exchange in there, and an access by index
  // takes a tile out of its registers.
  bound_nearest(task, shared, sum_row(0), square[0]);
  bound_nearest(task, shared, sum_row(1), square[1]);
  bound_nearest(task, shared, sum_row(2), square[2]);
  bound_nearest(task, shared, sum_row(3), square[3]);
  __syncthreads();
  unsigned pending = 0;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int row = sum_row(m);
    const double far = fmin(square_of(shared.upper[row]), shared.anchors[row]) +
                       task.reach / task.rates.groups[0].rate;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const double both =
          shared.point_squares[row] + shared.sample_squares[sum_column(i / 2, i % 2)];
      const double given = square[m][i / 2][i % 2];
      const bool close =
          both > task.coarse && given < kClose * both && given - task.cancels * both <= far;
      pending |= close ? 1u << (8 * m + i) : 0u;
    }
  }
  for (;;) {
    const unsigned asking = __ballot_sync(0xffffffffu, pending != 0);
    if (asking == 0) break;
    const int from = __ffs(static_cast<int>(asking)) - 1;
    const int mine = pending != 0 ? __ffs(static_cast<int>(pending)) - 1 : 0;
    const int which = __shfl_sync(0xffffffffu, mine, from);
    // Rows and columns as the asking lane has them.
    const int row = __shfl_sync(0xffffffffu, sum_row(0), from) + 8 * (which / 8);
    const int column =
        __shfl_sync(0xffffffffu, sum_column(0, 0), from) + which % 8 / 2 * 8 + which % 2;
    const double exact = pair_square(task, shared.rows[row], sample + column);
    if (static_cast<int>(threadIdx.x) % 32 != from) continue;
    pending &= pending - 1;
    replace(square, which, exact, std::make_integer_sequence<int, 32>());
  }
}

// Counts a row's sums from a nearer sample.
__device__ __forceinline__ void lower_anchor(const TileSumsTask& task, const TileSumsShared& shared,
                                             int row) {
  const double before = shared.anchors[row], now = square_of(shared.least[row]);
  if (!(now < before)) return;
  shared.anchors[row] = now;
  for (int r = 0; r < task.rates.rate_count; ++r) {
    const double factor = exp2_of_minus(task.rates.rates[r] * (before - now));
#pragma unroll
    for (int w = 0; w < kSumWarpColumns; ++w) {
      const int at = (r * kSumWarpColumns + w) * kSumRows + row;
      shared.sums[at] *= factor;
      if (task.largest) shared.largest[at] *= factor;
    }
  }
}

__device__ __forceinline__ void power(double scaled, float& term) {
  term = exp2_flushed(-static_cast<float>(fmin(scaled, 0x1p30)));
}
__device__ __forceinline__ void power(double scaled, double& term) { term = exp2_of_minus(scaled); }

// A product that is never fused with an addition: both kernels below give the same bits.
__device__ __forceinline__ float rounded(float a, float b) { return __fmul_rn(a, b); }
__device__ __forceinline__ double rounded(double a, double b) { return __dmul_rn(a, b); }

// Adds the terms of 8 squared distances of one row and thread: of 4 lanes in their own precision.
template <class Real, bool kWeighted>
__device__ __forceinline__ void add_row_terms(const TileSumsTask& task,
                                              const TileSumsShared& shared, int row,
                                              const double (&square)[4][2]) {
  const int warp_column = static_cast<int>(threadIdx.x) / 32 % kSumWarpColumns;
  const double anchor = isfinite(shared.anchors[row]) ? shared.anchors[row] : 0.0;
  double least = infinite_square();
#pragma unroll
  for (int i = 0; i < 8; ++i) least = fmin(least, square[i / 2][i % 2]);
  least = fmin(least, __shfl_xor_sync(0xffffffffu, least, 1));
  least = fmin(least, __shfl_xor_sync(0xffffffffu, least, 2));
  int rate = 0;
#pragma unroll 1
  for (int g = 0; g < task.rates.group_count; ++g) {
    const RateGroup group = task.rates.groups[g];
    // Rates ascend: what does not matter under one matters under none after it. What a row gets does not
    // depend on the warp's other rows: which these are may be anybody's guess.
    const bool near = (least - anchor) * group.rate <= task.reach;
    if (!__any_sync(0xffffffffu, near)) break;
    Real term[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) power((square[i / 2][i % 2] - anchor) * group.rate, term[i]);
#pragma unroll 1
    for (int c = 0; c < group.count; ++c, ++rate) {
      Real sum = 0, largest = 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        Real weighted = term[i];
        if (kWeighted) {
          weighted = rounded(term[i], static_cast<Real>(shared.weights[sum_column(i / 2, i % 2)]));
          largest = max(largest, weighted);
        }
        sum += weighted;
        term[i] *= term[i];
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (kWeighted) {
        largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      }
      if (threadIdx.x % 4 != 0 || !near) continue;
      const int at = (rate * kSumWarpColumns + warp_column) * kSumRows + row;
      shared.sums[at] += static_cast<double>(sum);
      if (kWeighted) shared.largest[at] = fmax(shared.largest[at], static_cast<double>(largest));
    }
  }
}

// kLook false: gives up, and says so, where squared distances may have to be recomputed. True: for those
// blocks.
template <class Real, bool kWeighted, bool kLook>
__global__ void __launch_bounds__(kSumThreads, kLook ? 1 : 2) tile_sums_kernel(TileSumsTask task) {
  if (kLook && task.looks[blockIdx.x] == 0) return;
  const TileSumsShared shared = tile_sums_shared(task.rates.rate_count);
  const std::int64_t block = blockIdx.x % task.point_blocks, part = blockIdx.x / task.point_blocks;
  const std::int64_t begin = part * task.part_rows;
  const std::int64_t end = min(task.samples.n, begin + task.part_rows);
  const int thread = static_cast<int>(threadIdx.x);
  const int kept = task.rates.rate_count * kSumWarpColumns * kSumRows;
  if (thread == 0) *shared.peak = 0;
  __syncthreads();
  if (thread < kSumRows) {
    const std::int64_t place = min(block * kSumRows + thread, task.list.count - 1);
    shared.rows[thread] = static_cast<std::int32_t>(point_row(task.list, place));
    shared.point_squares[thread] = task.point_squares[place];
    atomicMax(shared.peak, bits_of(task.point_squares[place]));
    shared.anchors[thread] = infinite_square();
    shared.least[thread] = shared.upper[thread] = bits_of(infinite_square());
  }
  for (int i = thread; i < kept; i += kSumThreads) {
    shared.sums[i] = 0;
    if (kWeighted) shared.largest[i] = 0;
  }
  for (std::int64_t sample = begin; sample < end; sample += kSumColumns) {
    __syncthreads();  // the tile before is done with what follows
    if (thread < kSumColumns) {
      const bool inside = sample + thread < end;
      shared.sample_squares[thread] = inside ? task.sample_squares[sample + thread] : 0.0;
      if (kWeighted) shared.weights[thread] = inside ? task.weights[sample + thread] : 0.0;
    }
    // The peak is in place since the barrier.
    const bool coarse = thread < kSumColumns &&
                        square_of(*shared.peak) + shared.sample_squares[thread] > task.coarse;
    const bool look = __syncthreads_or(coarse) != 0;
    if (!kLook && look) {
      if (thread == 0) task.looks[blockIdx.x] = 1;
      return;
    }
    TileProducts square;
    tile_products(task, shared, sample, square);
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      const std::int64_t own = task.first + shared.rows[sum_row(m)] - sample;
      const double point = shared.point_squares[sum_row(m)];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int column = sum_column(i / 2, i % 2);
        const double both = point + shared.sample_squares[column];
        double& value = square[m][i / 2][i % 2];
        value = fmax(both - 2 * value, 0.0);
        if (sample + column >= end || column == own) value = infinite_square();
      }
    }
    if (kLook && look) recompute_close(task, shared, sample, square);
#pragma unroll
    for (int m = 0; m < 4; ++m) {
      double least = infinite_square();
#pragma unroll
      for (int i = 0; i < 8; ++i) least = fmin(least, square[m][i / 2][i % 2]);
      lower(shared.least + sum_row(m), least);
    }
    __syncthreads();
    if (thread < kSumRows) lower_anchor(task, shared, thread);
    __syncthreads();
    // One by one, as above.
    add_row_terms<Real, kWeighted>(task, shared, sum_row(0), square[0]);
    add_row_terms<Real, kWeighted>(task, shared, sum_row(1), square[1]);
    add_row_terms<Real, kWeighted>(task, shared, sum_row(2), square[2]);
    add_row_terms<Real, kWeighted>(task, shared, sum_row(3), square[3]);
  }
  __syncthreads();
  const std::int64_t place = block * kSumRows + thread;
  if (thread >= kSumRows || place >= task.list.count) return;
  task.anchors[part * task.list.count + place] = shared.anchors[thread];
  for (int rate = 0; rate < task.rates.rate_count; ++rate) {
    double sum = 0, largest = 0;
#pragma unroll
    for (int w = 0; w < kSumWarpColumns; ++w) {
      const int at = (rate * kSumWarpColumns + w) * kSumRows + thread;
      sum += shared.sums[at];
      if (kWeighted) largest = fmax(largest, shared.largest[at]);
    }
    const std::int64_t to = (part * task.rates.rate_count + rate) * task.list.count + place;
    task.sums[to] = sum;
    if (kWeighted) task.largest[to] = largest;
  }
}

}  // namespace
}  // namespace fastgen::cuda
