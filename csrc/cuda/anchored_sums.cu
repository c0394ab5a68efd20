// Density sums by differences in float64, in two walks over the samples: the first finds every point's
// nearest sample, the second adds terms 2^(-rate (|x - y|^2 - a)), a that sample's squared distance, so that no
// distance is too large and the largest term is known beforehand. Walking twice costs less than scaling sums
// whenever the nearest sample changes: the first walk has no exponentials.
//
// One thread a point, whose features lie in shared memory ([features, threads]: no bank conflicts), four
// samples at a time, the same for all threads. Float32 rows have their terms in float32: an exponent
// that counts is small, and its rounding 2^-24 of it. Terms are added in runs of 32.
#include "cuda/anchored_sums.hpp"

#include <algorithm>

#include "cuda/density_items.cuh"
#include "cuda/ptx.cuh"

namespace fastgen::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kSpan = 256;  // samples in shared memory at a time
constexpr int kRun = 32;

struct AnchoredTask {
  RowView points, samples;
  const double* weights;
  double unit, reach;
  PointList list;
  std::int64_t first;
  std::int64_t part_rows, point_blocks;
  double* nearest;        // out, first walk: [parts, count]
  const double* anchors;  // second walk: [count]
  LaunchRates rates;
  double* sums;     // [parts, rates, count]
  double* largest;  // the same, of weighted terms
};

// Shared memory of a block.
struct Spans {
  double* points;   // [d, kThreads]
  double* samples;  // [d, kSpan]
  double* weights;  // [kSpan]
};

__device__ __forceinline__ Spans spans_of(int d) {
  double* points = reinterpret_cast<double*>(shared_memory());
  return {points, points + d * kThreads, points + d * (kThreads + kSpan)};
}

__device__ __forceinline__ void load_points(const AnchoredTask& task, const Spans& spans,
                                            std::int64_t place) {
  const int d = static_cast<int>(task.points.d);
  const std::int64_t row = point_row(task.list, min(place, task.list.count - 1));
  for (int f = 0; f < d; ++f) {
    spans.points[f * kThreads + threadIdx.x] = wide_item(task.points, row, f) * task.unit;
  }
}

// Samples [from, end), at most kSpan; infinitely far ones beyond.
__device__ __forceinline__ void load_samples(const AnchoredTask& task, const Spans& spans,
                                             std::int64_t from, std::int64_t end) {
  const double infinity = static_cast<double>(__int_as_float(0x7f800000));
  const int d = static_cast<int>(task.samples.d);
  for (int i = static_cast<int>(threadIdx.x); i < kSpan * d; i += kThreads) {
    const int row = i / d, f = i - row * d;
    spans.samples[f * kSpan + row] =
        from + row < end ? wide_item(task.samples, from + row, f) * task.unit : infinity;
  }
}

// Squared distances to four samples; `own` is the point's own place in the span.
__device__ __forceinline__ void four_squares(const Spans& spans, int d, int j, int own,
                                             double (&squares)[4]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) squares[k] = 0;
  for (int f = 0; f < d; ++f) {
    const double x = spans.points[f * kThreads + threadIdx.x];
    const double2* y = reinterpret_cast<const double2*>(spans.samples + f * kSpan + j);
    const double2 low = y[0], high = y[1];
    const double t[4] = {x - low.x, x - low.y, x - high.x, x - high.y};
#pragma unroll
    for (int k = 0; k < 4; ++k) squares[k] = fma(t[k], t[k], squares[k]);
  }
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (j + k == own) squares[k] = static_cast<double>(__int_as_float(0x7f800000));
  }
}

// The place of a point's own sample in the span from `from` on, or another number below 0 or from kSpan on.
__device__ __forceinline__ int own_place(const AnchoredTask& task, std::int64_t place,
                                         std::int64_t from) {
  const std::int64_t row = point_row(task.list, min(place, task.list.count - 1));
  const std::int64_t own = task.first + row - from;
  return 0 <= own && own < kSpan ? static_cast<int>(own) : -1;
}

__global__ void __launch_bounds__(kThreads) nearest_kernel(AnchoredTask task) {
  const int d = static_cast<int>(task.points.d);
  const Spans spans = spans_of(d);
  const std::int64_t block = blockIdx.x % task.point_blocks, part = blockIdx.x / task.point_blocks;
  const std::int64_t place = block * kThreads + threadIdx.x;
  const std::int64_t begin = part * task.part_rows;
  const std::int64_t end = min(task.samples.n, begin + task.part_rows);
  load_points(task, spans, place);
  double nearest[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) nearest[k] = static_cast<double>(__int_as_float(0x7f800000));
  for (std::int64_t from = begin; from < end; from += kSpan) {
    __syncthreads();
    load_samples(task, spans, from, end);
    __syncthreads();
    const int own = own_place(task, place, from);
#pragma unroll 2
    for (int j = 0; j < kSpan; j += 4) {
      double squares[4];
      four_squares(spans, d, j, own, squares);
#pragma unroll
      for (int k = 0; k < 4; ++k) nearest[k] = squares[k] < nearest[k] ? squares[k] : nearest[k];
    }
  }
  if (place >= task.list.count) return;
  task.nearest[part * task.list.count + place] =
      fmin(fmin(nearest[0], nearest[1]), fmin(nearest[2], nearest[3]));
}

__global__ void __launch_bounds__(256)
    finish_nearest_kernel(const double* nearest, std::int64_t parts, std::int64_t count,
                          double* anchors) {
  const std::int64_t i = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= count) return;
  double least = nearest[i];
  for (std::int64_t part = 1; part < parts; ++part) least = fmin(least, nearest[part * count + i]);
  anchors[i] = least;
}

// Terms of one exponential and its squares: exponents are -rate (|x - y|^2 - anchor).
template <class Real>
struct Decays;
template <>
struct Decays<float> {
  float ratio[kMostGroups], beyond;
  __device__ explicit Decays(const LaunchRates& rates) : beyond(0) {
#pragma unroll
    for (int g = 0; g < kMostGroups; ++g) {
      ratio[g] = static_cast<float>(rates.groups[g].rate / rates.groups[0].rate);
    }
  }
  __device__ __forceinline__ void set(double scaled) {
    beyond = static_cast<float>(fmin(scaled, 0x1p30));
  }
  __device__ __forceinline__ float term(int g) const { return exp2_flushed(-beyond * ratio[g]); }
};
template <>
struct Decays<double> {
  double ratio[kMostGroups], beyond;
  __device__ explicit Decays(const LaunchRates& rates) : beyond(0) {
#pragma unroll
    for (int g = 0; g < kMostGroups; ++g) ratio[g] = rates.groups[g].rate / rates.groups[0].rate;
  }
  __device__ __forceinline__ void set(double scaled) { beyond = scaled; }
  __device__ __forceinline__ double term(int g) const { return exp2_of_minus(beyond * ratio[g]); }
};

// kCount rates of each of kGroups groups; what the launch has fewer of is added up for nothing.
template <class Real, bool kWeighted, int kGroups, int kCount>
__global__ void __launch_bounds__(kThreads, 3) anchored_sums_kernel(AnchoredTask task) {
  constexpr int kSums = kGroups * kCount;
  const int d = static_cast<int>(task.points.d);
  const Spans spans = spans_of(d);
  const std::int64_t block = blockIdx.x % task.point_blocks, part = blockIdx.x / task.point_blocks;
  const std::int64_t place = block * kThreads + threadIdx.x;
  const std::int64_t begin = part * task.part_rows;
  const std::int64_t end = min(task.samples.n, begin + task.part_rows);
  load_points(task, spans, place);
  // Without any sample there is none to count from.
  const double given = task.anchors[min(place, task.list.count - 1)];
  const double anchor = isfinite(given) ? given : 0.0;
  const double rate = task.rates.groups[0].rate;
  Decays<Real> decays(task.rates);
  double total[kSums];
  Real largest[kSums];
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    total[i] = 0;
    largest[i] = 0;
  }
  for (std::int64_t from = begin; from < end; from += kSpan) {
    __syncthreads();
    load_samples(task, spans, from, end);
    if (kWeighted) {
      for (int row = static_cast<int>(threadIdx.x); row < kSpan; row += kThreads) {
        spans.weights[row] = from + row < end ? __ldg(task.weights + from + row) : 0.0;
      }
    }
    __syncthreads();
    const int own = own_place(task, place, from);
#pragma unroll 1
    for (int run = 0; run < kSpan; run += kRun) {
      Real sum[kSums];
#pragma unroll
      for (int i = 0; i < kSums; ++i) sum[i] = 0;
#pragma unroll 1
      for (int j = run; j < run + kRun; j += 4) {
        double squares[4];
        four_squares(spans, d, j, own, squares);
        const double nearest = fmin(fmin(squares[0], squares[1]), fmin(squares[2], squares[3]));
        if ((nearest - anchor) * rate > task.reach) continue;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          decays.set((squares[k] - anchor) * rate);
          const Real weight = kWeighted ? static_cast<Real>(spans.weights[j + k]) : Real(1);
#pragma unroll
          for (int g = 0; g < kGroups; ++g) {
            Real term = decays.term(g);
#pragma unroll
            for (int c = 0; c < kCount; ++c) {
              if (c > 0) term *= term;
              const Real weighted = kWeighted ? weight * term : term;
              sum[g * kCount + c] += weighted;
              if (kWeighted) largest[g * kCount + c] = max(largest[g * kCount + c], weighted);
            }
          }
        }
      }
#pragma unroll
      for (int i = 0; i < kSums; ++i) total[i] += static_cast<double>(sum[i]);
    }
  }
  if (place >= task.list.count) return;
  int out = 0;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      if (g >= task.rates.group_count || c >= task.rates.groups[g].count) continue;
      const std::int64_t to = (part * task.rates.rate_count + out++) * task.list.count + place;
      task.sums[to] = total[g * kCount + c];
      if (kWeighted) task.largest[to] = static_cast<double>(largest[g * kCount + c]);
    }
  }
}

struct FinishTask {
  const double *sums, *largest, *anchors;
  std::int64_t parts;
  PointList list;
  LaunchRates rates;
  std::int64_t columns;
  double* logs;
  unsigned long long* dominated;
  double* shares;  // null: not asked for
};

// One thread a point and rate, parts in their order.
__global__ void __launch_bounds__(256) finish_anchored_kernel(FinishTask task) {
  const std::int64_t blocks = (task.list.count + 255) / 256;
  const int rate = static_cast<int>(blockIdx.x / blocks);
  const std::int64_t i = blockIdx.x % blocks * 256 + threadIdx.x;
  const std::int64_t column = task.rates.column[rate];
  bool dominated = false;
  if (i < task.list.count) {
    double sum = 0, largest = 0;
    for (std::int64_t part = 0; part < task.parts; ++part) {
      const std::int64_t at = (part * task.rates.rate_count + rate) * task.list.count + i;
      sum += task.sums[at];
      if (task.largest) largest = fmax(largest, task.largest[at]);
    }
    // Without weights the largest term is the anchor's, which is 1.
    if (!task.largest && sum > 0) largest = 1;
    const double share = share_of_largest(largest, sum);
    dominated = share > 0;
    const std::int64_t to = point_row(task.list, i) * task.columns + column;
    task.logs[to] = log_of_sum(sum, task.rates.rates[rate], task.anchors[i]);
    if (task.shares) task.shares[to] = share;
  }
  count_votes(dominated, task.dominated + column);
}

template <class Real, bool kWeighted>
void launch_sums(const AnchoredTask& task, std::int64_t blocks, std::int64_t shared,
                 const Stream& stream) {
  int most = 1;
  for (int g = 0; g < task.rates.group_count; ++g)
    most = std::max(most, task.rates.groups[g].count);
  launch("anchored_sums",
         most > 1                     ? anchored_sums_kernel<Real, kWeighted, 2, kChain>
         : task.rates.group_count > 1 ? anchored_sums_kernel<Real, kWeighted, kMostGroups, 1>
                                      : anchored_sums_kernel<Real, kWeighted, 1, 1>,
         blocks, kThreads, shared, stream, task);
}

// Groups of a launch: two with squares, or more of one rate each.
int groups_at_once(const std::vector<RateGroup>& groups, std::size_t from) {
  int singles = 0;
  while (singles < kMostGroups && from + singles < groups.size() &&
         groups[from + singles].count == 1) {
    ++singles;
  }
  return singles > 2 ? singles : 2;
}

}  // namespace

std::int64_t most_anchored_points(const DensityProblem& problem) {
  const std::int64_t parts = blocks_for(problem.samples.n, part_rows(problem.samples.n));
  const std::int64_t each = parts * 2 * kChain * 8 * (problem.weights ? 2 : 1);
  return std::max<std::int64_t>(kThreads, kPartSumBytes / each / kThreads * kThreads);
}

void add_anchored_sums(const DensityProblem& problem, const DensityRates& rates,
                       const PointList& points, const Stream& stream) {
  const int d = static_cast<int>(problem.points.d);
  const std::int64_t rows = part_rows(problem.samples.n),
                     parts = blocks_for(problem.samples.n, rows);
  const std::int64_t point_blocks = blocks_for(points.count, kThreads);
  const std::int64_t blocks = point_blocks * parts;
  const std::int64_t shared = (d * (kThreads + kSpan) + (problem.weights ? kSpan : 0)) * 8;
  constexpr int kRates = 2 * kChain;
  DeviceBuffer<double> sums(parts * kRates * points.count, stream, "sums by part");
  DeviceBuffer<double> anchors(points.count, stream, "nearest samples");
  DeviceBuffer<double> largest;
  if (problem.weights) largest = DeviceBuffer<double>(sums.size(), stream, "sums by part");

  AnchoredTask task{problem.points,  problem.samples, problem.weights, rates.unit,
                    problem.reach(), points,          problem.first,   rows,
                    point_blocks,    sums.data(),     anchors.data(),  {},
                    sums.data(),     largest.data()};
  launch("nearest", nearest_kernel, blocks, kThreads, shared, stream, task);
  launch("finish_nearest", finish_nearest_kernel, blocks_for(points.count, 256), 256, 0, stream,
         sums.data(), parts, points.count, anchors.data());
  const std::vector<RateGroup> groups = group_rates(rates.rates);
  for (std::size_t group = 0, rate = 0; group < groups.size();) {
    task.rates = launch_rates(groups, rates, groups_at_once(groups, group), group, rate);
    for (int g = task.rates.group_count; g < kMostGroups; ++g) {
      task.rates.groups[g] = {task.rates.groups[0].rate, 0};
    }
    if (problem.float64) {
      (problem.weights ? launch_sums<double, true> : launch_sums<double, false>)(task, blocks,
                                                                                 shared, stream);
    } else {
      (problem.weights ? launch_sums<float, true> : launch_sums<float, false>)(task, blocks, shared,
                                                                               stream);
    }
    const FinishTask finish{
        sums.data(),        largest.data(), anchors.data(),    parts,         points, task.rates,
        problem.bandwidths, problem.logs,   problem.dominated, problem.shares};
    launch("finish_anchored", finish_anchored_kernel,
           blocks_for(points.count, 256) * task.rates.rate_count, 256, 0, stream, finish);
  }
}

}  // namespace fastgen::cuda
