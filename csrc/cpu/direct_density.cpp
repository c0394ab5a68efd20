#include "cpu/direct_density.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.hpp"
#include "cpu/bandwidths.hpp"

namespace fastgen::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Tasks of fewer blocks of points than this are divided among the samples too.
constexpr std::int64_t kTasks = 64;
// Operations of one task, about a third of a second.
constexpr double kTaskWork = 3e10;
// Blocks of samples whose terms are added up before they become float64: 128 terms a lane in 1 and 2
// dimensions. More would not stay in L1 either.
constexpr std::int64_t kTogether = 8;
// Sums without an anchor tell enough from this share of the weights on. A term is off by a few units of
// 2^-24 of its exponent, and the mean exponent of a sum's terms is at most -log(sum / weights): 24 here,
// which makes 2e-6 (worst seen 4e-6) of the 1e-5. In float64 only the range of the numbers counts.
constexpr double kTellsFloat = 3.7751345442790977e-11, kTellsDouble = 0x1p-800;

}  // namespace

DirectDensity::DirectDensity(const DensityProblem& problem, bool ordered)
    : problem_(problem),
      ordered_(ordered),
      d_(static_cast<int>(problem.points.d)),
      item_(problem.float64 ? 8 : 4),
      workers_(problem.threads) {
  FASTGEN_CHECK(1 <= d_ && d_ <= kDirectFeatures);
  const double samples = static_cast<double>(problem.samples.n);
  const double bandwidths = static_cast<double>(problem.bandwidths.size());
  const double work = samples * (2.0 * d_ + 6.0 * bandwidths + 8.0);
  while (block_points_ > 16 && static_cast<double>(block_points_) * work > kTaskWork) {
    block_points_ /= 2;
  }
  point_boxes_.reset(blocks_of(problem.points.n, block_points_), d_);
  sample_boxes_.reset(blocks_of(problem.samples.n, kSpan), d_);
  if (point_boxes_.count < kTasks) {
    const std::int64_t parts = blocks_of(kTasks, point_boxes_.count);
    parts_ = static_cast<int>(std::min(parts, sample_boxes_.count));
  }
  block_weight_.sum.assign(sample_boxes_.count, 0.0);
  block_weight_.largest.assign(sample_boxes_.count, 0.0);
  columns_.reset(sample_boxes_.count * kSpan * d_ * item_);
  weights_.reset(sample_boxes_.count * kSpan * item_);
  for (Worker& worker : workers_) {
    const std::int64_t sums = block_points_ * static_cast<std::int64_t>(problem.bandwidths.size());
    worker.points.reset(block_points_ * d_);
    worker.narrow.reset(block_points_ * d_ * item_);
    worker.weights.reset(kSpan * item_);
    worker.squares.reset(kRowsAtOnce * kSpan);
    worker.largest.reset(sums);
    worker.partials.reset(sums * kPartials);
  }
  begin(ordered ? Phase::order : Phase::boxes);
}

void DirectDensity::begin(Phase phase) {
  phase_ = phase;
  switch (phase) {
    case Phase::order:
      ordering_ = std::make_unique<RowOrder>(problem_.samples, *problem_.table, problem_.threads);
      return;
    case Phase::boxes:
      return tasks_.reset(point_boxes_.count + sample_boxes_.count);
    case Phase::samples:
      place_unit();
      return tasks_.reset(sample_boxes_.count);
    case Phase::direct:
    case Phase::anchored:
      if (!near_) {
        near_ = std::make_unique<NearBlocks>(sample_boxes_, block_weight_, rates_,
                                             problem_.float64 ? 50 : 30);
      }
      meetings_.clear();
      for (std::int64_t block = 0; block < point_boxes_.count; ++block) {
        if (phase == Phase::anchored && unsettled_[block].empty()) continue;
        for (int part = 0; part < parts_; ++part) meetings_.push_back({block, part});
      }
      return tasks_.reset(static_cast<std::int64_t>(meetings_.size()));
    default:
      return;
  }
}

double DirectDensity::advance(Deadline deadline) {
  while (phase_ != Phase::done) {
    if (phase_ == Phase::order) {
      if (!ordering_->advance(deadline)) return 0.0;
      (sample_order_.empty() ? sample_order_ : point_order_) = ordering_->take();
      if (problem_.leave_one_out) point_order_ = sample_order_;
      if (point_order_.empty()) {
        ordering_ = std::make_unique<RowOrder>(problem_.points, *problem_.table, problem_.threads);
      } else {
        ordering_.reset();
        begin(Phase::boxes);
      }
      continue;
    }
    const bool finished =
        run_tasks(tasks_, problem_.threads, deadline,
                  [&](int worker, std::int64_t task) { return work(worker, task); });
    if (!finished) break;
    if (phase_ == Phase::boxes) {
      begin(Phase::samples);
    } else if (phase_ == Phase::samples) {
      for (const double sum : block_weight_.sum) total_weight_ += sum;
      unsettled_.assign(point_boxes_.count, {});
      if (rates_.size() == 1) {
        begin(Phase::direct);
        continue;
      }
      for (std::int64_t row = 0; row < problem_.points.n; ++row) {
        unsettled_[row / block_points_].push_back(row);
      }
      begin(Phase::anchored);
    } else {
      totals_->merge();
      if (phase_ == Phase::anchored) {
        phase_ = Phase::done;
        break;
      }
      for (std::int64_t row = 0; row < problem_.points.n; ++row) {
        if (settled(row)) continue;
        totals_->clear(row);
        unsettled_[row / block_points_].push_back(row);
      }
      begin(Phase::anchored);
    }
  }
  // Rows that are done again are few, or take several times as long as the direct sums did.
  const double share = tasks_.fraction();
  if (phase_ == Phase::done) return 1.0;
  if (phase_ == Phase::direct) return 0.5 * share;
  return phase_ == Phase::anchored ? (rates_.size() == 1 ? 0.5 + 0.499 * share : 0.999 * share)
                                   : 0.0;
}

void DirectDensity::work(int index, std::int64_t task) {
  Worker& worker = workers_[index];
  switch (phase_) {
    case Phase::boxes:
      return box_task(task);
    case Phase::samples:
      return samples_task(task);
    case Phase::direct:
      return direct_task(worker, meetings_[task]);
    default:
      return anchored_task(worker, meetings_[task]);
  }
}

// Boxes in the units of the rows, first of all blocks of points.
void DirectDensity::box_task(std::int64_t task) {
  const bool of_points = task < point_boxes_.count;
  Boxes& boxes = of_points ? point_boxes_ : sample_boxes_;
  const RowView& rows = of_points ? problem_.points : problem_.samples;
  const std::int64_t box = of_points ? task : task - point_boxes_.count;
  const std::int64_t size = of_points ? block_points_ : kSpan;
  // Kept here until the end: neighbours in the arrays belong to other threads.
  double x[kDirectFeatures], low[kDirectFeatures], high[kDirectFeatures];
  std::fill_n(low, d_, kInfinity);
  std::fill_n(high, d_, -kInfinity);
  for (std::int64_t i = box * size; i < std::min(rows.n, (box + 1) * size); ++i) {
    problem_.table->to_double(rows.row(of_points ? point(i) : sample(i)), rows.dtype, d_, x);
    for (int f = 0; f < d_; ++f) {
      low[f] = std::min(low[f], x[f]);
      high[f] = std::max(high[f], x[f]);
    }
  }
  for (int f = 0; f < d_; ++f) {
    boxes.low[f * boxes.count + box] = low[f];
    boxes.high[f * boxes.count + box] = high[f];
  }
}

// A power of two that makes the widest bandwidth about 1, unless that led out of the range of numbers.
void DirectDensity::place_unit() {
  double largest = 0;
  for (const Boxes* boxes : {&point_boxes_, &sample_boxes_}) {
    for (const double x : boxes->low) largest = std::max(largest, std::fabs(x));
    for (const double x : boxes->high) largest = std::max(largest, std::fabs(x));
  }
  int bandwidth = 0, reach = 0;
  std::frexp(problem_.bandwidths[0], &bandwidth);
  std::frexp(largest, &reach);
  const int most = problem_.float64 ? 400 : 100;
  const int exponent = largest > 0 ? std::min(1 - bandwidth, most - reach) : 1 - bandwidth;
  unit_ = std::ldexp(1.0, std::min(exponent, 1000));
  for (Boxes* boxes : {&point_boxes_, &sample_boxes_}) {
    for (double& x : boxes->low) x *= unit_;
    for (double& x : boxes->high) x *= unit_;
  }
  rates_ = rates_of(problem_.bandwidths, unit_);
  groups_ = group_rates(rates_);
  const bool largest_known = problem_.weights || rates_.size() == 1;
  totals_ = std::make_unique<LogSumTotals>(problem_.points.n, parts_, largest_known, rates_);
}

void DirectDensity::samples_task(std::int64_t block) {
  const std::int64_t begin = block * kSpan, end = std::min(problem_.samples.n, begin + kSpan);
  double x[kDirectFeatures];
  unsigned char* columns = columns_.data() + block * kSpan * d_ * item_;
  unsigned char* weights = weights_.data() + block * kSpan * item_;
  const auto put = [&](unsigned char* to, std::int64_t place, double value) {
    if (narrow()) {
      reinterpret_cast<float*>(to)[place] = static_cast<float>(value);
    } else {
      reinterpret_cast<double*>(to)[place] = value;
    }
  };
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t row = sample(i);
    problem_.table->to_double(problem_.samples.row(row), problem_.samples.dtype, d_, x);
    for (int f = 0; f < d_; ++f) put(columns, f * kSpan + i - begin, x[f] * unit_);
    const double weight = problem_.weight(row);
    put(weights, i - begin, weight);
    block_weight_.sum[block] += weight;
    block_weight_.largest[block] = std::max(block_weight_.largest[block], weight);
  }
}

void DirectDensity::list_blocks(Worker& worker, const Meeting& meeting) {
  std::vector<std::int64_t>& blocks = worker.blocks;
  if (ordered_) {
    const std::int64_t own = problem_.leave_one_out ? meeting.block * block_points_ / kSpan : -1;
    near_->find(point_boxes_, meeting.block, own, worker.near, blocks);
  } else {
    blocks.resize(sample_boxes_.count);
    for (std::int64_t b = 0; b < sample_boxes_.count; ++b) blocks[b] = b;
  }
  const std::int64_t count = static_cast<std::int64_t>(blocks.size());
  blocks.resize(count * (meeting.part + 1) / parts_);
  blocks.erase(blocks.begin(), blocks.begin() + count * meeting.part / parts_);
}

void DirectDensity::load_points(Worker& worker) {
  double* out = worker.points.data();
  for (const std::int64_t row : worker.rows) {
    problem_.table->to_double(problem_.points.row(point(row)), problem_.points.dtype, d_, out);
    for (int f = 0; f < d_; ++f) out[f] *= unit_;
    out += d_;
  }
}

void DirectDensity::direct_task(Worker& worker, const Meeting& meeting) {
  const std::int64_t begin = meeting.block * block_points_;
  const int count = static_cast<int>(std::min(problem_.points.n - begin, block_points_));
  // Far points have to be counted from their nearest sample.
  const double far = near_->farthest(point_boxes_, meeting.block, worker.near);
  if (!(far * rates_[0] < 0x1p70 && far < 0x1p120)) return;
  worker.rows.resize(count);
  for (int r = 0; r < count; ++r) worker.rows[r] = begin + r;
  load_points(worker);
  const void* rows = worker.points.data();
  if (narrow()) {
    float* to = reinterpret_cast<float*>(worker.narrow.data());
    for (int i = 0; i < count * d_; ++i) to[i] = static_cast<float>(worker.points[i]);
    rows = to;
  }
  list_blocks(worker, meeting);
  double* partials = worker.partials.data();
  double* largest = worker.largest.data();
  std::fill_n(partials, count * kPartials, 0.0);
  std::fill_n(largest, count, 0.0);
  const std::int64_t own = problem_.leave_one_out ? begin / kSpan : -1;
  const std::int64_t together =
      std::max<std::int64_t>(1, std::min<std::int64_t>(4, kTogether / d_));
  std::vector<SampleBlock> blocks;
  DirectSums sums{rows, count, d_, nullptr, 0, rates_[0], partials, largest};
  const auto flush = [&] {
    sums.blocks = blocks.data();
    sums.block_count = static_cast<int>(blocks.size());
    problem_.kernels().direct(&sums);
    blocks.clear();
  };
  for (const std::int64_t block : worker.blocks) {
    if (block == own) continue;
    blocks.push_back({block_columns(block), block_weights(block)});
    if (static_cast<std::int64_t>(blocks.size()) == together) flush();
  }
  flush();
  if (std::binary_search(worker.blocks.begin(), worker.blocks.end(), own)) {
    // Each point without itself.
    sums.row_count = 1;
    for (int r = 0; r < count; ++r) {
      std::copy_n(static_cast<const unsigned char*>(block_weights(own)), kSpan * item_,
                  worker.weights.data());
      std::fill_n(worker.weights.data() + (begin + r - own * kSpan) * item_, item_, 0);
      blocks = {{block_columns(own), worker.weights.data()}};
      sums.rows = static_cast<const unsigned char*>(rows) + r * d_ * item_;
      sums.partials = partials + r * kPartials;
      sums.largest = largest + r;
      flush();
    }
  }
  for (int r = 0; r < count; ++r) {
    totals_->add(meeting.part, begin + r, {0.0, partials + r * kPartials, largest + r});
  }
}

// Whether a direct sum is all that is to be known of a row.
bool DirectDensity::settled(std::int64_t row) const {
  const double tells = problem_.float64 ? kTellsDouble : kTellsFloat;
  const double sum = totals_->sum(row, 0);
  // Where the largest term is not tracked, it is at most 1.
  return sum >= tells * total_weight_ && (problem_.kernels().tracks_largest(d_) || sum >= 2.0);
}

void DirectDensity::anchored_task(Worker& worker, const Meeting& meeting) {
  worker.rows = unsettled_[meeting.block];
  const int count = static_cast<int>(worker.rows.size());
  const int bandwidths = static_cast<int>(rates_.size());
  load_points(worker);
  list_blocks(worker, meeting);
  std::fill_n(worker.partials.data(), std::int64_t{count} * bandwidths * kPartials, 0.0);
  std::fill_n(worker.largest.data(), std::int64_t{count} * bandwidths, 0.0);
  std::vector<AnchoredSums> sums;
  for (int r = 0; r < count; ++r) {
    const std::int64_t place = std::int64_t{r} * bandwidths;
    sums.push_back(
        {kInfinity, worker.partials.data() + place * kPartials, worker.largest.data() + place});
  }
  const LogSumKernels& kernels = problem_.kernels();
  for (const std::int64_t block : worker.blocks) {
    const std::int64_t first = block * kSpan;
    const int samples = static_cast<int>(std::min<std::int64_t>(problem_.samples.n - first, kSpan));
    const int padded = static_cast<int>(blocks_of(samples, 16) * 16);
    for (int r = 0; r < count; r += kRowsAtOnce) {
      const int rows = std::min(kRowsAtOnce, count - r);
      const Differences differences{worker.points.data() + std::int64_t{r} * d_, rows, d_,
                                    block_columns(block), worker.squares.data()};
      kernels.differences(&differences);
      for (int i = 0; i < rows; ++i) {
        double* squares = worker.squares.data() + i * kSpan;
        std::fill(squares + samples, squares + padded, kNoSample);
        const std::int64_t self = worker.rows[r + i] - first;
        if (problem_.leave_one_out && 0 <= self && self < kSpan) squares[self] = kNoSample;
        const Accumulation accumulation{squares,
                                        padded,
                                        problem_.weights ? block_weights(block) : nullptr,
                                        groups_.data(),
                                        static_cast<int>(groups_.size()),
                                        problem_.reach(),
                                        &sums[r + i]};
        kernels.accumulate(&accumulation);
      }
    }
  }
  for (int r = 0; r < count; ++r) totals_->add(meeting.part, worker.rows[r], sums[r]);
}

}  // namespace fastgen::cpu
