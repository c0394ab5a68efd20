// Density sums by tiles: |x - y|^2 = |z_x|^2 + |z_y|^2 - 2 z_x . z_y for rows about the samples' mean, in
// float64, with a sum per part of the samples that is counted from the nearest of that part.
#include "cuda/tile_sums.hpp"

#include <algorithm>
#include <cmath>

#include "cuda/tile_sums_kernel.cuh"
#include "cuda/warp.cuh"

namespace fastgen::cuda {
namespace {

// |z_x|^2 + |z_y|^2 - 2 z_x . z_y is off by this share of |z_x|^2 + |z_y|^2 at most, for up to 2048
// features: roundings of 2^-53 of a growing sum, each on its own.
constexpr double kCancels = 0x1p-48;
// What of that may go into an exponent.
constexpr double kMostFloat = 3e-6, kMostDouble = 3e-11;

// Squared norms of centred rows, a warp each.
template <class Item>
__global__ void __launch_bounds__(256) squares_kernel(RowView rows, PointList list, double unit,
                                                      const double* centre, double* squares) {
  const std::int64_t place = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (place >= list.count) return;  // whole warps
  const std::int64_t row = point_row(list, place);
  double sum = 0;
#pragma unroll 4
  for (std::int64_t f = threadIdx.x % 32; f < rows.d; f += 32) {
    const double z = centred<Item>(rows, row, f, unit, __ldg(centre + f));
    sum = fma(z, z, sum);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) squares[place] = sum;
}

void find_squares(const RowView& rows, const PointList& list, double unit, const double* centre,
                  double* squares, const Stream& stream) {
  with_item(rows.dtype, [&](auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("squares", squares_kernel<Item>, blocks_for(list.count, 8), 256, 0, stream, rows, list,
           unit, centre, squares);
  });
}

template <class Real, bool kWeighted>
void launch_tiles(const TileSumsTask& task, std::int64_t parts, const Stream& stream) {
  const std::int64_t shared = tile_sums_bytes(task.rates.rate_count, kWeighted);
  const std::int64_t blocks = task.point_blocks * parts;
  launch("tile_sums", tile_sums_kernel<Real, kWeighted, false>, blocks, kSumThreads, shared, stream,
         task);
  launch("tile_sums_look", tile_sums_kernel<Real, kWeighted, true>, blocks, kSumThreads, shared,
         stream, task);
}

struct FinishTask {
  const double *anchors, *sums, *largest;
  std::int64_t parts;
  PointList list;
  LaunchRates rates;
  std::int64_t columns;
  double* logs;
  unsigned long long* dominated;
  double* shares;  // null: not asked for
};

// One thread a point and rate. Parts in their order, each counted from the nearest sample of all.
__global__ void __launch_bounds__(256) finish_tiles_kernel(FinishTask task) {
  const std::int64_t blocks = (task.list.count + 255) / 256;
  const int rate = static_cast<int>(blockIdx.x / blocks);
  const std::int64_t i = blockIdx.x % blocks * 256 + threadIdx.x;
  const std::int64_t column = task.rates.column[rate];
  bool dominated = false;
  if (i < task.list.count) {
    double anchor = infinite_square(), sum = 0, largest = 0;
    for (std::int64_t part = 0; part < task.parts; ++part) {
      anchor = fmin(anchor, task.anchors[part * task.list.count + i]);
    }
    for (std::int64_t part = 0; part < task.parts; ++part) {
      const double own = task.anchors[part * task.list.count + i];
      if (!isfinite(own)) continue;
      const double factor = exp2(-task.rates.rates[rate] * (own - anchor));
      const std::int64_t at = (part * task.rates.rate_count + rate) * task.list.count + i;
      sum += task.sums[at] * factor;
      if (task.largest) largest = fmax(largest, task.largest[at] * factor);
    }
    // Without weights the largest term is the anchor's, which is 1.
    if (!task.largest && sum > 0) largest = 1;
    const double share = share_of_largest(largest, sum);
    dominated = share > 0;
    const std::int64_t to = point_row(task.list, i) * task.columns + column;
    task.logs[to] = log_of_sum(sum, task.rates.rates[rate], anchor);
    if (task.shares) task.shares[to] = share;
  }
  count_votes(dominated, task.dominated + column);
}

}  // namespace

TileSums::TileSums(const DensityProblem& problem, const DensityRates& rates,
                   const std::vector<double>& centre, const Stream& stream)
    : problem_(problem),
      rates_(rates),
      stream_(stream),
      groups_(group_rates(rates.rates)),
      sample_squares_(problem.samples.n, stream, "norms of samples") {
  std::vector<double> scaled = centre;
  for (double& value : scaled) value *= rates.unit;
  centre_ = uploaded(scaled, stream_, "the centre");
  find_squares(problem.samples, {nullptr, 0, problem.samples.n}, rates.unit, centre_.data(),
               sample_squares_.data(), stream_);
}

std::int64_t TileSums::most_points() const {
  const std::int64_t parts = blocks_for(problem_.samples.n, part_rows(problem_.samples.n));
  std::int64_t each =
      std::min<std::int64_t>(kMostRates, static_cast<std::int64_t>(rates_.rates.size()));
  each = parts * 8 * (each * (problem_.weights ? 2 : 1) + 1);
  return std::max<std::int64_t>(kSumRows, kPartSumBytes / each / kSumRows * kSumRows);
}

void TileSums::add(const PointList& points) {
  const std::int64_t rows = part_rows(problem_.samples.n);
  const std::int64_t parts = blocks_for(problem_.samples.n, rows);
  const std::int64_t point_blocks = blocks_for(points.count, kSumRows);
  const std::int64_t most_rates =
      std::min<std::int64_t>(kMostRates, static_cast<std::int64_t>(rates_.rates.size()));
  DeviceBuffer<double> squares(points.count, stream_, "norms of points");
  DeviceBuffer<double> anchors(parts * points.count, stream_, "nearest samples");
  DeviceBuffer<double> sums(parts * most_rates * points.count, stream_, "sums by part"), largest;
  if (problem_.weights) largest = DeviceBuffer<double>(sums.size(), stream_, "sums by part");
  DeviceBuffer<unsigned> looks(point_blocks * parts, stream_, "flags");
  fill_bytes(looks.data(), 0, looks.bytes(), stream_);
  find_squares(problem_.points, points, rates_.unit, centre_.data(), squares.data(), stream_);

  const double features = static_cast<double>(problem_.points.d);
  const double cancels = kCancels * std::sqrt(std::max(1.0, features / 2048));
  const double most = problem_.float64 ? kMostDouble : kMostFloat;
  TileSumsTask task{problem_.points,
                    problem_.samples,
                    problem_.weights,
                    rates_.unit,
                    problem_.reach(),
                    centre_.data(),
                    squares.data(),
                    sample_squares_.data(),
                    points,
                    problem_.first,
                    rows,
                    point_blocks,
                    cancels,
                    most / cancels / rates_.rates.back(),
                    looks.data(),
                    {},
                    anchors.data(),
                    sums.data(),
                    largest.data()};
  for (std::size_t group = 0, rate = 0; group < groups_.size();) {
    task.rates = launch_rates(groups_, rates_, kMostGroups, group, rate);
    const bool weighted = problem_.weights != nullptr;
    if (problem_.float64) {
      (weighted ? launch_tiles<double, true> : launch_tiles<double, false>)(task, parts, stream_);
    } else {
      (weighted ? launch_tiles<float, true> : launch_tiles<float, false>)(task, parts, stream_);
    }
    const FinishTask finish{
        anchors.data(),      sums.data(),   largest.data(),     parts,          points, task.rates,
        problem_.bandwidths, problem_.logs, problem_.dominated, problem_.shares};
    launch("finish_tiles", finish_tiles_kernel,
           blocks_for(points.count, 256) * task.rates.rate_count, 256, 0, stream_, finish);
  }
}

}  // namespace fastgen::cuda
