#include "cpu/tile_density.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.hpp"
#include "cpu/bandwidths.hpp"

namespace fastgen::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Packed rows of a window, of which there are two.
constexpr std::int64_t kWindowBytes = 48 << 20;
// Half a tile's rows make enough tasks of a window of 2048 features.
constexpr std::int64_t kPointRows = 192;
constexpr std::int64_t kTasks = 64;
// |x|^2 + |y|^2 - 2 x . y is off by less than this share of |x|^2 + |y|^2.
constexpr double kCancels = 0x1p-48;
// Above this share of |x|^2 + |y|^2 a squared distance is good to 2^-44 of itself.
constexpr double kClose = 0x1p-4;

}  // namespace

TileDensity::TileDensity(const DensityProblem& problem)
    : problem_(problem),
      rows_(problem.samples, problem.leave_one_out ? nullptr : &problem.points, false, true,
            *problem.table, problem.threads),
      workers_(problem.threads) {
  for (Worker& worker : workers_) {
    const std::int64_t sums = kPointRows * static_cast<std::int64_t>(problem.bandwidths.size());
    worker.products.reset(kTile * kTile);
    worker.squares.reset(kTile);
    worker.row.reset(problem.points.d);
    worker.largest.reset(sums);
    worker.partials.reset(sums * kPartials);
  }
}

double TileDensity::advance(Deadline deadline) {
  if (phase_ == Phase::rows) {
    if (!rows_.advance(deadline)) return 0.0;
    lay_out();
    next_stage();
  }
  while (phase_ != Phase::done) {
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
  const double stages = static_cast<double>(points_.windows * samples_.windows);
  const double stage = phase_ == Phase::tiles ? tasks_.fraction() : 0.0;
  return std::min((stages_done_ + stage) / stages, 1 - 1e-9);
}

void TileDensity::lay_out(Side& side, int set, std::int64_t block_rows) {
  side.set = set;
  side.n = rows_.rows(set).n;
  side.block_rows = block_rows;
  const std::int64_t d = problem_.points.d;
  const int panel = rows_.kernels().panel;
  side.block_bytes = packed_items(side.block_rows, d, panel) * rows_.item();
  while (side.block_rows > panel && side.block_bytes > kWindowBytes) {
    side.block_rows = blocks_of(side.block_rows / 2, panel) * panel;
    side.block_bytes = packed_items(side.block_rows, d, panel) * rows_.item();
  }
  side.window_blocks =
      std::min(side.blocks(), std::max<std::int64_t>(1, kWindowBytes / side.block_bytes));
  side.windows = blocks_of(side.blocks(), side.window_blocks);
  side.packed.reset(side.window_blocks * side.block_bytes);
  for (std::int64_t i = 0; i < side.n; ++i) {
    side.rows.push_back(rows_.rows(set).row(i));
    side.factor.push_back(rows_.factor(set, i));
    side.square.push_back(rows_.square(set, i));
    side.spread.push_back(rows_.spread(set, i));
  }
  side.square.resize(side.n + kTile, 0.0);
}

void TileDensity::lay_out() {
  lay_out(samples_, 0, kTile);
  lay_out(points_, problem_.leave_one_out ? 0 : 1, kPointRows);
  if (points_.blocks() < kTasks) {
    parts_ =
        static_cast<int>(std::min(blocks_of(kTasks, points_.blocks()), samples_.window_blocks));
  }
  const double unit = rows_.data().unit;
  rates_ = rates_of(problem_.bandwidths, unit);
  groups_ = group_rates(rates_);
  totals_.emplace_back(points_.n, parts_, problem_.weights != nullptr, rates_);
  const double peak = rows_.data().peak_square[0] + rows_.data().peak_square[points_.set];
  look_ = kCancels * peak * rates_.back() > (problem_.float64 ? 3e-11 : 3e-6);
  if (problem_.weights) {
    weights_.assign(problem_.weights, problem_.weights + samples_.n);
    weights_.resize(samples_.n + kTile, 0.0);
    narrow_weights_.assign(weights_.begin(), weights_.end());
  }
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
    return;
  }
  std::int64_t tasks = samples_.end_block(sample_window_) - samples_.first_block(sample_window_);
  if (packed_points_ != point_window_) {
    tasks += points_.end_block(point_window_) - points_.first_block(point_window_);
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
  rows_.kernels().pack(tile_side(side, block),
                       side.packed.data() + block % side.window_blocks * side.block_bytes);
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
  const int bandwidths = static_cast<int>(rates_.size());
  std::fill_n(worker.partials.data(), std::int64_t{rows.count} * bandwidths * kPartials, 0.0);
  std::fill_n(worker.largest.data(), std::int64_t{rows.count} * bandwidths, 0.0);
  std::vector<AnchoredSums> sums;
  for (int r = 0; r < rows.count; ++r) {
    const std::int64_t place = std::int64_t{r} * bandwidths;
    sums.push_back(
        {kInfinity, worker.partials.data() + place * kPartials, worker.largest.data() + place});
  }
  const LogSumKernels& kernels = problem_.kernels();
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
    rows_.kernels().multiply(&tile);
    const int padded = static_cast<int>(blocks_of(columns.count, 16) * 16);
    for (int r = 0; r < rows.count; ++r) {
      const Expansion expansion{worker.products.data() + r * kTile, columns.count,
                                points_.square[point + r], samples_.square.data() + sample,
                                worker.squares.data()};
      kernels.expand(&expansion);
      std::fill(worker.squares.data() + columns.count, worker.squares.data() + padded, kNoSample);
      const std::int64_t self = point + r - sample;
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
    }
  }
  for (int r = 0; r < rows.count; ++r) totals_[0].add(part, point + r, sums[r]);
}

// Squared distances that cancellation may have spoiled, of pairs that may matter, from the rows.
void TileDensity::recompute_close(Worker& worker, std::int64_t point, std::int64_t first, int count,
                                  double anchor) {
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
  bool widened = false;
  for (int c = 0; c < count; ++c) {
    const double both = own + others[c];
    if (squares[c] >= kClose * both || squares[c] - kCancels * both > far) continue;
    if (!widened) {
      problem_.table->to_double(rows.row(point), rows.dtype, rows.d, worker.row.data());
      widened = true;
    }
    const double square = problem_.table->sq_distance(worker.row.data(), samples.row(first + c),
                                                      samples.dtype, samples.d);
    squares[c] = square * unit * unit;
  }
}

}  // namespace fastgen::cpu
