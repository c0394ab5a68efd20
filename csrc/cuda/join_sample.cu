#include "cuda/join_sample.hpp"

#include <algorithm>

#include "common/check.hpp"
#include "cuda/ptx.cuh"
#include "cuda/tile_product.cuh"
#include "cuda/warp.cuh"

namespace fastgen::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMatrixBytes = std::int64_t{64} << 20;  // of upper bounds at a time

// The sampled columns side by side, padded to whole tiles; upper bounds to padding are infinite.
struct Sample {
  std::int32_t* slot;  // -1: padding
  float *scale, *magnitude, *error, *high;
  std::int8_t* planes[2];
  std::int64_t padded;
};

__device__ __forceinline__ float infinite() { return __int_as_float(0x7f800000); }

// One block a column.
__global__ void __launch_bounds__(kThreads) gather_sample(const SampleJob job, const Sample to) {
  const std::int64_t s = blockIdx.x;
  const bool own = s < job.size;
  const std::int64_t slot = own ? job.y_begin + s * job.columns / job.size : 0;
  if (threadIdx.x == 0) {
    const bool direct = job.product == Product::direct;
    to.slot[s] = own ? static_cast<std::int32_t>(slot) : -1;
    to.error[s] = own ? job.y.error[slot] : direct ? infinite() : 0.0f;
    to.scale[s] = own && !direct ? job.y.scale[slot] : 0.0f;
    to.magnitude[s] = own && !direct ? job.y.magnitude[slot] : 0.0f;
    to.high[s] = own && !direct ? job.y.high[slot] : infinite();
  }
  for (int p = 0; p < 2; ++p) {
    const std::int8_t* const plane = p ? job.y.set.low : job.y.set.high;
    if (!to.planes[p]) continue;
    const int4* const from = reinterpret_cast<const int4*>(plane + slot * job.y.set.depth);
    int4* const row = reinterpret_cast<int4*>(to.planes[p] + s * job.y.set.depth);
    for (std::int64_t i = threadIdx.x; i < job.y.set.depth / 16; i += kThreads) {
      row[i] = own ? from[i] : make_int4(0, 0, 0, 0);
    }
  }
}

// upper[row - row0][column]: the largest that |z_x - z_y|^2 may be. Blocks: row tiles times sample tiles.
template <int kPlanes>
__global__ void __launch_bounds__(kTileThreads, 1)
    upper_tiles(const SampleJob job, const Sample sample, const TileOperand rows,
                const TileOperand columns, std::int64_t row0, float* upper) {
  const int column_tiles = static_cast<int>(sample.padded / 128);
  const std::int64_t first = row0 + blockIdx.x / column_tiles * 128;
  const int column0 = static_cast<int>(blockIdx.x) % column_tiles * 128;
  std::int32_t sums[4][4][4];
  multiply_tile<std::int8_t, kPlanes>(rows, columns, first, column0, job.x.set.depth, sums);
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int c = column0 + tile_column(n, e);
      const float scale = sample.scale[c], magnitude = sample.magnitude[c];
      const float error = sample.error[c], high = sample.high[c];
      const std::int32_t slot = sample.slot[c];
#pragma unroll
      for (int m = 0; m < 4; ++m) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const std::int64_t r = first + tile_row(m, h);
          const float row_error = __ldg(job.x.error + r);
          float bound = 2.0f * row_error * magnitude;
          bound = fmaf(2.0f * (__ldg(job.x.magnitude + r) + row_error), error, bound);
          const float product = static_cast<float>(sums[m][n][2 * h + e]) * scale;
          const float most =
              (__ldg(job.x.high + r) + high) - 2.0f * __ldg(job.x.scale + r) * product + bound;
          upper[(r - row0) * sample.padded + c] = job.self && slot == r ? infinite() : most;
        }
      }
    }
  }
}

// The same by differences, one thread a pair.
__global__ void __launch_bounds__(kThreads)
    upper_direct(const SampleJob job, const Sample sample, std::int64_t row0, std::int64_t rows,
                 float* upper) {
  const std::int64_t pair = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const std::int64_t row = pair / sample.padded, c = pair % sample.padded;
  if (row >= rows) return;
  const std::int64_t x = row0 + row;
  const std::int32_t slot = sample.slot[c];
  float most = infinite();
  if (slot >= 0 && !(job.self && slot == x)) {
    const float* const a = job.x.direct + x * kDirectFeatures;
    const float* const b = job.y.direct + slot * kDirectFeatures;
    float sum = 0;
    for (int f = 0; f < static_cast<int>(kDirectFeatures); ++f) {
      const float t = __fsub_rn(__ldg(a + f), __ldg(b + f));
      sum = __fmaf_rn(t, t, sum);
    }
    const Interval bounds =
        direct_bounds(sum, (static_cast<double>(job.x.error[x]) + sample.error[c]) * (1 + 0x1p-40));
    most = round_up(bounds.high);
  }
  upper[row * sample.padded + c] = most;
}

// Lowers the reach of one row a warp to the k-th smallest of its bounds, found bit by bit.
__global__ void __launch_bounds__(kThreads)
    lower_reach(const float* upper, std::int64_t padded, std::int64_t k, std::int64_t row0,
                std::int64_t rows, float* reach) {
  const std::int64_t row = std::int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float* const own = upper + row * padded;
  constexpr int kMost = static_cast<int>(kMostSample) / 32;
  std::uint32_t key[kMost];
#pragma unroll
  for (int i = 0; i < kMost; ++i) {
    key[i] = 0xffffffffu;
    if (i * 32 < padded) {
      // Integers in the order of the numbers.
      const std::uint32_t bits = static_cast<std::uint32_t>(__float_as_int(own[i * 32 + lane]));
      key[i] = bits >> 31 ? ~bits : bits | 0x80000000u;
    }
  }
  std::uint32_t found = 0;
  for (std::uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    int below = 0;
#pragma unroll
    for (int i = 0; i < kMost; ++i) below += key[i] < (found | bit);
    if (warp_sum(below) < k) found |= bit;
  }
  if (lane == 0) {
    const std::uint32_t bits = found >> 31 ? found & 0x7fffffffu : ~found;
    reach[row0 + row] = fminf(reach[row0 + row], __int_as_float(static_cast<int>(bits)));
  }
}

}  // namespace

void sample_reach(const SampleJob& job, float* reach, const Stream& stream) {
  FASTGEN_CHECK(1 <= job.k && job.k <= job.size && job.size <= kMostSample);
  const bool direct = job.product == Product::direct, fine = job.product == Product::fine;
  const std::int64_t padded = blocks_for(job.size, 128) * 128, depth = job.x.set.depth;
  const char* const purpose = "a sample of columns";
  DeviceBuffer<std::int32_t> slot(padded, stream, purpose);
  DeviceBuffer<float> terms(4 * padded, stream, purpose);
  DeviceBuffer<std::int8_t> high, low;
  if (!direct) high = DeviceBuffer<std::int8_t>(padded * depth, stream, purpose);
  if (fine) low = DeviceBuffer<std::int8_t>(padded * depth, stream, purpose);
  float* const t = terms.data();
  const Sample sample{
      slot.data(), t, t + padded, t + 2 * padded, t + 3 * padded, {high.data(), low.data()},
      padded};
  launch("gather_sample", gather_sample, padded, kThreads, 0, stream, job, sample);

  const std::int64_t rows = blocks_for(job.x_end - job.x_begin, 128) * 128;
  const std::int64_t at_once =
      std::min(rows, std::max<std::int64_t>(128, kMatrixBytes / 4 / padded / 128 * 128));
  DeviceBuffer<float> upper(at_once * padded, stream, "bounds to a sample of columns");
  const TileOperand left{{job.x.set.high, job.x.set.low}, depth};
  const TileOperand right{{high.data(), low.data()}, depth};
  for (std::int64_t first = 0; first < rows; first += at_once) {
    const std::int64_t row0 = job.x_begin + first, here = std::min(at_once, rows - first);
    const std::int64_t tiles = here / 128 * (padded / 128);
    if (direct) {
      launch("upper_direct", upper_direct, blocks_for(here * padded, kThreads), kThreads, 0, stream,
             job, sample, row0, here, upper.data());
    } else if (fine) {
      launch("upper_tiles", upper_tiles<2>, tiles, kTileThreads, kTileShared, stream, job, sample,
             left, right, row0, upper.data());
    } else {
      launch("upper_tiles", upper_tiles<1>, tiles, kTileThreads, kTileShared, stream, job, sample,
             left, right, row0, upper.data());
    }
    const std::int64_t own = std::min(here, job.x_end - row0);
    launch("lower_reach", lower_reach, blocks_for(own, kThreads / 32), kThreads, 0, stream,
           upper.data(), padded, job.k, row0, own, reach);
  }
}

}  // namespace fastgen::cuda
