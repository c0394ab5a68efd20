// Density sums of narrow kernels from float16 rows, and where those are too coarse, from the rows.
//
// With z = sqrt(2 rate) (unit x - centre) a sample's term is w 2^(x . y - |x|^2 / 2 - |y|^2 / 2). One product of
// float16 rows says x . y within
//   |x| |y| (e_x + e_y + e_x e_y + kAdditions) + rounding,   e = |z - float16(z)| / |z| of the row, measured.
// An estimate S of a point's sum from a sixteenth of the samples sets a threshold: terms from 2^-18 to 2^-22 S on,
// and below by what their exponents may be off, are listed and computed from the rows, in float64, whatever
// the product said. The others are added up as they are. If the error of their exponents, as a bound,
// times their share of the sum is within the error allowed, that is the answer; else float64 products
// decide (tile_sums.cu). Nothing here depends on other points, and lists are added as integers.
//
// 64 features, 10^6 normal rows, Scott's bandwidth, by these formulas: with 2^-18 some 1400 samples of each point are
// listed, and 18 % of points are left to float64; with 2^-20 2100 and 5 %, with 2^-22 3100 and none. Some points
// are tried with each. A thousand more listed samples take an estimated 0.08 s for 10^6 points, 1 % of them
// in float64 0.04 s.
#include "cuda/screened_sums.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "cuda/half_rows.hpp"
#include "cuda/screened_sums_kernel.cuh"
#include "cuda/warp.cuh"

namespace fastgen::cuda {
namespace {

// Tensor cores that truncate sums of 8 products to 24 bits lose at most half of this of |x| |y| a feature (GPU.md 4,
// sm_80; sm_90 a quarter). Doubled: that stands on a model of them, and what float16 takes is larger anyway.
constexpr double kAdditions = 11.0 / 4 * 0x1p-24;
// Of the 1e-5; the rest is for float32 additions.
constexpr double kAllowed = 6e-6;
// Tiles that the estimate looks at: a sixteenth, or at least so many.
constexpr std::int64_t kEstimateStep = 16, kEstimateTiles = 32;
// Half of a squared norm beyond which exponents are too coarse whatever happens.
constexpr double kMostSquare = 0x1p20;
// Features are scaled below this: float16 ends at 65504.
constexpr int kHalfExponent = 14;
constexpr std::int64_t kPilots = 1024, kPoints = 2048;
// Terms from 2^-listed of a sum on are listed: how far that goes, and what share more served, one of so many, is
// worth a step.
constexpr double kStep = 2;
constexpr int kSteps = 2;
constexpr std::int64_t kWorthMore = 64;
constexpr double kFixed = 0x1p49;  // up to kMostListed terms of at most 1 as integers

__device__ __forceinline__ unsigned long long magnitude_of(double value) {
  return static_cast<unsigned long long>(__double_as_longlong(value));
}

// A bound on the error of the exponents, in units of their logarithms, of samples whose term is at least
// 2^-40 of the sum 2^log2_sum.
struct Coarseness {
  const double *squares, *residuals;  // of points
  double farthest, residual,
      additions;  // of samples: the largest |z|, and share that float16 takes

  __device__ double operator()(std::int64_t place, double log2_sum) const {
    const double norm = sqrt(2 * squares[place]);
    if (!(norm < 1e9) || !isfinite(residuals[place])) return 1e9;
    const double own = norm > 0 ? residuals[place] / norm : 0.0;
    const double other = fmin(farthest, norm + sqrt(2 * fmax(40.0 - log2_sum, 0.0)));
    const double of_product = own + residual + own * residual + additions + 0x1p-23;
    return kLn2 * (norm * other * of_product + 0x1p-24 * other * other);
  }
};

// What depends on the sample in its exponents, and the largest |z| and |z - float16(z)| / |z|.
__global__ void __launch_bounds__(256)
    sample_terms_kernel(const double* squares, const double* residuals, const double* weights,
                        std::int64_t count, std::int64_t padded, float* minus_b,
                        unsigned long long* extremes) {
  const std::int64_t i = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= padded) return;
  if (i >= count) {
    minus_b[i] = minus_infinity();
    return;
  }
  minus_b[i] = static_cast<float>((weights ? log2(weights[i]) : 0.0) - squares[i]);
  const double norm = sqrt(2 * squares[i]);
  atomicMax(extremes, magnitude_of(norm));
  if (norm > 0) atomicMax(extremes + 1, magnitude_of(residuals[i] / norm));
}

// Points' own samples, and the range of a tile's.
__global__ void __launch_bounds__(kScreenTile)
    own_samples_kernel(PointList list, std::int64_t first, std::int32_t* own, std::int32_t* range) {
  const std::int64_t place = std::int64_t{blockIdx.x} * kScreenTile + threadIdx.x;
  int sample = -1;
  if (first != kNotLeftOut && place < list.count) {
    sample = static_cast<std::int32_t>(first + point_row(list, place));
  }
  own[place] = sample;
  int low = sample < 0 ? 0x7fffffff : sample, high = sample;
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) {
    low = min(low, __shfl_xor_sync(0xffffffffu, low, width));
    high = max(high, __shfl_xor_sync(0xffffffffu, high, width));
  }
  if (threadIdx.x % 32 != 0) return;
  atomicMin(range + 2 * blockIdx.x, low);
  atomicMax(range + 2 * blockIdx.x + 1, high);
}

__global__ void __launch_bounds__(256)
    empty_ranges_kernel(std::int32_t* range, std::int64_t tiles) {
  const std::int64_t tile = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (tile >= tiles) return;
  range[2 * tile] = 0x7fffffff;
  range[2 * tile + 1] = -1;
}

// Thresholds of every point from the estimate's parts, in one order.
struct ThresholdTask {
  const float *peaks, *sums;  // [slots, padded]
  std::int64_t slots, padded, count;
  Coarseness coarseness;
  double below;   // powers of two below the estimate from which terms are listed
  float* listed;  // out, [padded]
};

// A warp a point.
__global__ void __launch_bounds__(256) thresholds_kernel(ThresholdTask task) {
  const std::int64_t i = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (i >= task.padded) return;  // whole warps
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float infinity = __int_as_float(0x7f800000);
  float peak = -infinity, sum = 0;
  for (std::int64_t slot = lane; slot < task.slots; slot += 32) {
    peak = fmaxf(peak, task.peaks[slot * task.padded + i]);
  }
  peak = warp_max(peak);
  for (std::int64_t slot = lane; peak > -infinity && slot < task.slots; slot += 32) {
    const std::int64_t at = slot * task.padded + i;
    sum += task.sums[at] * exp2_flushed(task.peaks[at] - peak);
  }
  sum = warp_sum(sum);
  if (lane != 0) return;
  task.listed[i] = infinity;
  if (i >= task.count || !(sum > 0)) return;
  const double log2_sum = static_cast<double>(peak) + log2(static_cast<double>(sum));
  // The estimate may be too large by the error, and a sample's term too small.
  const double error = task.coarseness(i, log2_sum - task.coarseness.squares[i]) / kLn2;
  task.listed[i] = static_cast<float>(log2_sum - task.below - 2 * error);
}

// Exponents of listed pairs from their rows, a block a point; they take the places of the samples' numbers.
struct ListedTask {
  RowView points, samples;
  PointList list;
  const double* weights;
  double unit, rate;
  const unsigned* counts;
  std::int64_t* lists;
};

template <class Item>
__global__ void __launch_bounds__(256) listed_kernel(ListedTask task) {
  const std::int64_t place = blockIdx.x;
  const unsigned count = task.counts[place];
  if (count > kMostListed) return;
  const Item* x = items_of<Item>(task.points, point_row(task.list, place));
  for (unsigned e = threadIdx.x / 32; e < count; e += 8) {
    std::int64_t* entry = task.lists + place * kMostListed + e;
    const std::int64_t sample = *entry;
    const Item* y = items_of<Item>(task.samples, sample);
    double square = 0;
#pragma unroll 2
    for (std::int64_t f = threadIdx.x % 32; f < task.points.d; f += 32) {
      const double t =
          (static_cast<double>(number(__ldg(x + f))) - static_cast<double>(number(__ldg(y + f)))) *
          task.unit;
      square = fma(t, t, square);
    }
    square = warp_sum(square);
    __syncwarp();  // all lanes know the sample
    if (threadIdx.x % 32 != 0) continue;
    const double weight = task.weights ? log2(task.weights[sample]) : 0.0;
    *entry = __double_as_longlong(weight - task.rate * square);
  }
}

struct FinishTask {
  const float *sums, *listed;  // [slots, padded], [padded]
  std::int64_t slots, padded;
  PointList list;
  const unsigned* counts;
  const std::int64_t* lists;
  Coarseness coarseness;
  double* logs;  // null: only the points that cannot be served are of interest
  unsigned long long* dominated;
  double* shares;  // null: not asked for
  std::int32_t* unsettled;
  unsigned* unsettled_count;
};

// A warp a point: the listed terms, as integers of any order, and the sum of the others.
__global__ void __launch_bounds__(256) finish_screened_kernel(FinishTask task) {
  const std::int64_t place = std::int64_t{blockIdx.x} * 8 + threadIdx.x / 32;
  if (place >= task.list.count) return;  // whole warps
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const unsigned count = task.counts[place];
  bool serves = count <= kMostListed;
  const std::int64_t* list = task.lists + place * kMostListed;
  const double infinity = static_cast<double>(__int_as_float(0x7f800000));
  double most = -infinity, others = 0;
  for (unsigned e = lane; serves && e < count; e += 32) {
    most = fmax(most, __longlong_as_double(list[e]));
  }
  for (std::int64_t slot = lane; slot < task.slots; slot += 32) {
    others += static_cast<double>(task.sums[slot * task.padded + place]);
  }
  most = warp_max(most);
  others = warp_sum(others);
  long long fixed = 0;
  for (unsigned e = lane; serves && e < count; e += 32) {
    fixed += __double2ll_rn(exp2_of_minus(most - __longlong_as_double(list[e])) * kFixed);
  }
  fixed = warp_sum(fixed);
  // Both counted from the larger of two exponents.
  const double of_others = static_cast<double>(task.listed[place]) - task.coarseness.squares[place];
  const double from = fmax(most, of_others);
  const double listed =
      count > 0 ? static_cast<double>(fixed) / kFixed * exp2_of_minus(from - most) : 0.0;
  others *= exp2_of_minus(from - of_others);
  const double sum = listed + others;
  const double off = others * expm1(task.coarseness(place, from + log2(sum)));
  serves = serves && isfinite(sum) && sum > 0 && off <= kAllowed * sum;
  const double largest = count > 0 ? exp2_of_minus(from - most) : 0.0;
  if (lane != 0) return;
  if (!serves) {
    const unsigned number = atomicAdd(task.unsettled_count, 1u);
    if (task.unsettled) {
      task.unsettled[number] = static_cast<std::int32_t>(point_row(task.list, place));
    }
  } else if (task.logs) {
    task.logs[point_row(task.list, place)] = log(sum) + kLn2 * from;
    const double share = share_of_largest(largest, sum);
    if (share > 0) atomicAdd(task.dominated, 1ull);
    if (task.shares) task.shares[point_row(task.list, place)] = share;
  }
}

}  // namespace

ScreenedSums::ScreenedSums(const DensityProblem& problem, const DensityRates& rates,
                           const std::vector<double>& centre, const std::vector<double>& columns,
                           double listed, const Stream& stream)
    : problem_(problem),
      rates_(rates),
      stream_(stream),
      depth_(blocks_for(problem.samples.d, 64) * 64),
      tiles_(blocks_for(problem.samples.n, kScreenTile)),
      listed_(listed),
      factor_(std::sqrt(2 * rates.rates[0])) {
  const std::size_t d = centre.size();
  std::vector<double> scaled = centre;
  double peak = 0;
  for (std::size_t f = 0; f < d; ++f) {
    scaled[f] *= rates.unit;
    const double far = std::max(columns[2 * d + f] - centre[f], centre[f] - columns[d + f]);
    peak = std::max(peak, far * rates.unit * factor_);
  }
  if (!(peak * peak <= 2 * kMostSquare)) return;
  int exponent = 0;
  if (peak > 0) std::frexp(peak, &exponent);
  scale_ = std::ldexp(1.0, kHalfExponent - exponent);
  centre_ = uploaded(scaled, stream_, "the centre");

  const std::int64_t padded = tiles_ * kScreenTile;
  samples_ = DeviceBuffer<unsigned short>(padded * depth_, stream_, "float16 samples");
  minus_b_ = DeviceBuffer<float>(padded, stream_, "norms of samples");
  DeviceBuffer<double> squares(padded, stream_, "norms of samples");
  DeviceBuffer<double> residuals(padded, stream_, "norms of samples");
  DeviceBuffer<unsigned long long> extremes(2, stream_, "norms of samples");
  fill_bytes(extremes.data(), 0, extremes.bytes(), stream_);
  make_half({problem.samples,
             {nullptr, 0, problem.samples.n},
             rates.unit,
             factor_,
             scale_,
             centre_.data(),
             depth_,
             samples_.data(),
             squares.data(),
             residuals.data()},
            padded, stream_);
  launch("sample_terms", sample_terms_kernel, blocks_for(padded, 256), 256, 0, stream_,
         squares.data(), residuals.data(), problem.weights, problem.samples.n, padded,
         minus_b_.data(), extremes.data());
  const std::vector<unsigned long long> found = downloaded(extremes, stream_);
  std::memcpy(&farthest_, found.data(), sizeof(double));
  std::memcpy(&residual_, found.data() + 1, sizeof(double));
  serves_ = 0.5 * farthest_ * farthest_ <= kMostSquare && pilot();
}

std::int64_t ScreenedSums::most_points() { return kPoints; }

// Whether a quarter of some samples, each without itself, are served: float64 products take seven times as
// long. Lists more where that serves more of them.
bool ScreenedSums::pilot() {
  const std::int64_t count = std::min(kPilots, problem_.samples.n);
  std::vector<std::int32_t> rows;
  for (std::int64_t i = 0; i < count; ++i) {
    rows.push_back(static_cast<std::int32_t>(i * problem_.samples.n / count));
  }
  const DeviceBuffer<std::int32_t> list = uploaded(rows, stream_, "points");
  DeviceBuffer<unsigned> counts(1, stream_, "counts");
  DensityProblem alone = problem_;
  alone.points = problem_.samples;
  alone.first = 0;
  alone.logs = nullptr;
  const auto failures = [&] {
    fill_bytes(counts.data(), 0, counts.bytes(), stream_);
    walk(alone, {list.data(), 0, count}, nullptr, counts.data());
    return static_cast<std::int64_t>(downloaded(counts, stream_)[0]);
  };
  std::int64_t failed = failures();
  for (int step = 0; step < kSteps && kWorthMore * failed > count; ++step) {
    listed_ += kStep;
    const std::int64_t now = failures();
    if (kWorthMore * (failed - now) <= count) {
      listed_ -= kStep;
      break;
    }
    failed = now;
  }
  return 4 * failed <= 3 * count;
}

void ScreenedSums::add(const PointList& points, std::int32_t* unsettled,
                       unsigned* unsettled_count) {
  walk(problem_, points, unsettled, unsettled_count);
}

void ScreenedSums::walk(const DensityProblem& problem, const PointList& points,
                        std::int32_t* unsettled, unsigned* unsettled_count) {
  const std::int64_t point_tiles = blocks_for(points.count, kScreenTile);
  const std::int64_t padded = point_tiles * kScreenTile;
  const std::int64_t part_tiles = part_rows(problem.samples.n) / kScreenTile;
  const std::int64_t parts = blocks_for(tiles_, part_tiles), slots = 4 * parts;
  DeviceBuffer<unsigned short> halves(padded * depth_, stream_, "float16 points");
  DeviceBuffer<double> squares(padded, stream_, "norms of points");
  DeviceBuffer<double> residuals(padded, stream_, "norms of points");
  DeviceBuffer<std::int32_t> own(padded + 2 * point_tiles, stream_, "points");
  DeviceBuffer<float> sums(slots * padded, stream_, "sums by part");
  DeviceBuffer<float> peaks(slots * padded, stream_, "sums by part");
  DeviceBuffer<float> listed(padded, stream_, "thresholds");
  DeviceBuffer<unsigned> counts(points.count, stream_, "counts");
  DeviceBuffer<std::int64_t> lists(points.count * kMostListed, stream_, "samples that matter");
  std::int32_t* range = own.data() + padded;
  fill_bytes(counts.data(), 0, counts.bytes(), stream_);
  make_half({problem.points, points, rates_.unit, factor_, scale_, centre_.data(), depth_,
             halves.data(), squares.data(), residuals.data()},
            padded, stream_);
  launch("empty_ranges", empty_ranges_kernel, blocks_for(point_tiles, 256), 256, 0, stream_, range,
         point_tiles);
  launch("own_samples", own_samples_kernel, point_tiles, kScreenTile, 0, stream_, points,
         problem.first, own.data(), range);

  const Coarseness coarseness{squares.data(), residuals.data(), farthest_, residual_,
                              kAdditions * static_cast<double>(depth_)};
  const std::int64_t bytes = depth_ * 2;
  const std::int64_t step =
      std::max<std::int64_t>(1, std::min(kEstimateStep, tiles_ / kEstimateTiles));
  const ScreenTask task{{{halves.data(), nullptr}, bytes},
                        {{samples_.data(), nullptr}, bytes},
                        bytes,
                        static_cast<float>(1 / (scale_ * scale_)),
                        minus_b_.data(),
                        own.data(),
                        range,
                        points.count,
                        static_cast<int>(point_tiles),
                        static_cast<int>(part_tiles),
                        static_cast<int>(tiles_),
                        static_cast<int>(step),
                        peaks.data(),
                        sums.data(),
                        listed.data(),
                        counts.data(),
                        lists.data()};
  launch("estimate_sums", screen_kernel<true>, point_tiles * parts, kTileThreads,
         kScreenBytes<true>, stream_, task);
  const ThresholdTask threshold{peaks.data(), sums.data(), slots,   padded,
                                points.count, coarseness,  listed_, listed.data()};
  launch("thresholds", thresholds_kernel, blocks_for(padded, 8), 256, 0, stream_, threshold);
  launch("screened_sums", screen_kernel<false>, point_tiles * parts, kTileThreads,
         kScreenBytes<false>, stream_, task);
  const ListedTask exact{problem.points, problem.samples, points,        problem.weights,
                         rates_.unit,    rates_.rates[0], counts.data(), lists.data()};
  with_item(problem.points.dtype, [&](auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("listed_terms", listed_kernel<Item>, points.count, 256, 0, stream_, exact);
  });
  const FinishTask finish{sums.data(),    listed.data(),     slots,          padded,
                          points,         counts.data(),     lists.data(),   coarseness,
                          problem.logs,   problem.dominated, problem.shares, unsettled,
                          unsettled_count};
  launch("finish_screened", finish_screened_kernel, blocks_for(points.count, 8), 256, 0, stream_,
         finish);
}

}  // namespace fastgen::cuda
