#include "cpu/direct_density.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

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
constexpr std::int64_t kTogether = 8, kMostTogether = 4;
// Sums without an anchor tell enough from this share of the weights on. A term is off by a few units of
// 2^-24 of its exponent, and the mean exponent of a sum's terms is at most -log(sum / weights): 24 here,
// which makes 2e-6 (worst seen 4e-6) of the 1e-5. In float64 only the range of the numbers counts.
constexpr double kTellsFloat = 3.7751345442790977e-11, kTellsDouble = 0x1p-800;
// What may be left out of a sum, and what polynomials may be off by: 2^-bits of it.
constexpr int kLeftOutFloat = 30, kLeftOutDouble = 50, kFarFloat = 20, kFarDouble = 37;

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
      rows_(problem_, ordered, ordered ? kPoints : points_at_once(problem)),
      far_field_(ordered && d_ <= FarField::kMostFeatures),
      workers_(problem.threads) {
  const std::int64_t blocks = rows_.point_boxes().count;
  if (blocks < kTasks) {
    parts_ = static_cast<int>(std::min(blocks_of(kTasks, blocks), rows_.sample_boxes().count));
  }
  const std::int64_t points = rows_.block_points();
  const std::int64_t bandwidths =
      far_field_ ? 1 : static_cast<std::int64_t>(problem.bandwidths.size());
  for (Worker& worker : workers_) {
    worker.points.reset(points * d_);
    worker.narrow.reset(points * d_ * rows_.item());
    worker.turned.reset(kPoints * FarField::kMostFeatures * rows_.item());
    worker.weights.reset(kSpan * rows_.item());
    worker.squares.reset(kRowsAtOnce * kSpan);
    worker.far.reset(kPoints);
    worker.largest.reset(points * bandwidths);
    worker.partials.reset(points * bandwidths * kPartials);
  }
}

double DirectDensity::advance(Deadline deadline) {
  if (phase_ == Phase::rows) {
    if (!rows_.advance(deadline)) return 0.0;
    for (const double sum : rows_.weights().sum) total_weight_ += sum;
    begin_pass();
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
  if (one()) pass = phase_ == Phase::anchored ? 0.5 + 0.5 * pass : 0.5 * pass;
  const double passes = far_field_ ? static_cast<double>(problem_.bandwidths.size()) : 1.0;
  return std::min((static_cast<double>(totals_.size()) - 1 + pass) / passes, 1 - 1e-9);
}

// The next bandwidth, or all of them.
void DirectDensity::begin_pass() {
  const auto first = problem_.bandwidths.begin() + static_cast<std::ptrdiff_t>(first_bandwidth_);
  const auto end = far_field_ ? first + 1 : problem_.bandwidths.end();
  rates_ = rates_of({first, end}, rows_.unit());
  groups_ = group_rates(rates_);
  near_ = std::make_unique<NearBlocks>(rows_.sample_boxes(), rows_.weights(), rates_,
                                       problem_.float64 ? kLeftOutDouble : kLeftOutFloat);
  totals_.emplace_back(problem_.points.n, parts_, problem_.weights || one(), rates_);
  unsettled_.assign(rows_.point_boxes().count, {});
  if (far_field_) {
    far_ = std::make_unique<FarField>(rows_, d_, rates_[0], problem_.samples.n);
    return begin(Phase::far_field);
  }
  if (one()) return begin(Phase::direct);
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
    for (std::int64_t row = 0; row < problem_.points.n; ++row) {
      if (settled(row)) continue;
      totals.clear(row);
      unsettled_[row / rows_.block_points()].push_back(row);
    }
    return begin(Phase::anchored);
  }
  first_bandwidth_ += rates_.size();
  if (first_bandwidth_ < problem_.bandwidths.size()) return begin_pass();
  phase_ = Phase::done;
}

void DirectDensity::list_blocks(Worker& worker, const Meeting& meeting) {
  std::vector<std::int64_t>& blocks = worker.blocks;
  if (rows_.ordered()) {
    const std::int64_t own =
        problem_.leave_one_out ? meeting.block * rows_.block_points() / kSpan : -1;
    near_->find(rows_.point_boxes(), meeting.block, own, worker.near, blocks);
  } else {
    blocks.resize(rows_.sample_boxes().count);
    for (std::size_t b = 0; b < blocks.size(); ++b) blocks[b] = static_cast<std::int64_t>(b);
  }
  const std::int64_t count = static_cast<std::int64_t>(blocks.size());
  blocks.resize(count * (meeting.part + 1) / parts_);
  blocks.erase(blocks.begin(), blocks.begin() + count * meeting.part / parts_);
}

// The loaded points in the samples' type, [points, d].
const void* DirectDensity::narrow_points(Worker& worker) {
  if (!rows_.narrow()) return worker.points.data();
  float* to = reinterpret_cast<float*>(worker.narrow.data());
  const std::int64_t count = static_cast<std::int64_t>(worker.places.size()) * d_;
  for (std::int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(worker.points[i]);
  return to;
}

void DirectDensity::direct_task(Worker& worker, const Meeting& meeting) {
  const std::int64_t begin = meeting.block * rows_.block_points();
  const int count = static_cast<int>(std::min(problem_.points.n - begin, rows_.block_points()));
  // Far points have to be counted from their nearest sample.
  const double far = near_->farthest(rows_.point_boxes(), meeting.block, worker.near);
  if (!(far * rates_[0] < 0x1p70 && far < 0x1p120)) return;
  worker.places.resize(count);
  for (int r = 0; r < count; ++r) worker.places[r] = begin + r;
  rows_.load(worker.places, worker.points.data());
  list_blocks(worker, meeting);
  double* partials = worker.partials.data();
  std::fill_n(partials, count * kPartials, 0.0);
  std::fill_n(worker.largest.data(), count, 0.0);
  const std::int64_t own = problem_.leave_one_out ? begin / kSpan : -1;
  const bool with_own = std::binary_search(worker.blocks.begin(), worker.blocks.end(), own);
  if (with_own) worker.blocks.erase(std::find(worker.blocks.begin(), worker.blocks.end(), own));
  if (far_field_) far_sums(worker, meeting.block, count);

  DirectSums sums{narrow_points(worker), count, d_, nullptr, 0, rates_[0], partials,
                  worker.largest.data()};
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
    totals_.back().add(meeting.part, begin + r,
                       {0.0, partials + r * kPartials, worker.largest.data() + r});
  }
}

// Takes the listed blocks that are cheaper as polynomials off the list, and adds what they come to.
void DirectDensity::far_sums(Worker& worker, std::int64_t block, int count) {
  double weight = 0;
  for (const std::int64_t b : worker.blocks) weight += rows_.weights().sum[b];
  const int bits = problem_.float64 ? kFarDouble : kFarFloat;
  const double log_share = (worker.near.low - std::log2(weight) - bits) * 0.69314718055994531;
  worker.groups.clear();
  const auto is_far = [&](std::int64_t b) {
    return far_->degrees(rows_.point_boxes(), block, b, log_share, worker.groups);
  };
  worker.blocks.erase(std::remove_if(worker.blocks.begin(), worker.blocks.end(), is_far),
                      worker.blocks.end());
  if (worker.groups.empty()) return;
  const auto turn = [&](auto* to) {
    for (int r = 0; r < kPoints; ++r) {
      for (int f = 0; f < d_; ++f) {
        const double x = worker.points[std::min(r, count - 1) * d_ + f];
        to[f * kPoints + r] = static_cast<std::remove_pointer_t<decltype(to)>>(x);
      }
    }
  };
  if (rows_.narrow()) {
    turn(reinterpret_cast<float*>(worker.turned.data()));
  } else {
    turn(reinterpret_cast<double*>(worker.turned.data()));
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
  for (int r = 0; r < count; ++r) worker.partials[r * kPartials] += worker.far[r];
}

// Adds the points' own block, each without itself.
void DirectDensity::own_block(Worker& worker, DirectSums sums, std::int64_t begin,
                              std::int64_t own) {
  const std::int64_t item = rows_.item();
  const SampleBlock given = rows_.block(own);
  const SampleBlock block{given.columns, worker.weights.data()};
  const DirectSums all = sums;
  sums.blocks = &block;
  sums.block_count = sums.row_count = 1;
  for (int r = 0; r < all.row_count; ++r) {
    std::copy_n(static_cast<const unsigned char*>(given.weights), kSpan * item,
                worker.weights.data());
    std::fill_n(worker.weights.data() + (begin + r - own * kSpan) * item, item, 0);
    sums.rows = static_cast<const unsigned char*>(all.rows) + r * d_ * item;
    sums.partials = all.partials + r * kPartials;
    sums.largest = all.largest + r;
    problem_.kernels().direct(&sums);
  }
}

// Whether a direct sum is all that is to be known of a row.
bool DirectDensity::settled(std::int64_t row) const {
  const double tells = problem_.float64 ? kTellsDouble : kTellsFloat;
  const double sum = totals_.back().sum(row, 0);
  // Where the largest term is not tracked, it is at most 1.
  return sum >= tells * total_weight_ && (problem_.kernels().tracks_largest(d_) || sum >= 2.0);
}

void DirectDensity::anchored_task(Worker& worker, const Meeting& meeting) {
  worker.places = unsettled_[meeting.block];
  const int count = static_cast<int>(worker.places.size());
  const std::int64_t bandwidths = static_cast<std::int64_t>(rates_.size());
  rows_.load(worker.places, worker.points.data());
  list_blocks(worker, meeting);
  std::fill_n(worker.partials.data(), count * bandwidths * kPartials, 0.0);
  std::fill_n(worker.largest.data(), count * bandwidths, 0.0);
  worker.sums.clear();
  for (int r = 0; r < count; ++r) {
    worker.sums.push_back({kInfinity, worker.partials.data() + r * bandwidths * kPartials,
                           worker.largest.data() + r * bandwidths});
  }
  const LogSumKernels& kernels = problem_.kernels();
  for (const std::int64_t number : worker.blocks) {
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
