// The density engine's host: units, which points go which way, and batches.
#include "cuda/log_sums.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "common/check.hpp"
#include "cuda/anchored_sums.hpp"
#include "cuda/plain_sums.hpp"
#include "cuda/ptx.cuh"
#include "cuda/scan_rows.hpp"
#include "cuda/screened_sums.hpp"
#include "cuda/tile_sums.hpp"

namespace fastgen::cuda {
namespace {

using Clock = std::chrono::steady_clock;

// What float32 holds beside the nearest sample's term.
constexpr double kLightest = 1e-20, kWidestRatio = 0x1p25;
// Features in the engine's units are below 2^kReach, so that squared distances are float64 numbers.
constexpr int kReach = 400;
// A batch takes about so long: short enough for progress and interruption, long beside a launch.
constexpr double kBatchSeconds = 0.1;
// Points of the first batch: enough to fill a device, and done soon whatever device it is. Tiles multiply so many
// pairs of features at first, an estimated 5 ms of an H100 and 0.1 s of GPUs with few float64 units, where a
// display's watchdog kills what takes seconds.
constexpr std::int64_t kFirstPoints = 16384;
constexpr double kFirstProducts = 0x1p36;

// Points on a list (null: all n) by whether their largest magnitude is below `limit`.
__global__ void __launch_bounds__(256)
    split_points_kernel(const std::int32_t* rows, std::int64_t count, const MagnitudeBits* peaks,
                        MagnitudeBits limit, std::int32_t* near, std::int32_t* far,
                        unsigned* counts) {
  const std::int64_t i = std::int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (i >= count) return;
  const std::int32_t row = rows ? rows[i] : static_cast<std::int32_t>(i);
  if (peaks[row] < limit) {
    near[atomicAdd(counts, 1u)] = row;
  } else {
    far[atomicAdd(counts + 1, 1u)] = row;
  }
}

MagnitudeBits magnitude_bits(double magnitude) {
  MagnitudeBits bits;
  std::memcpy(&bits, &magnitude, sizeof(bits));
  return bits;
}

// e with |x| < 2^e for all numbers of a set, from the extremes of its columns.
int reach_of(const std::vector<double>& columns, std::int64_t d) {
  double largest = 0;
  for (std::size_t i = static_cast<std::size_t>(d); i < columns.size(); ++i) {
    largest = std::max(largest, std::fabs(columns[i]));
  }
  int exponent = -2000;
  if (largest > 0) std::frexp(largest, &exponent);
  return exponent;
}

}  // namespace

LogSums::LogSums(const RowView& points, const RowView& samples, std::vector<double> bandwidths,
                 const double* weights, bool leave_one_out, std::int64_t first, DensityPath path,
                 const Stream& stream)
    : stream_(stream), path_(path), descending_(bandwidths.size()) {
  FASTGEN_CHECK(points.n >= 1 && samples.n >= 1 && points.d >= 1 && points.d == samples.d);
  // Numbers of rows, and of those up to the end of a tile, are int32.
  constexpr std::int64_t kMostRows = (std::int64_t{1} << 31) - 4096;
  FASTGEN_CHECK(points.n < kMostRows && samples.n < kMostRows);
  FASTGEN_CHECK(points.dtype == samples.dtype && !bandwidths.empty());
  FASTGEN_CHECK(!leave_one_out || (0 <= first && first + points.n <= samples.n));
  if (path_ == DensityPath::automatic) {
    path_ = points.d <= kMostDifferences ? DensityPath::direct : DensityPath::tiles;
  }
  FASTGEN_CHECK(path_ == DensityPath::tiles || points.d <= kMostDifferences);
  std::iota(descending_.begin(), descending_.end(), std::int64_t{0});
  std::stable_sort(descending_.begin(), descending_.end(), [&](std::int64_t a, std::int64_t b) {
    return bandwidths[static_cast<std::size_t>(a)] > bandwidths[static_cast<std::size_t>(b)];
  });
  for (const std::int64_t b : descending_)
    widths_.push_back(bandwidths[static_cast<std::size_t>(b)]);
  const double ratio = widths_.front() / widths_.back();
  FASTGEN_CHECK(widths_.back() > 0 && ratio <= 0x1p100);

  double lightest = 1, total = static_cast<double>(samples.n);
  if (weights) {
    total = 0;
    for (std::int64_t j = 0; j < samples.n; ++j) {
      FASTGEN_CHECK(0 < weights[j] && weights[j] <= 1);
      lightest = std::min(lightest, weights[j]);
      total += weights[j];
    }
    weights_ = DeviceBuffer<double>(samples.n, stream_, "weights");
    upload(weights_.data(), weights, weights_.bytes(), stream_);
  }
  const std::int64_t count = static_cast<std::int64_t>(widths_.size());
  logs_ = DeviceBuffer<double>(points.n * count, stream_, "log sums");
  dominated_ = DeviceBuffer<unsigned long long>(count, stream_, "counts");
  fill_bytes(dominated_.data(), 0, dominated_.bytes(), stream_);
  problem_ = {points,
              samples,
              weights ? weights_.data() : nullptr,
              lightest,
              total,
              leave_one_out ? first : kNotLeftOut,
              points.dtype == DType::float64 || lightest < kLightest || ratio > kWidestRatio,
              count,
              logs_.data(),
              dominated_.data()};
}

LogSums::~LogSums() = default;

double LogSums::advance(double seconds) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(std::min(seconds, 1e6));
  do {
    switch (phase_) {
      case Phase::look:
        look();
        break;
      case Phase::first:
        first_batch();
        break;
      case Phase::settle:
        settle_batch();
        break;
      case Phase::done:
        return 1.0;
    }
  } while (Clock::now() < deadline);
  if (phase_ == Phase::done) return 1.0;
  const double points = static_cast<double>(problem_.points.n);
  double fraction = static_cast<double>(done_points_) / points;
  if (phase_ == Phase::settle) {
    fraction = to_settle_ > 0 ? (settled_ + static_cast<double>(done_points_)) / to_settle_ : 0.0;
  }
  // Points that are done again are few, or take several times as long as the first walk did.
  if (first_) fraction = phase_ == Phase::first ? 0.5 * fraction : 0.5 + 0.5 * fraction;
  if (phase_ != Phase::look) shown_ = std::max(shown_, std::min(fraction, 1 - 1e-9));
  return shown_;
}

DensityRates LogSums::rates_in(double unit) const {
  return {unit, rates_of(widths_, unit), descending_};
}

// What the rows reach decides the units. Those of points within reach of the samples depend on the samples
// and bandwidths alone; so does whether float32 may hold them.
void LogSums::look() {
  const std::int64_t d = problem_.points.d;
  DeviceBuffer<double> columns(3 * d, stream_, "columns");
  std::vector<double> of_samples;
  {
    Scan scan = allocate_scan(problem_.samples, stream_);
    scan_rows(problem_.samples, scan, columns.data(), stream_);
    of_samples = downloaded(columns, stream_);
  }
  Scan scan = allocate_scan(problem_.points, stream_);
  scan_rows(problem_.points, scan, columns.data(), stream_);
  const int points = reach_of(downloaded(columns, stream_), d), samples = reach_of(of_samples, d);
  peaks_ = std::move(scan.peaks);
  mean_.assign(of_samples.begin(), of_samples.begin() + d);
  for (std::int64_t f = 0; f < d; ++f) {
    // Rounding may lead out of the rows' range.
    mean_[f] = std::max(
        of_samples[d + f],
        std::min(of_samples[2 * d + f], mean_[f] / static_cast<double>(problem_.samples.n)));
  }

  // A power of two that makes the widest bandwidth about 1, unless that led out of the range of numbers.
  int bandwidth = 0;
  std::frexp(widths_[0], &bandwidth);
  const int exponent = std::min({1 - bandwidth, kReach - samples, 1000});
  const int far_exponent = std::min(exponent, kReach - std::max(samples, points));
  unit_ = std::ldexp(1.0, exponent);
  far_unit_ = std::ldexp(1.0, far_exponent);
  far_ = far_exponent < exponent;
  too_narrow_ = rates_of(widths_, far_unit_).back() > kFastestRate;
  if (too_narrow_) {
    phase_ = Phase::done;
    return;
  }
  if (1 - bandwidth + samples > 100 || 1 - bandwidth > 1000) problem_.float64 = true;
  first_ = !problem_.float64 && widths_.size() == 1;
  if (first_ && path_ == DensityPath::tiles) {
    first_ = problem_.samples.n >= least_screened_;
    if (first_) {
      try {
        screened_ = std::make_unique<ScreenedSums>(problem_, rates_in(unit_), mean_, of_samples,
                                                   listed_, stream_);
        first_ = screened_->serves();
      } catch (const OutOfMemory&) {
        first_ = false;  // as in first_batch
      }
    }
    if (!first_) screened_.reset();
  }
  if (!first_) {
    list_passes();
    return;
  }
  unsettled_ = DeviceBuffer<std::int32_t>(problem_.points.n, stream_, "points");
  unsettled_count_ = DeviceBuffer<unsigned>(1, stream_, "counts");
  fill_bytes(unsettled_count_.data(), 0, unsettled_count_.bytes(), stream_);
  phase_ = Phase::first;
}

// About as many points as take kBatchSeconds.
std::int64_t LogSums::next_batch(std::int64_t left, std::int64_t most) {
  const std::int64_t step = tiles_ ? 64 : 1024;
  double points = points_per_second_ * kBatchSeconds;
  if (!(points > 0)) {
    points = kFirstPoints;
    if (tiles_) {
      const double each =
          static_cast<double>(problem_.samples.n) * static_cast<double>(problem_.points.d);
      points = std::min(points, kFirstProducts / each);
    }
  }
  const auto whole = static_cast<std::int64_t>(std::min(points, static_cast<double>(left)));
  const std::int64_t batch = std::max<std::int64_t>(1, blocks_for(whole, step)) * step;
  return std::min({batch, left, most, most_points_});
}

void LogSums::first_batch() {
  const auto start = Clock::now();
  const std::int64_t left = problem_.points.n - done_points_;
  const std::int64_t count =
      next_batch(left, screened_ ? ScreenedSums::most_points() : most_plain_points(problem_));
  if (screened_) {
    try {
      screened_->add({nullptr, done_points_, count}, unsettled_.data(), unsettled_count_.data());
    } catch (const OutOfMemory&) {
      // Tiles need no copy of the samples. The one place where free memory decides how points are computed, so that
      // the last bits may differ, within the same bound; all points go the same way.
      first_ = false;
      unsettled_ = DeviceBuffer<std::int32_t>();
      fill_bytes(dominated_.data(), 0, dominated_.bytes(), stream_);
      list_passes();
      return;
    }
  } else {
    const PlainSums sums{static_cast<float>(rates_in(unit_).rates[0]), unit_, unsettled_.data(),
                         unsettled_count_.data()};
    add_plain_sums(problem_, sums, done_points_, count, stream_);
  }
  stream_.synchronize();
  done_points_ += count;
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  points_per_second_ = static_cast<double>(count) / std::max(seconds, 1e-6);
  if (done_points_ == problem_.points.n) list_passes();
}

// Points that are left, by the unit that serves them.
void LogSums::list_passes() {
  std::int64_t count = problem_.points.n;
  DeviceBuffer<std::int32_t> rows;
  screened_.reset();
  if (first_) {
    count = downloaded(unsettled_count_, stream_)[0];
    rows = std::move(unsettled_);
    served_first_ = problem_.points.n - count;
  }
  phase_ = Phase::settle;
  done_points_ = 0;
  points_per_second_ = 0;
  to_settle_ = static_cast<double>(count);
  if (!far_) {
    if (count > 0) passes_.push_back({rates_in(unit_), std::move(rows), first_, count});
  } else if (count > 0) {
    const double limit = std::ldexp(1.0, kReach) / unit_;
    const MagnitudeBits bits = magnitude_bits(limit);
    DeviceBuffer<std::int32_t> near(count, stream_, "points"), far(count, stream_, "points");
    DeviceBuffer<unsigned> counts(2, stream_, "counts");
    fill_bytes(counts.data(), 0, counts.bytes(), stream_);
    launch("split_points", split_points_kernel, blocks_for(count, 256), 256, 0, stream_,
           rows.data(), count, peaks_.data(), bits, near.data(), far.data(), counts.data());
    const std::vector<unsigned> found = downloaded(counts, stream_);
    if (found[0] > 0) passes_.push_back({rates_in(unit_), std::move(near), true, found[0]});
    if (found[1] > 0) passes_.push_back({rates_in(far_unit_), std::move(far), true, found[1]});
  }
  pass_ = 0;
  begin_pass();
}

void LogSums::begin_pass() {
  tiles_.reset();
  done_points_ = 0;
  if (pass_ == passes_.size()) {
    passes_.clear();
    phase_ = Phase::done;
  } else if (path_ == DensityPath::tiles) {
    tiles_ = std::make_unique<TileSums>(problem_, passes_[pass_].rates, mean_, stream_);
  }
}

void LogSums::settle_batch() {
  const auto start = Clock::now();
  const Pass& pass = passes_[pass_];
  const std::int64_t most = tiles_ ? tiles_->most_points() : most_anchored_points(problem_);
  const std::int64_t count = next_batch(pass.count - done_points_, most);
  const PointList points{pass.listed ? pass.rows.data() : nullptr, done_points_, count};
  if (tiles_) {
    tiles_->add(points);
  } else {
    add_anchored_sums(problem_, pass.rates, points, stream_);
  }
  stream_.synchronize();
  done_points_ += count;
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  points_per_second_ = static_cast<double>(count) / std::max(seconds, 1e-6);
  if (done_points_ < pass.count) return;
  settled_ += static_cast<double>(pass.count);
  ++pass_;
  begin_pass();
}

void LogSums::log_sums(double* out) const {
  FASTGEN_CHECK(done() && !too_narrow_);
  download(out, logs_.data(), logs_.bytes(), stream_);
}

void LogSums::want_shares() {
  FASTGEN_CHECK(phase_ == Phase::look);
  shares_ = DeviceBuffer<double>(logs_.size(), stream_, "shares");
  problem_.shares = shares_.data();
}

void LogSums::shares(double* out) const {
  FASTGEN_CHECK(done() && !too_narrow_ && problem_.shares);
  download(out, shares_.data(), shares_.bytes(), stream_);
}

void LogSums::dominated(std::int64_t* out) const {
  FASTGEN_CHECK(done() && !too_narrow_);
  const std::vector<unsigned long long> counts = downloaded(dominated_, stream_);
  for (std::size_t b = 0; b < counts.size(); ++b) out[b] = static_cast<std::int64_t>(counts[b]);
}

}  // namespace fastgen::cuda
