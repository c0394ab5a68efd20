#include "cpu/sum_rows.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "common/check.hpp"
#include "common/sum_centre.hpp"

namespace fastgen::cpu {

namespace {

constexpr std::int64_t kRowsPerTask = 64;
// Column sums are kept per block and added in block order, so the centre does not depend on threads.
constexpr std::int64_t kMaxBlocks = 128;
constexpr std::int64_t kMinBlockRows = 256;

// |x|; squares of what is scaled neither overflow nor vanish.
double norm_of(const double* x, std::int64_t d) {
  double largest = 0, sum = 0;
  for (std::int64_t i = 0; i < d; ++i) largest = std::max(largest, std::fabs(x[i]));
  if (largest == 0) return 0;
  int exponent = 0;
  std::frexp(largest, &exponent);
  for (std::int64_t i = 0; i < d; ++i) {
    const double value = std::ldexp(x[i], -exponent);
    sum += value * value;
  }
  return std::ldexp(std::sqrt(sum), exponent);
}

// A number in [1, 2) that the row's values in the engine's units decide: the first 64 that are not 0
// tell rows apart well enough. Equal rows have equal numbers.
float spread_of(const double* x, double factor, std::int64_t d) {
  std::uint64_t hash = 0x9e3779b97f4a7c15ull;
  int left = 64;
  for (std::int64_t i = 0; i < d && left > 0; ++i) {
    if (x[i] == 0) continue;
    --left;
    const double value = x[i] * factor;
    std::uint64_t bits;
    std::memcpy(&bits, &value, 8);
    hash = (hash ^ bits) * 0x9fb21c651e98df25ull;
    hash ^= hash >> 29;
  }
  return 1.0f + static_cast<float>(hash >> 41) * 0x1p-23f;
}

}  // namespace

SumRows::SumRows(const RowView& x, const RowView* y, bool normalise, bool float64, int reach,
                 const Kernels& table, int threads)
    : y_given_(y != nullptr),
      table_(&table),
      reach_(reach),
      threads_(threads),
      d_(x.d),
      widened_(threads) {
  FASTGEN_CHECK(x.n >= 1 && x.d >= 1 && threads >= 1);
  FASTGEN_CHECK(!y || (y->n >= 1 && y->d == x.d));
  sets_[0].rows = x;
  if (y) sets_[1].rows = *y;
  for (int s = 0; s < sets(); ++s) {
    Set& set = sets_[s];
    set.factor.assign(set.rows.n, 1.0);
    set.square.assign(set.rows.n, 0.0);
    set.along.assign(set.rows.n, 0.0);
    set.spread.assign(set.rows.n, 1.0f);
  }
  float64_ = float64 || x.dtype == DType::float64 || (y && y->dtype == DType::float64);
  begin_phase(normalise ? Phase::norms : Phase::scan);
}

SumRows::PackedBlock SumRows::packed_block(std::int64_t rows, std::int64_t step) const {
  for (;; rows = blocks_of(rows / 2, step) * step) {
    const std::int64_t bytes = packed_items(rows, d_, kernels().panel) * item();
    if (rows <= step || bytes <= kWindowBytes) return {rows, bytes};
  }
}

void SumRows::begin_phase(Phase phase) {
  phase_ = phase;
  std::int64_t count = 0;
  if (phase == Phase::scan) {
    const std::int64_t n = std::max(sets_[0].rows.n, y_given_ ? sets_[1].rows.n : 0);
    block_rows_ = std::max(kMinBlockRows, blocks_of(n, kMaxBlocks));
  }
  for (int s = 0; s < sets() && phase != Phase::done; ++s) {
    Set& set = sets_[s];
    const std::int64_t tasks =
        blocks_of(set.rows.n, phase == Phase::scan ? block_rows_ : kRowsPerTask);
    if (phase == Phase::scan) {
      set.block_sum.assign(tasks, {});
      set.block_low = set.block_high = set.block_sum;
    }
    if (s == 0) first_set_tasks_ = tasks;
    count += tasks;
  }
  tasks_.reset(count);
}

bool SumRows::advance(Deadline deadline) {
  while (phase_ != Phase::done) {
    const bool finished = run_tasks(tasks_, threads_, deadline, [&](int worker, std::int64_t task) {
      switch (phase_) {
        case Phase::norms:
          return norms_task(worker, task);
        case Phase::scan:
          return scan_task(task);
        default:
          return squares_task(worker, task);
      }
    });
    if (!finished) return false;
    finish_phase();
  }
  return true;
}

void SumRows::use_float64() {
  float64_ = true;
  place_centre();
  begin_phase(Phase::squares);
}

void SumRows::finish_phase() {
  switch (phase_) {
    case Phase::norms:
      for (int s = 0; s < sets(); ++s) {
        const std::vector<double>& factor = sets_[s].factor;
        const auto zero = std::find(factor.begin(), factor.end(), 0.0);
        if (zero != factor.end()) zero_row_[s] = zero - factor.begin();
        for (const double f : factor) float64_ = float64_ || f > 0x1p100 || f < 0x1p-100;
      }
      // Unit vectors need no centre: float32 holds their squared distances to 2^-22.
      mean_.assign(d_, 0.0);
      data_.unit = 1.0;
      place_centre();
      return begin_phase(zero_row_[0] >= 0 || zero_row_[1] >= 0 ? Phase::done : Phase::squares);
    case Phase::scan:
      find_centre();
      place_centre();
      return begin_phase(Phase::squares);
    default:
      find_peaks();
      return begin_phase(Phase::done);
  }
}

void SumRows::norms_task(int worker, std::int64_t task) {
  Set& set = set_of(task, first_set_tasks_);
  std::vector<double>& row = widened_[worker];
  row.resize(d_);
  const std::int64_t begin = task * kRowsPerTask;
  for (std::int64_t i = begin; i < std::min(set.rows.n, begin + kRowsPerTask); ++i) {
    table_->to_double(set.rows.row(i), set.rows.dtype, d_, row.data());
    const double norm = norm_of(row.data(), d_);
    const double factor = 1 / norm;
    set.factor[i] = std::isfinite(factor) ? factor : 0.0;  // below 2^-1024 a row has no direction
  }
}

void SumRows::scan_task(std::int64_t task) {
  Set& set = set_of(task, first_set_tasks_);
  std::vector<double> sum(d_, 0.0), low(d_, std::numeric_limits<double>::infinity());
  std::vector<double> high(d_, -std::numeric_limits<double>::infinity());
  const std::int64_t begin = task * block_rows_;
  for (std::int64_t i = begin; i < std::min(set.rows.n, begin + block_rows_); ++i) {
    table_->scan_row(set.rows.row(i), set.rows.dtype, d_, sum.data(), low.data(), high.data());
  }
  set.block_sum[task] = std::move(sum);
  set.block_low[task] = std::move(low);
  set.block_high[task] = std::move(high);
}

// The mean of both sets, and a power of two that brings every |z| below 2^reach.
void SumRows::find_centre() {
  std::vector<double> low(d_, std::numeric_limits<double>::infinity());
  std::vector<double> high(d_, -std::numeric_limits<double>::infinity());
  std::vector<double> sums[2];
  double rows = 0;
  for (int s = 0; s < sets(); ++s) {
    Set& set = sets_[s];
    sums[s].assign(d_, 0.0);
    for (std::size_t block = 0; block < set.block_sum.size(); ++block) {
      for (std::int64_t i = 0; i < d_; ++i) {
        sums[s][i] += set.block_sum[block][i];
        low[i] = std::min(low[i], set.block_low[block][i]);
        high[i] = std::max(high[i], set.block_high[block][i]);
      }
    }
    set.block_sum = set.block_low = set.block_high = {};
    rows += static_cast<double>(set.rows.n);
  }
  SumCentre centre = fastgen::find_centre(sums, sets(), low, high, rows, reach_);
  mean_ = std::move(centre.mean);
  data_.unit = centre.unit;
  float64_ = float64_ || centre.float64;
  for (int s = 0; s < sets(); ++s) {
    std::fill(sets_[s].factor.begin(), sets_[s].factor.end(), data_.unit);
  }
}

void SumRows::place_centre() {
  centre_.reset(d_);  // float32 fills its first half
  data_.centre_square = 0;
  for (std::int64_t i = 0; i < d_; ++i) {
    double value = mean_[i] * data_.unit;
    if (float64_) {
      centre_[i] = value;
    } else {
      const float narrow = static_cast<float>(value);
      reinterpret_cast<float*>(centre_.data())[i] = narrow;
      value = static_cast<double>(narrow);
    }
    data_.centre_square += value * value;
  }
}

void SumRows::squares_task(int worker, std::int64_t task) {
  Set& set = set_of(task, first_set_tasks_);
  std::vector<double>& row = widened_[worker];
  row.resize(d_);
  const std::int64_t begin = task * kRowsPerTask;
  const int count = static_cast<int>(std::min(kRowsPerTask, set.rows.n - begin));
  const void* rows[kRowsPerTask];
  for (int i = 0; i < count; ++i) {
    rows[i] = set.rows.row(begin + i);
    table_->to_double(rows[i], set.rows.dtype, d_, row.data());
    set.spread[begin + i] = spread_of(row.data(), set.factor[begin + i], d_);
  }
  const TileSide side{rows,           set.factor.data() + begin, set.rows.dtype, count, d_,
                      centre_.data(), set.spread.data() + begin};
  kernels().squares(side, set.square.data() + begin);
  kernels().along(side, set.along.data() + begin);
}

void SumRows::find_peaks() {
  data_.mean_square = 0;
  double rows = 0;
  for (int s = 0; s < sets(); ++s) {
    double sum = 0;
    double& peak_square = data_.peak_square[s] = 0;
    double& peak_along = data_.peak_along[s] = 0;
    for (std::int64_t i = 0; i < sets_[s].rows.n; ++i) {
      sum += sets_[s].square[i];
      peak_square = std::max(peak_square, sets_[s].square[i]);
      peak_along = std::max(peak_along, std::fabs(sets_[s].along[i]));
    }
    data_.mean_square += sum;
    rows += static_cast<double>(sets_[s].rows.n);
  }
  data_.mean_square /= rows;
}

}  // namespace fastgen::cpu
