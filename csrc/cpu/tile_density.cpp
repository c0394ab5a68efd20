#include "cpu/tile_density.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "common/bandwidths.hpp"
#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

// Half a tile's rows make enough tasks of a window of 2048 features.
constexpr std::int64_t kPointRows = 192;
constexpr std::int64_t kTasks = 64;
// |x|^2 + |y|^2 - 2 x . y is off by this share of |x|^2 + |y|^2 at most, as far as seen (parallel
// rows; the bound for a chain of 128 is four times that).
constexpr double kCancels = 0x1p-48;
// Norms of rows in float64, to the base 2: squares of norms, and what is 2^-480 of them, are in range.
constexpr int kReach = 240;
// Root mean square error of one float32 addition, per unit of its result: 2^-24 / 3^(1/2).
constexpr double kRounding = 3.44e-8;
// What of that may go into an exponent: a third of the 1e-5 for one term that is alone, and terms that
// are not are off in different directions.
constexpr double kMostCoarse = 3e-6;
// Above this share of |x|^2 + |y|^2 a squared distance is good to 2^-44 of itself.
constexpr double kClose = 0x1p-4;

// Whether float32 products are not even tried.
bool starts_wide(const DensityProblem& problem) {
  return problem.float64 || problem.bandwidths.size() > 1;
}

}  // namespace

TileDensity::TileDensity(const DensityProblem& problem)
    : problem_(problem),
      rows_(problem.samples, problem.leave_one_out ? nullptr : &problem.points, false,
            starts_wide(problem), starts_wide(problem) ? kReach : 0, *problem.table,
            problem.threads),
      workers_(problem.threads) {
  for (Worker& worker : workers_) {
    worker.products.reset(kTile * kTile);
    worker.squares.reset(kTile);
    worker.row.reset(2 * problem.points.d);
  }
}

double TileDensity::advance(Deadline deadline) {
  while (phase_ != Phase::done) {
    if (phase_ == Phase::rows) {
      if (!rows_.advance(deadline)) break;
      begin_rows();
      continue;
    }
    const bool packing = phase_ == Phase::pack;
    const bool finished =
        run_tasks(tasks_, problem_.threads, deadline, [&](int worker, std::int64_t task) {
          return packing ? pack_task(task) : tile_task(workers_[worker], task);
        });
    if (!finished) break;
    if (packing) {
      phase_ = Phase::tiles;
      const std::int64_t blocks =
          points_.end_block(point_window_) - points_.first_block(point_window_);
      tasks_.reset(blocks * parts_);
    } else {
      stages_done_ += 1;
      next_stage();
    }
  }
  if (phase_ == Phase::done) return 1.0;
  if (phase_ == Phase::rows) return again_ ? 0.5 : 0.0;
  const double stages = static_cast<double>(points_.windows * samples_.windows);
  double done = (stages_done_ + (phase_ == Phase::tiles ? tasks_.fraction() : 0.0)) / stages;
  if (again_) done = 0.5 + 0.5 * done;
  return std::min(narrow() ? 0.5 * done : done, 1 - 1e-9);
}

// Root mean square error of an exponent from float32 products, for rows with such a product, squared
// distance and largest |z_f|. The products' own error is at its worst for parallel rows, whose partial sums
// grow evenly, within chains of kFineDepth features and from chain to chain; that of the rows' rounding
// where they differ in the one feature that is largest.
double TileDensity::coarseness(double product, double square, double largest) const {
  const double d = static_cast<double>(problem_.points.d);
  const double within = kFineDepth * kFineDepth / 3.0 / d, across = d / kFineDepth / 3 + 0.5;
  const double of_products = product * std::sqrt(within + across);
  const double of_rows = std::sqrt(square) * largest;
  return 2 * kRounding * kLn2 * rates_.back() * std::hypot(of_products, of_rows);
}

// With norms known: chooses the precision of products, and makes both sides ready.
void TileDensity::begin_rows() {
  rates_ = rates_of(problem_.bandwidths, rows_.data().unit);
  if (rates_.back() > kFastestRate) {
    phase_ = Phase::done;
    return;
  }
  groups_ = group_rates(rates_);
  const double mean = rows_.data().mean_square;
  if (narrow() && coarseness(0.5 * mean, 0.0, 0.0) > kMostCoarse) {
    return rows_.use_float64();
  }
  samples_.set = 0;
  samples_.numbers.resize(problem_.samples.n);
  std::iota(samples_.numbers.begin(), samples_.numbers.end(), std::int64_t{0});
  lay_out(samples_, kTile);
  points_.set = problem_.leave_one_out ? 0 : 1;
  if (!again_) {
    points_.numbers.resize(problem_.points.n);
    std::iota(points_.numbers.begin(), points_.numbers.end(), std::int64_t{0});
  }
  lay_out(points_, kPointRows);
  if (!again_) {
    if (points_.blocks() < kTasks) {
      const std::int64_t parts = blocks_of(kTasks, points_.blocks());
      parts_ = static_cast<int>(std::min(parts, samples_.window_blocks));
    }
    totals_.emplace_back(points_.n, parts_, problem_.weights != nullptr, rates_);
  }
  const double peak = rows_.data().peak_square[0] + rows_.data().peak_square[points_.set];
  look_ = !narrow() && kCancels * peak * rates_.back() > (problem_.float64 ? 3e-11 : 3e-6);
  if (problem_.weights) {
    weights_.assign(problem_.weights, problem_.weights + samples_.n);
    weights_.resize(samples_.n + kTile, 0.0);
    narrow_weights_.assign(weights_.begin(), weights_.end());
  }
  if (narrow()) nearest_.assign(parts_ * points_.n, {kNoSample, 0.0, 0.0});
  point_window_ = 0;
  stages_done_ = 0;
  sample_window_ = packed_points_ = -1;
  next_stage();
}

// After a walk of float32 products: points whose sums they may have spoiled, to be done again. The
// products of the samples that matter are about that of the nearest.
void TileDensity::list_coarse() {
  std::vector<std::int64_t> coarse;
  for (std::int64_t row = 0; row < points_.n; ++row) {
    Nearest nearest = nearest_[row];
    for (int part = 1; part < parts_; ++part) {
      const Nearest& other = nearest_[part * points_.n + row];
      if (other.square < nearest.square) nearest = other;
    }
    const double product = 0.5 * (points_.square[row] + nearest.norm - nearest.square);
    const double largest = std::max(points_.largest[row], nearest.largest);
    if (coarseness(product, nearest.square, largest) <= kMostCoarse) continue;
    totals_[0].clear(row);
    coarse.push_back(row);
  }
  points_.numbers = std::move(coarse);
  nearest_ = {};
}

void TileDensity::lay_out(Side& side, std::int64_t block_rows) {
  side.n = static_cast<std::int64_t>(side.numbers.size());
  const auto [rows, bytes] = rows_.packed_block(block_rows, rows_.kernels().panel);
  side.block_rows = rows;
  side.block_bytes = bytes;
  side.window_blocks =
      std::min(side.blocks(), std::max<std::int64_t>(1, kWindowBytes / side.block_bytes));
  side.windows = blocks_of(side.blocks(), side.window_blocks);
  side.packed.reset_unset(side.window_blocks * side.block_bytes);
  side.rows.clear();
  side.factor.clear();
  side.square.clear();
  side.spread.clear();
  for (const std::int64_t number : side.numbers) {
    side.rows.push_back(rows_.rows(side.set).row(number));
    side.factor.push_back(rows_.factor(side.set, number));
    side.square.push_back(rows_.square(side.set, number));
    side.spread.push_back(narrow() ? 1.0f : rows_.spread(side.set, number));
  }
  side.square.resize(side.n + kTile, 0.0);
  side.largest.assign(narrow() ? side.n : 0, 0.0);
}

// The next pair of windows; points are packed once for all windows of samples.
void TileDensity::next_stage() {
  if (++sample_window_ == samples_.windows) {
    sample_window_ = 0;
    ++point_window_;
  }
  if (point_window_ == points_.windows) {
    totals_[0].merge();
    phase_ = Phase::done;
    if (!narrow()) return;
    list_coarse();
    if (points_.numbers.empty()) return;
    again_ = true;
    phase_ = Phase::rows;
    return rows_.use_float64();
  }
  std::int64_t tasks = samples_.end_block(sample_window_) - samples_.first_block(sample_window_);
  if (packed_points_ != point_window_) {
    tasks += points_.end_block(point_window_) - points_.first_block(point_window_);
    packed_points_ = point_window_;
  }
  phase_ = Phase::pack;
  tasks_.reset(tasks);
}

TileSide TileDensity::tile_side(const Side& side, std::int64_t block) const {
  const std::int64_t begin = block * side.block_rows;
  return {side.rows.data() + begin,   side.factor.data() + begin,
          rows_.rows(side.set).dtype, static_cast<int>(std::min(side.n - begin, side.block_rows)),
          problem_.points.d,          rows_.centre(),
          side.spread.data() + begin};
}

const unsigned char* TileDensity::packed(const Side& side, std::int64_t block) const {
  return side.packed.data() + block % side.window_blocks * side.block_bytes;
}

void TileDensity::pack_task(std::int64_t task) {
  const std::int64_t first = samples_.first_block(sample_window_);
  const std::int64_t count = samples_.end_block(sample_window_) - first;
  Side& side = task < count ? samples_ : points_;
  const std::int64_t block =
      task < count ? first + task : points_.first_block(point_window_) + task - count;
  unsigned char* packed = side.packed.data() + block % side.window_blocks * side.block_bytes;
  const TileSide rows = tile_side(side, block);
  rows_.kernels().pack(rows, packed);
  // Norms of the rows as they were rounded.
  if (narrow()) {
    const std::int64_t begin = block * side.block_rows;
    rows_.kernels().packed_norms(packed, rows.count, rows.d, side.square.data() + begin,
                                 side.largest.data() + begin);
  }
}

void TileDensity::tile_task(Worker& worker, std::int64_t task) {
  const std::int64_t block = points_.first_block(point_window_) + task / parts_;
  const int part = static_cast<int>(task % parts_);
  const std::int64_t first = samples_.first_block(sample_window_);
  const std::int64_t window = samples_.end_block(sample_window_) - first;
  const std::int64_t begin = first + window * part / parts_,
                     end = first + window * (part + 1) / parts_;
  const TileSide rows = tile_side(points_, block);
  const std::int64_t point = block * points_.block_rows;
  BlockSums& sums = worker.sums;
  sums.reset(rows.count, static_cast<int>(rates_.size()));
  const LogSumKernels& kernels = problem_.kernels();
  const FlushToZero mode;
  const auto* products = reinterpret_cast<const unsigned char*>(worker.products.data());
  for (std::int64_t b = begin; b < end; ++b) {
    const TileSide columns = tile_side(samples_, b);
    const std::int64_t sample = b * samples_.block_rows;
    const Tile tile{packed(points_, block),
                    packed(samples_, b),
                    rows.count,
                    columns.count,
                    rows.d,
                    false,
                    rows.spread,
                    columns.spread,
                    worker.products.data()};
    (narrow() ? rows_.kernels().multiply_fine : rows_.kernels().multiply)(&tile);
    const int padded = static_cast<int>(blocks_of(columns.count, 16) * 16);
    for (int r = 0; r < rows.count; ++r) {
      const Expansion expansion{products + r * kTile * rows_.item(), columns.count,
                                points_.square[point + r], samples_.square.data() + sample,
                                worker.squares.data()};
      rows_.kernels().expand(&expansion);
      std::fill(worker.squares.data() + columns.count, worker.squares.data() + padded, kNoSample);
      const std::int64_t self = points_.numbers[point + r] - sample;
      if (problem_.leave_one_out && 0 <= self && self < columns.count) {
        worker.squares[self] = kNoSample;
      }
      if (look_) recompute_close(worker, point + r, sample, columns.count, sums[r].anchor);
      const void* weights = nullptr;
      if (problem_.weights && problem_.float64) weights = weights_.data() + sample;
      if (problem_.weights && !problem_.float64) weights = narrow_weights_.data() + sample;
      const Accumulation accumulation{
          worker.squares.data(), padded,  weights, groups_.data(), static_cast<int>(groups_.size()),
          problem_.reach(),      &sums[r]};
      kernels.accumulate(&accumulation);
      if (!narrow()) continue;
      Nearest& nearest = nearest_[part * points_.n + point + r];
      if (sums[r].anchor < nearest.square) {
        const std::int64_t place = sample + sums[r].place;
        nearest = {sums[r].anchor, samples_.square[place], samples_.largest[place]};
      }
    }
  }
  for (int r = 0; r < rows.count; ++r) totals_[0].add(part, points_.numbers[point + r], sums[r]);
}

// Squared distances that cancellation may have spoiled, of pairs that may matter, from the rows.
void TileDensity::recompute_close(Worker& worker, std::int64_t point, std::int64_t first, int count,
                                  double anchor) {
  const PlainFloatingPoint mode;
  double* squares = worker.squares.data();
  const double* others = samples_.square.data() + first;
  const double own = points_.square[point];
  double nearest = anchor;
  for (int c = 0; c < count; ++c) {
    nearest = std::min(nearest, squares[c] + kCancels * (own + others[c]));
  }
  const double far = nearest + problem_.reach() / rates_[0];
  const double unit = rows_.data().unit;
  const RowView& rows = rows_.rows(points_.set);
  const RowView& samples = rows_.rows(samples_.set);
  const std::int64_t d = rows.d;
  double* x = worker.row.data();
  double* y = x + d;
  bool widened = false;
  for (int c = 0; c < count; ++c) {
    const double both = own + others[c];
    if (squares[c] >= kClose * both || squares[c] - kCancels * both > far) continue;
    if (!widened) problem_.table->to_double(rows.row(points_.numbers[point]), rows.dtype, d, x);
    widened = true;
    problem_.table->to_double(samples.row(first + c), samples.dtype, d, y);
    double sum[4] = {};
    for (std::int64_t f = 0; f < d; ++f) {
      const double t = x[f] * unit - y[f] * unit;
      sum[f % 4] += t * t;
    }
    squares[c] = (sum[0] + sum[2]) + (sum[1] + sum[3]);
  }
}

}  // namespace fastgen::cpu
