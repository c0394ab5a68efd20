#include "cpu/direct_density.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/bandwidths.hpp"
#include "common/check.hpp"

namespace fastgen::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Tasks of fewer blocks of points than this are divided among the samples too.
constexpr std::int64_t kTasks = 64;
// Operations of one task, about a third of a second.
constexpr double kTaskWork = 2e10;
// Blocks of samples whose terms are added up before they become float64: in 1 and 2 dimensions 128 terms a
// lane with AVX-512, 512 with SSE2. More would not stay in L1 either.
constexpr std::int64_t kTogether = 8, kMostTogether = 4;
// Sums without an anchor tell enough from this share of the weights on. A term is off by a few units of
// 2^-24 of its exponent, and the mean exponent of a sum's terms is at most -log(sum / weights): 22 here,
// which makes 2e-6 of the 1e-5, and 9e-6 at worst (16 features, all samples equal, SSE2: seen). In float64
// only the range of the numbers counts.
constexpr double kTellsFloat = 2.7894680928689246e-10, kTellsDouble = 0x1p-800;
// What may be left out of a sum, and what polynomials may be off by: 2^-bits of it.
constexpr int kLeftOutFloat = 30, kLeftOutDouble = 50, kFarFloat = 20, kFarDouble = 37;
// Rounding of a polynomial, as a share of the sum of its terms' magnitudes, and what of it is allowed: 4e-6
// of a lower bound on the sum. Terms are rounded independently, so this is an estimate, not a bound: worst
// error seen of all that 2.6e-6, with equal samples.
constexpr double kRoundsFloat = 0x1p-24, kRoundsDouble = 0x1p-53, kMostRounding = 4;

std::int64_t points_at_once(const DensityProblem& problem) {
  const double bandwidths = static_cast<double>(problem.bandwidths.size());
  const double features = static_cast<double>(problem.points.d);
  const double work = static_cast<double>(problem.samples.n) * (2 * features + 6 * bandwidths + 8);
  std::int64_t points = kPoints;
  while (points > 16 && static_cast<double>(points) * work > kTaskWork) points /= 2;
  return points;
}

}  // namespace

DirectDensity::DirectDensity(const DensityProblem& problem, bool ordered)
    : problem_(problem),
      d_(static_cast<int>(problem.points.d)),
      rows_(problem_, ordered, points_at_once(problem)),
      far_field_(ordered && d_ <= FarField::kMostFeatures),
      workers_(problem.threads) {
  const std::int64_t blocks = rows_.point_boxes().count;
  if (blocks < kTasks) {
    parts_ = static_cast<int>(std::min(blocks_of(kTasks, blocks), rows_.sample_boxes().count));
  }
  const std::int64_t points = rows_.block_points();
  for (Worker& worker : workers_) {
    worker.points.reset(points * d_);
    worker.rows.reset(points * d_ * 8);
    worker.turned.reset(kPoints * FarField::kMostFeatures * 8);
    worker.weights.reset(kSpan * 8);
    worker.squares.reset(kRowsAtOnce * kSpan);
    worker.far.reset(kPoints);
  }
}

double DirectDensity::advance(Deadline deadline) {
  if (phase_ == Phase::rows) {
    if (!rows_.advance(deadline)) return 0.0;
    for (const double sum : rows_.weights().sum) total_weight_ += sum;
    too_narrow_ = rates_of(problem_.bandwidths, rows_.unit()).back() > kFastestRate;
    if (too_narrow_) {
      phase_ = Phase::done;
    } else {
      begin_pass();
    }
  }
  while (phase_ != Phase::done) {
    const bool finished =
        run_tasks(tasks_, problem_.threads, deadline, [&](int worker, std::int64_t task) {
          switch (phase_) {
            case Phase::far_field:
              return far_->prepare(task);
            case Phase::direct:
              return direct_task(workers_[worker], meetings_[task]);
            default:
              return anchored_task(workers_[worker], meetings_[task]);
          }
        });
    if (!finished) break;
    finish_phase();
  }
  if (phase_ == Phase::done) return 1.0;
  // Rows that are done again are few, or take several times as long as the direct sums did.
  double pass = phase_ == Phase::far_field ? 0.0 : tasks_.fraction();
  if (direct_) pass = phase_ == Phase::anchored ? 0.5 + 0.5 * pass : 0.5 * pass;
  const double done =
      static_cast<double>(first_bandwidth_) + pass * static_cast<double>(rates_.size());
  return std::min(done / static_cast<double>(problem_.bandwidths.size()), 1 - 1e-9);
}

// The next bandwidth, or all that are left.
void DirectDensity::begin_pass() {
  const auto first = problem_.bandwidths.begin() + static_cast<std::ptrdiff_t>(first_bandwidth_);
  rates_ = rates_of({first, problem_.bandwidths.end()}, rows_.unit());
  far_.reset();
  if (far_field_ && FarField::pays(rows_.sample_boxes(), rates_[0])) {
    rates_.resize(1);
    far_ = std::make_unique<FarField>(rows_, rates_[0]);
  }
  direct_ = rates_.size() == 1;
  groups_ = group_rates(rates_);
  near_ = std::make_unique<NearBlocks>(rows_.sample_boxes(), rows_.weights(), rates_,
                                       problem_.float64 ? kLeftOutDouble : kLeftOutFloat);
  totals_.emplace_back(problem_.points.n, parts_, problem_.weights || direct_, rates_);
  unsettled_.assign(rows_.point_boxes().count, {});
  if (direct_) return begin(far_ ? Phase::far_field : Phase::direct);
  for (std::int64_t row = 0; row < problem_.points.n; ++row) {
    unsettled_[row / rows_.block_points()].push_back(row);
  }
  begin(Phase::anchored);
}

void DirectDensity::begin(Phase phase) {
  phase_ = phase;
  if (phase == Phase::far_field) return tasks_.reset(far_->tasks());
  meetings_.clear();
  for (std::int64_t block = 0; block < rows_.point_boxes().count; ++block) {
    if (phase == Phase::anchored && unsettled_[block].empty()) continue;
    for (int part = 0; part < parts_; ++part) meetings_.push_back({block, part});
  }
  tasks_.reset(static_cast<std::int64_t>(meetings_.size()));
}

void DirectDensity::finish_phase() {
  if (phase_ == Phase::far_field) return begin(Phase::direct);
  LogSumTotals& totals = totals_.back();
  totals.merge();
  if (phase_ == Phase::direct) {
    const double least = tells();
    for (std::int64_t row = 0; row < problem_.points.n; ++row) {
      if (totals.sum(row, 0) >= least) continue;
      totals.clear(row);
      unsettled_[row / rows_.block_points()].push_back(row);
    }
    return begin(Phase::anchored);
  }
  first_bandwidth_ += rates_.size();
  if (first_bandwidth_ < problem_.bandwidths.size()) return begin_pass();
  phase_ = Phase::done;
}

void DirectDensity::list_blocks(Worker& worker, const Meeting& meeting, double floor) {
  std::vector<std::int64_t>& blocks = worker.blocks;
  if (rows_.ordered()) {
    const std::int64_t own =
        problem_.leave_one_out ? meeting.block * rows_.block_points() / kSpan : -1;
    near_->find(own, floor, worker.near, blocks);
  } else {
    blocks.resize(rows_.sample_boxes().count);
    for (std::size_t b = 0; b < blocks.size(); ++b) blocks[b] = static_cast<std::int64_t>(b);
  }
  worker.weight = 0;
  for (const std::int64_t b : blocks) worker.weight += rows_.weights().sum[b];
  const std::int64_t count = static_cast<std::int64_t>(blocks.size());
  blocks.resize(count * (meeting.part + 1) / parts_);
  blocks.erase(blocks.begin(), blocks.begin() + count * meeting.part / parts_);
}

void DirectDensity::direct_task(Worker& worker, const Meeting& meeting) {
  const std::int64_t begin = meeting.block * rows_.block_points();
  const int count = static_cast<int>(std::min(problem_.points.n - begin, rows_.block_points()));
  // Far points have to be counted from their nearest sample.
  near_->measure(rows_.point_boxes(), meeting.block, worker.near);
  const double far = NearBlocks::farthest(worker.near);
  if (!(far * rates_[0] < 0x1p70 && far < 0x1p120)) return;
  worker.places.resize(count);
  for (int r = 0; r < count; ++r) worker.places[r] = begin + r;
  rows_.load(worker.places, worker.points.data());
  for (int i = 0; i < count * d_; ++i) rows_.put(worker.rows.data(), i, worker.points[i]);
  list_blocks(worker, meeting, std::log2(tells()));
  worker.sums.reset(count, 1);
  for (int r = 0; r < count; ++r) worker.sums[r].anchor = 0;
  const std::int64_t own = problem_.leave_one_out ? begin / kSpan : -1;
  const bool with_own = std::binary_search(worker.blocks.begin(), worker.blocks.end(), own);
  if (with_own) worker.blocks.erase(std::find(worker.blocks.begin(), worker.blocks.end(), own));
  const FlushToZero mode;
  if (far_) far_sums(worker, meeting.block, count);

  DirectSums sums{worker.rows.data(),    count, d_, nullptr, 0, rates_[0], worker.sums[0].partials,
                  worker.sums[0].largest};
  const std::size_t most = std::max<std::int64_t>(1, std::min(kMostTogether, kTogether / d_));
  std::vector<SampleBlock>& together = worker.together;
  together.clear();
  for (std::size_t b = 0; b < worker.blocks.size(); ++b) {
    together.push_back(rows_.block(worker.blocks[b]));
    if (together.size() < most && b + 1 < worker.blocks.size()) continue;
    sums.blocks = together.data();
    sums.block_count = static_cast<int>(together.size());
    problem_.kernels().direct(&sums);
    together.clear();
  }
  if (with_own) own_block(worker, sums, begin, own);
  for (int r = 0; r < count; ++r) {
    totals_.back().add(meeting.part, begin + r, worker.sums[r]);
  }
}

// Takes the listed blocks that are cheaper as polynomials off the list, and adds what they come to.
void DirectDensity::far_sums(Worker& worker, std::int64_t block, int count) {
  const int bits = problem_.float64 ? kFarDouble : kFarFloat;
  const double low = std::max(far_->lower_bound(rows_.point_boxes(), block, worker.blocks),
                              std::exp2(worker.near.low));
  const double log_share = std::log(low) - std::log(worker.weight) - bits * kLn2;
  worker.groups.clear();
  // Rounding counts by the size of terms: as many blocks as it may be had of, the smallest first.
  const double rounding = problem_.float64 ? kRoundsDouble : kRoundsFloat;
  double allowed = kMostRounding * std::ldexp(low, -bits) / rounding / parts_;
  worker.magnitudes.clear();
  for (const std::int64_t b : worker.blocks) {
    worker.magnitudes.emplace_back(far_->magnitude(rows_.point_boxes(), block, b), b);
  }
  std::sort(worker.magnitudes.begin(), worker.magnitudes.end());
  worker.blocks.clear();
  for (const auto& [magnitude, b] : worker.magnitudes) {
    if (magnitude <= allowed &&
        far_->degrees(rows_.point_boxes(), block, b, log_share, worker.groups)) {
      allowed -= magnitude;
    } else {
      worker.blocks.push_back(b);
    }
  }
  std::sort(worker.blocks.begin(), worker.blocks.end());
  if (worker.groups.empty()) return;
  for (int r = 0; r < kPoints; ++r) {
    for (int f = 0; f < d_; ++f) {
      rows_.put(worker.turned.data(), f * kPoints + r,
                worker.points[std::min(r, count - 1) * d_ + f]);
    }
  }
  std::fill_n(worker.far.data(), kPoints, 0.0);
  const FarSums sums{worker.turned.data(),
                     count,
                     d_,
                     far_->scale(),
                     worker.groups.data(),
                     static_cast<int>(worker.groups.size()),
                     worker.far.data()};
  problem_.kernels().far(&sums);
  for (int r = 0; r < count; ++r) worker.sums[r].partials[0] += worker.far[r];
}

// Adds the points' own block, each without itself: a few points at a time without any of them, and then
// their own pairs one by one.
void DirectDensity::own_block(Worker& worker, DirectSums sums, std::int64_t begin,
                              std::int64_t own) {
  const std::int64_t item = rows_.item();
  const SampleBlock given = rows_.block(own);
  const SampleBlock block{given.columns, worker.weights.data()};
  const DirectSums all = sums;
  sums.blocks = &block;
  sums.block_count = 1;
  for (int first = 0; first < all.row_count; first += kRowsAtOnce) {
    sums.row_count = std::min(kRowsAtOnce, all.row_count - first);
    std::copy_n(static_cast<const unsigned char*>(given.weights), kSpan * item,
                worker.weights.data());
    std::fill_n(worker.weights.data() + (begin + first - own * kSpan) * item, sums.row_count * item,
                0);
    sums.rows = static_cast<const unsigned char*>(all.rows) + first * d_ * item;
    sums.partials = all.partials + first * kPartials;
    sums.largest = all.largest + first;
    problem_.kernels().direct(&sums);
    for (int i = 0; i < sums.row_count; ++i) {
      for (int j = 0; j < sums.row_count; ++j) {
        if (i == j) continue;
        double square = 0;
        for (int f = 0; f < d_; ++f) {
          const double t =
              worker.points[(first + i) * d_ + f] - worker.points[(first + j) * d_ + f];
          square += t * t;
        }
        const double term =
            problem_.weight(rows_.sample(begin + first + j)) * std::exp2(-rates_[0] * square);
        sums.partials[i * kPartials] += term;
        sums.largest[i] = std::max(sums.largest[i], term);
      }
    }
  }
}

// The least sum of which it is all that is to be known; rows with less are done again.
double DirectDensity::tells() const {
  const bool wide = problem_.float64 && !rows_.ordered();
  const double least = (wide ? kTellsDouble : kTellsFloat) * total_weight_;
  // Where the largest term is not tracked, it is at most 1.
  return problem_.kernels().tracks_largest(d_) ? least : std::max(least, 2.0);
}

void DirectDensity::anchored_task(Worker& worker, const Meeting& meeting) {
  worker.places = unsettled_[meeting.block];
  const int count = static_cast<int>(worker.places.size());
  rows_.load(worker.places, worker.points.data());
  worker.box.reset(1, d_);
  for (int i = 0; i < count * d_; ++i) {
    double& low = worker.box.low[i % d_];
    double& high = worker.box.high[i % d_];
    low = std::min(low, worker.points[i]);
    high = std::max(high, worker.points[i]);
  }
  near_->measure(worker.box, 0, worker.near);
  list_blocks(worker, meeting, -kInfinity);
  const std::vector<double>& nearest = worker.near.nearest;
  if (rows_.ordered()) {
    std::stable_sort(worker.blocks.begin(), worker.blocks.end(),
                     [&](std::int64_t a, std::int64_t b) { return nearest[a] < nearest[b]; });
  }
  worker.sums.reset(count, static_cast<int>(rates_.size()));
  const FlushToZero mode;
  const LogSumKernels& kernels = problem_.kernels();
  // Beyond the anchor by so much, all samples together do not matter under any bandwidth.
  const double bits = (problem_.float64 ? kLeftOutDouble : kLeftOutFloat) +
                      std::log2(total_weight_ / problem_.lightest);
  for (const std::int64_t number : worker.blocks) {
    if (rows_.ordered() && nearest[number] > worker.sums.farthest_anchor() + bits / rates_[0])
      break;
    const SampleBlock block = rows_.block(number);
    const std::int64_t first = number * kSpan;
    const int samples = static_cast<int>(std::min<std::int64_t>(problem_.samples.n - first, kSpan));
    const int padded = static_cast<int>(blocks_of(samples, 16) * 16);
    for (int r = 0; r < count; r += kRowsAtOnce) {
      const int points = std::min(kRowsAtOnce, count - r);
      const Differences differences{worker.points.data() + std::int64_t{r} * d_, points, d_,
                                    block.columns, worker.squares.data()};
      kernels.differences(&differences);
      for (int i = 0; i < points; ++i) {
        double* squares = worker.squares.data() + i * kSpan;
        std::fill(squares + samples, squares + padded, kNoSample);
        const std::int64_t self = worker.places[r + i] - first;
        if (problem_.leave_one_out && 0 <= self && self < kSpan) squares[self] = kNoSample;
        const Accumulation accumulation{squares,
                                        padded,
                                        problem_.weights ? block.weights : nullptr,
                                        groups_.data(),
                                        static_cast<int>(groups_.size()),
                                        problem_.reach(),
                                        &worker.sums[r + i]};
        kernels.accumulate(&accumulation);
      }
    }
  }
  for (int r = 0; r < count; ++r) {
    totals_.back().add(meeting.part, worker.places[r], worker.sums[r]);
  }
}

}  // namespace fastgen::cpu
