#include "cpu/prepared.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/check.hpp"
#include "cpu/parts.hpp"

namespace fastgen::cpu {

namespace {

// Column sums are kept per block and added in block order, so the centre does not depend on threads.
constexpr std::int64_t kMaxBlocks = 128;
constexpr std::int64_t kMinBlockRows = 256;
constexpr std::int64_t kTaskRows = 64;
// With one scale for all, rows 2^60 times smaller than the largest cannot be told apart. Few rows that
// are 2^40 times larger than the median are set aside.
constexpr double kOutlying = 0x1p40;
constexpr std::int64_t kMaxOutliers = 64;
constexpr std::int8_t kOutlierCluster = 127;
// Below this spread the squares of float64 differences may underflow, and no bound holds.
constexpr double kSmallestSpread = 0x1p-450;

std::int64_t task_count(std::int64_t items) { return blocks_of(items, kTaskRows); }

}  // namespace

Prepared::Prepared(const RowView& rows, Path path, const Kernels& kernels, int threads)
    : rows_(rows), kernels_(&kernels), threads_(threads), path_(path), rotation_(rows.d) {
  FASTGEN_CHECK(rows.n >= 1 && rows.d >= 1 && threads >= 1);
  FASTGEN_CHECK(rows.n <= std::numeric_limits<std::int32_t>::max());
  begin_phase(Phase::scan);
}

std::int64_t Prepared::nbytes() const {
  return quantised_.bytes() +
         static_cast<std::int64_t>(
             (scale_.size() + magnitude_.size() + error_.size() + square_.size()) * sizeof(double) +
             (group_.size() + groups_.first.size() + groups_.copies.size() +
              groups_.group_of.size() + groups_.members.size()) *
                 sizeof(std::int32_t));
}

void Prepared::begin_phase(Phase phase) {
  phase_ = phase;
  const std::int64_t n = rows_.n, d = rows_.d;
  switch (phase) {
    case Phase::scan: {
      block_rows_ = std::max(kMinBlockRows, blocks_of(n, kMaxBlocks));
      const std::int64_t blocks = blocks_of(n, block_rows_);
      hashes_.resize(n);
      peaks_.resize(n);
      block_sum_.assign(blocks, std::vector<double>());
      block_low_ = block_high_ = block_sum_;
      tasks_.reset(blocks);
      break;
    }
    case Phase::centre:
      tasks_.reset(0);
      break;
    case Phase::assign:
      cluster_of_.assign(slots(), -1);
      tasks_.reset(clusters_.empty() && outlying_.empty() ? 0 : task_count(slots()));
      break;
    case Phase::quantise:
      scale_.assign(slots(), 0.0);
      magnitude_ = error_ = square_ = scale_;
      // Rows past the end are read by the last strip and never counted.
      quantised_.reset((slots() + kStripRows) * stride());
      tasks_.reset(task_count(slots()));
      break;
    case Phase::done:
      hashes_ = {};
      peaks_ = {};
      outlying_ = {};
      cluster_of_ = {};
      centred_.clear();
      rotated_.clear();
      break;
  }
  if (phase == Phase::assign || phase == Phase::quantise) {
    centred_.resize(threads_);
    rotated_.resize(threads_);
    for (int worker = 0; worker < threads_; ++worker) {
      centred_[worker].reset(d);
      rotated_[worker].reset(depth());
    }
  }
}

double Prepared::advance(double seconds) {
  const PlainFloatingPoint mode;
  const Deadline deadline = deadline_after(seconds);
  if (phase_ == Phase::scan) {
    if (!run_tasks(tasks_, threads_, deadline, [&](int, std::int64_t task) { scan_block(task); })) {
      return 0.3 * tasks_.fraction();
    }
    if (outlying_.empty() && find_outliers()) {
      begin_phase(Phase::scan);  // once more, for sums without them
      return 0.15;
    }
    finish_scan();
    begin_phase(Phase::centre);
    return 0.3;
  }
  if (phase_ == Phase::centre) {
    if (path_ != Path::scan) {
      clusters_ = tight_cluster_centres(rows_, *kernels_, groups_.first, mean_);
    }
    begin_phase(Phase::assign);
  }
  if (phase_ == Phase::assign) {
    if (!run_tasks(tasks_, threads_, deadline,
                   [&](int worker, std::int64_t task) { assign_rows(worker, task); })) {
      return 0.3 + 0.2 * tasks_.fraction();
    }
    finish_assign();
    begin_phase(path_ == Path::scan ? Phase::done : Phase::quantise);
  }
  if (phase_ == Phase::quantise) {
    if (!run_tasks(tasks_, threads_, deadline,
                   [&](int worker, std::int64_t task) { quantise_rows(worker, task); })) {
      return 0.5 + 0.5 * tasks_.fraction();
    }
    begin_phase(Phase::done);
  }
  return 1.0;
}

void Prepared::scan_block(std::int64_t block) {
  const std::int64_t n = rows_.n, d = rows_.d;
  const std::int64_t begin = block * block_rows_, end = std::min(n, begin + block_rows_);
  std::vector<double> sum(d, 0.0), low(d, std::numeric_limits<double>::infinity()),
      high(d, -std::numeric_limits<double>::infinity());
  for (std::int64_t row = begin; row < end; ++row) {
    if (!outlying_.empty() && outlying_[row]) continue;
    hashes_[row] =
        kernels_->scan_row(rows_.row(row), rows_.dtype, d, sum.data(), low.data(), high.data());
    peaks_[row] = kernels_->largest_magnitude(rows_.row(row), rows_.dtype, d);
  }
  block_sum_[block] = std::move(sum);
  block_low_[block] = std::move(low);
  block_high_[block] = std::move(high);
}

bool Prepared::find_outliers() {
  std::vector<double> sorted;
  for (const double peak : peaks_) {
    if (peak > 0) sorted.push_back(peak);
  }
  if (sorted.empty()) return false;
  std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
  const double limit = sorted[sorted.size() / 2] * kOutlying;
  outliers_ =
      std::count_if(peaks_.begin(), peaks_.end(), [&](double peak) { return peak > limit; });
  if (outliers_ == 0 || outliers_ > kMaxOutliers || path_ == Path::scan) {
    outliers_ = 0;
    return false;
  }
  outlying_.resize(rows_.n);
  for (std::int64_t row = 0; row < rows_.n; ++row) outlying_[row] = peaks_[row] > limit;
  return true;
}

void Prepared::finish_scan() {
  const std::int64_t n = rows_.n - outliers_, d = rows_.d;
  mean_.assign(d, 0.0);
  std::vector<double> spread(d);
  double sq_spread = 0;
  double largest = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    double low = block_low_[0][i], high = block_high_[0][i];
    for (std::size_t block = 0; block < block_sum_.size(); ++block) {
      mean_[i] += block_sum_[block][i] / static_cast<double>(n);
      low = std::min(low, block_low_[block][i]);
      high = std::max(high, block_high_[block][i]);
    }
    // Every part's centre lies between a column's extremes too, so |x - c| <= high - low.
    mean_[i] = std::min(std::max(mean_[i], low), high);
    spread[i] = high - low;
    largest = std::max(largest, spread[i]);
  }
  for (std::int64_t i = 0; largest > 0 && i < d; ++i) {
    const double relative = spread[i] / largest;
    sq_spread += relative * relative;
  }
  block_sum_ = block_low_ = block_high_ = {};
  int exponent = 0;
  std::frexp(largest * std::sqrt(sq_spread), &exponent);  // spread < 2^exponent
  unit_ = largest > 0 ? std::ldexp(1.0, 40 - exponent) : 1.0;
  if (largest > 0 && largest < kSmallestSpread) path_ = Path::scan;

  groups_ = group_identical(rows_.n, equal_hashes(hashes_),
                            [&](const std::vector<Suspect>& suspects, std::vector<char>& same) {
                              for (std::size_t i = 0; i < suspects.size(); ++i) {
                                same[i] = kernels_->equal_rows(rows_.row(suspects[i].leader),
                                                               rows_.row(suspects[i].row),
                                                               rows_.dtype, d);
                              }
                            });
}

void Prepared::assign_rows(int worker, std::int64_t task) {
  const std::int64_t begin = task * kTaskRows, end = std::min(slots(), begin + kTaskRows);
  double* row = centred_[worker].data();
  for (std::int64_t group = begin; group < end; ++group) {
    if (!outlying_.empty() && outlying_[groups_.first[group]]) {
      cluster_of_[group] = kOutlierCluster;
      continue;
    }
    kernels_->to_double(rows_.row(groups_.first[group]), rows_.dtype, rows_.d, row);
    cluster_of_[group] =
        static_cast<std::int8_t>(nearest_cluster(*kernels_, row, rows_.d, clusters_, mean_));
  }
}

void Prepared::finish_assign() {
  group_.resize(slots());
  std::iota(group_.begin(), group_.end(), 0);
  std::stable_sort(group_.begin(), group_.end(),
                   [&](std::int32_t a, std::int32_t b) { return cluster_of_[a] < cluster_of_[b]; });
  for (std::int64_t begin = 0; begin < slots();) {
    const int cluster = cluster_of_[group_[begin]];
    Part part;
    part.begin = begin;
    part.end = begin + 1;
    while (part.end < slots() && cluster_of_[group_[part.end]] == cluster) ++part.end;
    part.outlying = cluster == kOutlierCluster;
    part.centre = cluster < 0 || part.outlying ? mean_ : clusters_[cluster];
    begin = part.end;
    parts_.push_back(std::move(part));
  }
  if (parts_.size() == 1) parts_[0].centre = mean_;
}

void Prepared::quantise_rows(int worker, std::int64_t task) {
  const std::int64_t begin = task * kTaskRows, end = std::min(slots(), begin + kTaskRows);
  QuantiseRow row{};
  row.dtype = rows_.dtype;
  row.d = rows_.d;
  row.depth = depth();
  row.signs = rotation_.signs();
  row.source = rotation_.source();
  row.block = rotation_.block();
  row.unit = unit_;
  row.centred = centred_[worker].data();
  row.rotated = rotated_[worker].data();
  std::size_t part = 0;
  for (std::int64_t slot = begin; slot < end; ++slot) {
    while (slot >= parts_[part].end) ++part;
    if (parts_[part].outlying) continue;
    row.row = row_of_slot(slot);
    row.centre = parts_[part].centre.data();
    row.quantised = quantised_.data() + slot * stride();
    kernels_->quantise(&row);
    scale_[slot] = row.scale;
    magnitude_[slot] = row.magnitude;
    error_[slot] = row.error;
    square_[slot] = row.square;
  }
}

}  // namespace fastgen::cpu
