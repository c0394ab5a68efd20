// The products of tile_sums_kernel.cuh: a block walks 64 points along one part of the samples, 128 at a time, with
// products on the float64 tensor cores.
//
// z = unit x - centre is made where a slice of 16 features is written to shared memory: rows stay in
// their own type, which halves what L2 has to give for float32. Per slice a block has 131,072 products,
// some 1,000 cycles of a multiprocessor's tensor cores, for 192 x 16 conversions. Two blocks share a
// multiprocessor: one loads while the other multiplies.
#pragma once

#include <cstdint>

#include "cuda/density_items.cuh"
#include "cuda/ptx.cuh"

namespace fastgen::cuda {
namespace {  // one source each: other tile kernels have the same words

constexpr int kSumThreads = 256;  // 8 warps, 2 x 4, each 32 points x 32 samples
constexpr int kSumRows = 64, kSumColumns = 128;
constexpr int kSumDepth = 16;  // features of a slice
constexpr int kSumStride =
    kSumDepth + 4;                  // of a row in shared memory: rows 0 to 3 lie 4 doubles apart
constexpr int kSumWarpColumns = 4;  // warps beside each other, each with sums of its own

struct TileSumsTask {
  RowView points, samples;
  const double* weights;
  double unit, reach;
  const double *centre, *point_squares, *sample_squares;  // [d], [count], [samples]
  PointList list;
  std::int64_t first, part_rows, point_blocks;
  double cancels;   // a squared distance is off by this share of |z_x|^2 + |z_y|^2 at most
  double coarse;    // sums |z_x|^2 + |z_y|^2 for which that may be too much
  unsigned* looks;  // [blocks] whether a block meets such
  LaunchRates rates;
  double* anchors;  // out, [parts, count]
  double* sums;     // out, [parts, rates, count]
  double* largest;  // the same, of weighted terms; null without weights
};

// Above this share of |z_x|^2 + |z_y|^2 a squared distance is good to 16 `cancels` of itself.
constexpr double kClose = 0x1p-4;

struct TileSumsShared {
  double *points, *samples;           // a slice: [rows, kSumStride]
  double *sample_squares, *weights;   // of the tile: [kSumColumns]
  double *point_squares, *anchors;    // [kSumRows]
  unsigned long long *least, *upper;  // [kSumRows] of squared distances, as bits
  unsigned long long* peak;           // the largest of point_squares
  std::int32_t* rows;                 // [kSumRows] the points
  double *sums, *largest;             // [rates, kSumWarpColumns, kSumRows]
};

constexpr std::int64_t tile_sums_bytes(std::int64_t rates, bool weighted) {
  return 8 * ((kSumRows + kSumColumns) * kSumStride + 2 * kSumColumns + 4 * kSumRows + 2 +
              kSumRows / 2 + (weighted ? 2 : 1) * rates * kSumWarpColumns * kSumRows);
}

__device__ __forceinline__ TileSumsShared tile_sums_shared(int rates) {
  TileSumsShared shared;
  shared.points = reinterpret_cast<double*>(shared_memory());
  shared.samples = shared.points + kSumRows * kSumStride;
  shared.sample_squares = shared.samples + kSumColumns * kSumStride;
  shared.weights = shared.sample_squares + kSumColumns;
  shared.point_squares = shared.weights + kSumColumns;
  shared.anchors = shared.point_squares + kSumRows;
  shared.least = reinterpret_cast<unsigned long long*>(shared.anchors + kSumRows);
  shared.upper = shared.least + kSumRows;
  shared.peak = shared.upper + kSumRows;
  shared.rows = reinterpret_cast<std::int32_t*>(shared.peak + 2);
  shared.sums = reinterpret_cast<double*>(shared.rows + kSumRows);
  shared.largest = shared.sums + rates * kSumWarpColumns * kSumRows;
  return shared;
}

// Squared distances, not negative, have the order of their bits.
__device__ __forceinline__ unsigned long long bits_of(double square) {
  return static_cast<unsigned long long>(__double_as_longlong(square));
}
__device__ __forceinline__ double square_of(unsigned long long bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}
__device__ __forceinline__ double infinite_square() {
  return static_cast<double>(__int_as_float(0x7f800000));
}

// One number of a row in the engine's units, about the centre.
template <class Item>
__device__ __forceinline__ double centred(const RowView& rows, std::int64_t row,
                                          std::int64_t feature, double unit, double centre) {
  return static_cast<double>(number(__ldg(items_of<Item>(rows, row) + feature))) * unit - centre;
}

// Writes features [from, from + 16) of the block's points and of a tile's samples. Rows beyond the last are
// copies of it, whose sums nobody takes.
template <class Item>
__device__ __forceinline__ void load_slice(const TileSumsTask& task, const TileSumsShared& shared,
                                           std::int64_t sample, std::int64_t from) {
  const int k = static_cast<int>(threadIdx.x) % kSumDepth;
  const int row = static_cast<int>(threadIdx.x) / kSumDepth;
  const bool inside = from + k < task.points.d;
  const std::int64_t feature = inside ? from + k : 0;
  const double centre = inside ? __ldg(task.centre + feature) : 0.0;
  const double unit = inside ? task.unit : 0.0;
#pragma unroll
  for (int i = 0; i < kSumRows; i += kSumThreads / kSumDepth) {
    shared.points[(row + i) * kSumStride + k] =
        centred<Item>(task.points, shared.rows[row + i], feature, unit, centre);
  }
#pragma unroll 4
  for (int i = 0; i < kSumColumns; i += kSumThreads / kSumDepth) {
    const std::int64_t place = min(sample + row + i, task.samples.n - 1);
    shared.samples[(row + i) * kSumStride + k] =
        centred<Item>(task.samples, place, feature, unit, centre);
  }
}

// Where a thread's sums lie: row m of 4, column (n, e) of 4 x 2.
__device__ __forceinline__ int sum_row(int m) {
  return static_cast<int>(threadIdx.x) / 128 * 32 + 8 * m + static_cast<int>(threadIdx.x) % 32 / 4;
}
__device__ __forceinline__ int sum_column(int n, int e) {
  return static_cast<int>(threadIdx.x) / 32 % 4 * 32 + 8 * n +
         2 * (static_cast<int>(threadIdx.x) % 4) + e;
}

using TileProducts = double[4][4][2];

// The products of a tile, slice after slice; barriers before and after.
__device__ __forceinline__ void tile_products(const TileSumsTask& task,
                                              const TileSumsShared& shared, std::int64_t sample,
                                              TileProducts& sum) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const double* left = shared.points + (warp / 4 * 32 + lane / 4) * kSumStride + lane % 4;
  const double* right = shared.samples + (warp % 4 * 32 + lane / 4) * kSumStride + lane % 4;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) sum[m][n][0] = sum[m][n][1] = 0;
  }
#pragma unroll 1
  for (std::int64_t from = 0; from < task.points.d; from += kSumDepth) {
    __syncthreads();
    if (task.points.dtype == DType::float32) {
      load_slice<float>(task, shared, sample, from);
    } else if (task.points.dtype == DType::float64) {
      load_slice<double>(task, shared, sample, from);
    } else {
      load_slice<__half>(task, shared, sample, from);
    }
    __syncthreads();
#pragma unroll 2
    for (int k = 0; k < kSumDepth; k += 4) {
      double a[4], b[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        a[i] = left[i * 8 * kSumStride + k];
        b[i] = right[i * 8 * kSumStride + k];
      }
#pragma unroll
      for (int m = 0; m < 4; m += 2) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          multiply_add(sum[m][n], sum[m + 1][n], a[m], a[m + 1], b[n]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fastgen::cuda
