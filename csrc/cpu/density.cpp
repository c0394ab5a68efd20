#include "cpu/density.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/check.hpp"
#include "cpu/direct_density.hpp"
#include "cpu/tile_density.hpp"

namespace fastgen::cpu {

namespace {

// Pairs from which an order pays: below, all blocks are soon done. In 1 and 2 dimensions there is a far
// field to gain.
constexpr double kOrderedPairs = 4e8, kFarFieldPairs = 1e8;
// What float32 holds beside the nearest sample's term.
constexpr double kLightest = 1e-20, kWidestRatio = 0x1p25;

}  // namespace

LogSums::LogSums(const RowView& points, const RowView& samples, std::vector<double> bandwidths,
                 const double* weights, bool leave_one_out, DensityPath path, const Kernels& table,
                 int threads)
    : descending_(bandwidths.size()) {
  FASTGEN_CHECK(points.n >= 1 && samples.n >= 1 && points.d >= 1 && points.d == samples.d);
  FASTGEN_CHECK(points.dtype == samples.dtype && !bandwidths.empty() && threads >= 1);
  FASTGEN_CHECK(!leave_one_out || points.n == samples.n);
  std::iota(descending_.begin(), descending_.end(), std::size_t{0});
  std::stable_sort(descending_.begin(), descending_.end(),
                   [&](std::size_t a, std::size_t b) { return bandwidths[a] > bandwidths[b]; });
  std::vector<double> widths;
  for (const std::size_t b : descending_) widths.push_back(bandwidths[b]);
  const double ratio = widths.front() / widths.back();
  FASTGEN_CHECK(widths.back() > 0 && ratio <= 0x1p100);

  double lightest = 1;
  for (std::int64_t j = 0; weights && j < samples.n; ++j) {
    FASTGEN_CHECK(0 < weights[j] && weights[j] <= 1);
    lightest = std::min(lightest, weights[j]);
  }
  const bool float64 =
      points.dtype == DType::float64 || lightest < kLightest || ratio > kWidestRatio;
  problem_ = {points,  samples, leave_one_out, std::move(widths), weights, lightest,
              float64, &table,  threads};

  if (path == DensityPath::automatic) {
    const double pairs = static_cast<double>(points.n) * static_cast<double>(samples.n);
    const double enough = points.d <= FarField::kMostFeatures ? kFarFieldPairs : kOrderedPairs;
    const bool many = points.d <= kOrderedFeatures && pairs >= enough;
    path = many                          ? DensityPath::ordered
           : points.d <= kDirectFeatures ? DensityPath::direct
                                         : DensityPath::tiles;
  }
  if (path == DensityPath::tiles) {
    walk_ = std::make_unique<TileDensity>(problem_);
  } else {
    FASTGEN_CHECK(path == DensityPath::direct || points.d <= kOrderedFeatures);
    walk_ = std::make_unique<DirectDensity>(problem_, path == DensityPath::ordered);
  }
}

double LogSums::advance(double seconds) {
  const PlainFloatingPoint mode;
  const double fraction = done_ ? 1.0 : walk_->advance(deadline_after(seconds));
  done_ = fraction >= 1.0;
  return fraction;
}

void LogSums::log_sums(double* out) const {
  FASTGEN_CHECK(done_ && !too_narrow());
  std::vector<double> logs(descending_.size());
  for (std::int64_t row = 0; row < problem_.points.n; ++row) {
    std::size_t b = 0;
    for (const LogSumTotals& totals : walk_->totals()) {
      totals.logs(row, logs.data() + b);
      b += totals.bandwidths();
    }
    double* to = out + walk_->point(row) * static_cast<std::int64_t>(logs.size());
    for (b = 0; b < logs.size(); ++b) to[descending_[b]] = logs[b];
  }
}

void LogSums::dominated(std::int64_t* out) const {
  FASTGEN_CHECK(done_ && !too_narrow());
  auto bandwidth = descending_.begin();
  for (const LogSumTotals& totals : walk_->totals()) {
    for (int b = 0; b < totals.bandwidths(); ++b) {
      std::int64_t count = 0;
      for (std::int64_t row = 0; row < problem_.points.n; ++row) {
        count += totals.dominated(row, b) ? 1 : 0;
      }
      out[*bandwidth++] = count;
    }
  }
}

}  // namespace fastgen::cpu
