// Sums of float32 terms without an anchor: few features, one bandwidth, rows of float16 or float32.
//
// Every thread has several points in registers, and samples come from shared memory, four at a time and
// the same for all threads. A pair of 2 features takes two subtractions, two multiply-adds (one of them
// a multiplication), the product with the rate, the exponential and its addition: 7 issue slots for the
// 8 cycles that the exponential takes a warp on its unit, which is the limit (GPU.md 2).
//
// What it is off by, u = 2^-24. Of an exponent e, in units of e and at most: 2 u from the difference, whose square
// is taken, k u from a chain of k squares, the first of which is rounded by itself, 1 u where two chains meet,
// and 2 u from the rate and its product: exponent_error. A sum S of weights W in all has terms whose mean
// exponent, weighted by the terms, is at most log(W / S). So sums from exp(-7.5e-6 / (error u)) W
// on are off by 7.5e-6 from that; by 1.25 2^-22 from ex2.approx; by 31 u from runs of 32 additions; runs are
// added with their rounding errors kept. Together 9.7e-6. Smaller sums are left to anchored_sums.cu.
#include "cuda/plain_sums.hpp"

#include <algorithm>
#include <cmath>

#include "cuda/density_items.cuh"
#include "cuda/ptx.cuh"

namespace fastgen::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kSpan = 512;  // samples in shared memory at a time
constexpr int kRun = 32;    // terms added in float32
constexpr double kUnit = 0x1p-24, kForExponents = 7.5e-6;

struct PlainTask {
  RowView points, samples;
  const double* weights;
  double unit;
  float rate;
  std::int64_t begin, count;  // points
  std::int64_t first;         // point i is sample first + i
  std::int64_t part_rows, point_blocks;
  double* sums;    // [parts, count]
  float* largest;  // [parts, count], where it is tracked
};

// The largest term is tracked from 3 features on; in 1 and 2 dimensions it would cost an eighth, and sums
// of at least 2 have none of more than half.
constexpr int kUntracked = 2;
template <int kD>
constexpr bool kTracked = kD > kUntracked;
// Points of a thread; with more registers for them occupancy would fall below a quarter.
template <int kD>
constexpr int kPoints = kD <= 3 ? 8 : 4;

__device__ __forceinline__ float item(const RowView& rows, std::int64_t row, int feature,
                                      double unit) {
  return static_cast<float>(wide_item(rows, row, feature) * unit);
}

// high + low += term, but for 2^-48 of it.
__device__ __forceinline__ void add_exactly(float term, float& high, float& low) {
  const float sum = __fadd_rn(high, term);
  const float taken = __fsub_rn(sum, high);
  const float lost = __fadd_rn(__fsub_rn(high, __fsub_rn(sum, taken)), __fsub_rn(term, taken));
  high = sum;
  low = __fadd_rn(low, lost);
}

template <int kD>
struct Points {
  static constexpr int kCount = kPoints<kD>;
  float x[kCount][kD];
  float high[kCount], low[kCount], largest[kCount];
};

// Adds the terms of the samples in `tile`, [kD (+ 1 for weights), kSpan]. `own`: places of the points' own
// samples in it.
template <int kD, bool kWeighted, bool kSelf>
__device__ __forceinline__ void add_tile(const float* tile, float minus_rate,
                                         const int (&own)[kPoints<kD>], Points<kD>& points) {
  constexpr int kCount = kPoints<kD>;
#pragma unroll 1
  for (int run = 0; run < kSpan; run += kRun) {
    float sum[kCount];
#pragma unroll
    for (int q = 0; q < kCount; ++q) sum[q] = 0;
#pragma unroll(kD <= 4 ? 2 : 1)
    for (int j = run; j < run + kRun; j += 4) {
      // Two chains of squares where one would be long.
      float square[kCount][4], other[kCount][4];
#pragma unroll
      for (int f = 0; f < kD; ++f) {
        const float4 four = *reinterpret_cast<const float4*>(tile + f * kSpan + j);
        const float y[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
        for (int q = 0; q < kCount; ++q) {
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            const float t = points.x[q][f] - y[k];
            if (f == 0) {
              square[q][k] = t * t;
            } else if (kD <= 4 || f % 2 == 0) {
              square[q][k] = fmaf(t, t, square[q][k]);
            } else {
              other[q][k] = f == 1 ? t * t : fmaf(t, t, other[q][k]);
            }
          }
        }
      }
      float weight[4];
      if (kWeighted) {
        const float4 four = *reinterpret_cast<const float4*>(tile + kD * kSpan + j);
        weight[0] = four.x;
        weight[1] = four.y;
        weight[2] = four.z;
        weight[3] = four.w;
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
#pragma unroll
        for (int q = 0; q < kCount; ++q) {
          const float sq = kD <= 4 ? square[q][k] : square[q][k] + other[q][k];
          float term = exp2_flushed(sq * minus_rate);
          if (kSelf && j + k == own[q]) term = 0;
          if (kWeighted && kTracked<kD>) term *= weight[k];
          sum[q] = kWeighted && !kTracked<kD> ? fmaf(weight[k], term, sum[q]) : sum[q] + term;
          if (kTracked<kD>) points.largest[q] = fmaxf(points.largest[q], term);
        }
      }
    }
#pragma unroll
    for (int q = 0; q < kCount; ++q) add_exactly(sum[q], points.high[q], points.low[q]);
  }
}

// Features beyond the rows' own are 0 on both sides.
template <int kD, bool kWeighted>
__global__ void __launch_bounds__(kThreads, kD > 8 ? 3 : 4) plain_sums_kernel(PlainTask task) {
  constexpr int kCount = kPoints<kD>, kBlock = kThreads * kCount;
  const float infinity = __int_as_float(0x7f800000);
  float* tile = reinterpret_cast<float*>(shared_memory());
  const int d = static_cast<int>(task.points.d), thread = static_cast<int>(threadIdx.x);
  const std::int64_t block = blockIdx.x % task.point_blocks, part = blockIdx.x / task.point_blocks;
  const std::int64_t place = block * kBlock + thread;
  Points<kD> points;
#pragma unroll
  for (int q = 0; q < kCount; ++q) {
    const std::int64_t row = task.begin + min(place + q * kThreads, task.count - 1);
    // Infinite points would be no distance from what stands for no sample.
    constexpr float kFar = 0x1p126f;
#pragma unroll
    for (int f = 0; f < kD; ++f) {
      points.x[q][f] =
          f < d ? fminf(fmaxf(item(task.points, row, f, task.unit), -kFar), kFar) : 0.0f;
    }
    points.high[q] = points.low[q] = points.largest[q] = 0;
  }
  for (int i = d * kSpan + thread; i < kD * kSpan; i += kThreads) tile[i] = 0;
  const std::int64_t begin = part * task.part_rows;
  const std::int64_t end = min(task.samples.n, begin + task.part_rows);
  for (std::int64_t from = begin; from < end; from += kSpan) {
    __syncthreads();
    for (int i = thread; i < kSpan * d; i += kThreads) {
      const int row = i / d, f = i - row * d;
      float value = f == 0 ? infinity : 0.0f;
      if (from + row < end) value = item(task.samples, from + row, f, task.unit);
      tile[f * kSpan + row] = value;
    }
    if (kWeighted) {
      for (int row = thread; row < kSpan; row += kThreads) {
        tile[kD * kSpan + row] =
            from + row < end ? static_cast<float>(__ldg(task.weights + from + row)) : 0.0f;
      }
    }
    __syncthreads();
    // The block's own samples from here on.
    const std::int64_t offset = task.first + task.begin + block * kBlock - from;
    int own[kCount];
#pragma unroll
    for (int q = 0; q < kCount; ++q) own[q] = -1;
    if (-kBlock < offset && offset < kSpan) {
#pragma unroll
      for (int q = 0; q < kCount; ++q) own[q] = static_cast<int>(offset) + q * kThreads + thread;
      add_tile<kD, kWeighted, true>(tile, -task.rate, own, points);
    } else {
      add_tile<kD, kWeighted, false>(tile, -task.rate, own, points);
    }
  }
#pragma unroll
  for (int q = 0; q < kCount; ++q) {
    if (place + q * kThreads >= task.count) continue;
    const std::int64_t to = part * task.count + place + q * kThreads;
    task.sums[to] = static_cast<double>(points.high[q]) + static_cast<double>(points.low[q]);
    if (kTracked<kD>) task.largest[to] = points.largest[q];
  }
}

struct FinishTask {
  const double* sums;
  const float* largest;  // null: not tracked
  int parts;
  std::int64_t begin, count;
  double least;
  double* logs;
  unsigned long long* dominated;
  double* shares;  // null: not asked for
  std::int32_t* unsettled;
  unsigned* unsettled_count;
};

// Adds the parts in their order; points whose sum says too little go onto the list.
__global__ void __launch_bounds__(256) finish_plain_kernel(FinishTask task) {
  const std::int64_t i = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  bool dominated = false;
  if (i < task.count) {
    double sum = 0;
    float largest = 0;
    for (int part = 0; part < task.parts; ++part) {
      const std::int64_t at = part * task.count + i;
      sum += task.sums[at];
      if (task.largest) largest = fmaxf(largest, task.largest[at]);
    }
    if (sum >= task.least) {
      task.logs[task.begin + i] = log(sum);
      const double share = share_of_largest(static_cast<double>(largest), sum);
      dominated = share > 0;
      if (task.shares) task.shares[task.begin + i] = share;
    } else {
      task.unsettled[atomicAdd(task.unsettled_count, 1u)] =
          static_cast<std::int32_t>(task.begin + i);
    }
  }
  count_votes(dominated, task.dominated);
}

template <int kD>
void launch_plain(PlainTask task, std::int64_t parts, const Stream& stream) {
  task.point_blocks = blocks_for(task.count, kThreads * kPoints<kD>);
  const std::int64_t shared = (kD + (task.weights ? 1 : 0)) * kSpan * 4;
  launch("plain_sums", task.weights ? plain_sums_kernel<kD, true> : plain_sums_kernel<kD, false>,
         task.point_blocks * parts, kThreads, shared, stream, task);
}

// In units of u = 2^-24 and of the exponent: see above.
double exponent_error(std::int64_t d) {
  return static_cast<double>(d <= 4 ? d + 4 : (d + 1) / 2 + 5);
}

}  // namespace

std::int64_t most_plain_points(const DensityProblem& problem) {
  const std::int64_t parts = blocks_for(problem.samples.n, part_rows(problem.samples.n));
  const std::int64_t each = parts * (problem.points.d > kUntracked ? 12 : 8);
  return std::max<std::int64_t>(1024, kPartSumBytes / each / 1024 * 1024);
}

void add_plain_sums(const DensityProblem& problem, const PlainSums& sums, std::int64_t begin,
                    std::int64_t count, const Stream& stream) {
  const int d = static_cast<int>(problem.points.d);
  const std::int64_t rows = part_rows(problem.samples.n),
                     parts = blocks_for(problem.samples.n, rows);
  DeviceBuffer<double> by_part(parts * count, stream, "sums by part");
  DeviceBuffer<float> largest;
  if (d > kUntracked) largest = DeviceBuffer<float>(parts * count, stream, "sums by part");
  const PlainTask task{problem.points, problem.samples, problem.weights, sums.unit, sums.rate,
                       begin,          count,           problem.first,   rows,      0,
                       by_part.data(), largest.data()};
  (d == 1    ? launch_plain<1>
   : d == 2  ? launch_plain<2>
   : d == 3  ? launch_plain<3>
   : d == 4  ? launch_plain<4>
   : d <= 6  ? launch_plain<6>
   : d <= 8  ? launch_plain<8>
   : d <= 12 ? launch_plain<12>
             : launch_plain<16>)(task, parts, stream);
  double least = std::exp(-kForExponents / (kUnit * exponent_error(d))) * problem.total_weight;
  if (d <= kUntracked) least = std::max(least, 2.0);
  const FinishTask finish{by_part.data(),
                          largest.data(),
                          static_cast<int>(parts),
                          begin,
                          count,
                          least,
                          problem.logs,
                          problem.dominated,
                          problem.shares,
                          sums.unsettled,
                          sums.unsettled_count};
  launch("finish_plain", finish_plain_kernel, blocks_for(count, 256), 256, 0, stream, finish);
}

}  // namespace fastgen::cuda
