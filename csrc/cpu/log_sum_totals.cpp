#include "cpu/log_sum_totals.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

double total(const double* p) {
  return ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
}

}  // namespace

void BlockSums::reset(int rows, int bandwidths) {
  const std::int64_t sums = std::int64_t{rows} * bandwidths;
  partials_.assign(sums * kPartials, 0.0);
  largest_.assign(sums, 0.0);
  rows_.clear();
  for (std::int64_t place = 0; place < sums; place += bandwidths) {
    rows_.push_back({kInfinity, partials_.data() + place * kPartials, largest_.data() + place});
  }
}

double BlockSums::farthest_anchor() const {
  double farthest = 0;
  for (const AnchoredSums& row : rows_) farthest = std::max(farthest, row.anchor);
  return farthest;
}

LogSumTotals::LogSumTotals(std::int64_t rows, int parts, bool largest, std::vector<double> rates)
    : rows_(rows), parts_(parts), rates_(std::move(rates)) {
  const std::int64_t sums = place(parts_, 0);
  anchor_.assign(parts_ * rows_, kInfinity);
  sum_.assign(sums, 0.0);
  if (largest) largest_.assign(sums, 0.0);
}

void LogSumTotals::clear(std::int64_t row) {
  const std::int64_t count = static_cast<std::int64_t>(rates_.size());
  for (int part = 0; part < parts_; ++part) {
    anchor_[part * rows_ + row] = kInfinity;
    std::fill_n(sum_.begin() + place(part, row), count, 0.0);
    if (!largest_.empty()) std::fill_n(largest_.begin() + place(part, row), count, 0.0);
  }
}

void LogSumTotals::add(int part, std::int64_t row, const AnchoredSums& block) {
  if (block.anchor == kInfinity) return;
  const std::int64_t to = part * rows_ + row;
  const double anchor = std::min(anchor_[to], block.anchor);
  const std::int64_t begin = place(part, row);
  for (std::size_t b = 0; b < rates_.size(); ++b) {
    // An infinite anchor's sums are 0, and so is their factor.
    const double before = std::exp2(-rates_[b] * (anchor_[to] - anchor));
    const double now = std::exp2(-rates_[b] * (block.anchor - anchor));
    sum_[begin + b] = sum_[begin + b] * before + total(block.partials + b * kPartials) * now;
    if (!largest_.empty()) {
      largest_[begin + b] = std::max(largest_[begin + b] * before, block.largest[b] * now);
    }
  }
  anchor_[to] = anchor;
}

void LogSumTotals::merge() {
  std::vector<double> partials(rates_.size() * kPartials, 0.0), largest(rates_.size(), 0.0);
  for (int part = 1; part < parts_; ++part) {
    for (std::int64_t row = 0; row < rows_; ++row) {
      const std::int64_t begin = place(part, row);
      for (std::size_t b = 0; b < rates_.size(); ++b) {
        partials[b * kPartials] = sum_[begin + b];
        if (!largest_.empty()) largest[b] = largest_[begin + b];
      }
      add(0, row, {anchor_[part * rows_ + row], partials.data(), largest.data()});
      anchor_[part * rows_ + row] = kInfinity;
    }
  }
}

double LogSumTotals::largest(std::int64_t row, int bandwidth) const {
  if (!largest_.empty()) return largest_[place(0, row) + bandwidth];
  return std::min(1.0, sum(row, bandwidth));  // 0 where nothing was added
}

void LogSumTotals::logs(std::int64_t row, double* out) const {
  for (std::size_t b = 0; b < rates_.size(); ++b) {
    const double exponent = anchor_[row] < kNoSample ? kLn2 * rates_[b] * anchor_[row] : kInfinity;
    out[b] = std::log(sum_[place(0, row) + b]) - exponent;
  }
}

}  // namespace fastgen::cpu
