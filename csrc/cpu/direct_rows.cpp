#include "cpu/direct_rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.hpp"

namespace fastgen::cpu {

DirectRows::DirectRows(DensityProblem& problem, bool ordered, std::int64_t block_points)
    : problem_(problem),
      ordered_(ordered),
      d_(static_cast<int>(problem.points.d)),
      block_points_(block_points),
      phase_(ordered ? Phase::order : Phase::boxes) {
  FASTGEN_CHECK(1 <= d_ && d_ <= kDirectFeatures);
  point_boxes_.reset(blocks_of(problem.points.n, block_points), d_);
  sample_boxes_.reset(blocks_of(problem.samples.n, kSpan), d_);
  block_weight_.sum.assign(sample_boxes_.count, 0.0);
  block_weight_.largest.assign(sample_boxes_.count, 0.0);
  if (ordered) {
    ordering_ = std::make_unique<RowOrder>(problem.samples, *problem.table, problem.threads);
  } else {
    tasks_.reset(point_boxes_.count + sample_boxes_.count);
  }
}

bool DirectRows::advance(Deadline deadline) {
  while (phase_ == Phase::order) {
    if (!ordering_->advance(deadline)) return false;
    (sample_order_.empty() ? sample_order_ : point_order_) = ordering_->take();
    if (problem_.leave_one_out) point_order_ = sample_order_;
    if (point_order_.empty()) {
      ordering_ = std::make_unique<RowOrder>(problem_.points, *problem_.table, problem_.threads);
      continue;
    }
    ordering_.reset();
    phase_ = Phase::boxes;
    tasks_.reset(point_boxes_.count + sample_boxes_.count);
  }
  while (phase_ != Phase::done) {
    const bool finished =
        run_tasks(tasks_, problem_.threads, deadline, [&](int, std::int64_t task) {
          return phase_ == Phase::boxes ? box_task(task) : samples_task(task);
        });
    if (!finished) return false;
    if (phase_ == Phase::samples) {
      phase_ = Phase::done;
    } else {
      place_unit();
      phase_ = Phase::samples;
      tasks_.reset(sample_boxes_.count);
    }
  }
  return true;
}

// Boxes in the units of the rows, first of all blocks of points.
void DirectRows::box_task(std::int64_t task) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
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
void DirectRows::place_unit() {
  const auto reach_of = [](const Boxes& boxes) {
    double largest = 0;
    for (const double x : boxes.low) largest = std::max(largest, std::fabs(x));
    for (const double x : boxes.high) largest = std::max(largest, std::fabs(x));
    int exponent = -2000;
    if (largest > 0) std::frexp(largest, &exponent);
    return exponent;
  };
  int bandwidth = 0;
  std::frexp(problem_.bandwidths[0], &bandwidth);
  const int samples = reach_of(sample_boxes_), points = reach_of(point_boxes_);
  if (1 - bandwidth + samples > 100) problem_.float64 = true;
  const int exponent = std::min(1 - bandwidth, 400 - std::max(samples, points));
  columns_.reset(sample_boxes_.count * kSpan * d_ * item());
  weights_.reset(sample_boxes_.count * kSpan * item());
  unit_ = std::ldexp(1.0, std::min(exponent, 1000));
  for (Boxes* boxes : {&point_boxes_, &sample_boxes_}) {
    for (double& x : boxes->low) x *= unit_;
    for (double& x : boxes->high) x *= unit_;
  }
}

void DirectRows::samples_task(std::int64_t block) {
  const std::int64_t begin = block * kSpan, end = std::min(problem_.samples.n, begin + kSpan);
  double x[kDirectFeatures];
  unsigned char* columns = columns_.data() + block * kSpan * d_ * item();
  unsigned char* weights = weights_.data() + block * kSpan * item();
  double sum = 0, largest = 0;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t row = sample(i);
    const double weight = problem_.weight(row);
    problem_.table->to_double(problem_.samples.row(row), problem_.samples.dtype, d_, x);
    for (int f = 0; f < d_; ++f) put(columns, f * kSpan + i - begin, x[f] * unit_);
    put(weights, i - begin, weight);
    sum += weight;
    largest = std::max(largest, weight);
  }
  block_weight_.sum[block] = sum;
  block_weight_.largest[block] = largest;
}

void DirectRows::load(const std::vector<std::int64_t>& places, double* out) const {
  for (const std::int64_t place : places) {
    problem_.table->to_double(problem_.points.row(point(place)), problem_.points.dtype, d_, out);
    for (int f = 0; f < d_; ++f) out[f] *= unit_;
    out += d_;
  }
}

}  // namespace fastgen::cpu
