// What the density engine is asked, and how its two walks over pairs of rows are driven.
#pragma once

#include <cmath>
#include <vector>

#include "common/rows.hpp"
#include "cpu/kernels.hpp"
#include "cpu/log_sum_totals.hpp"
#include "cpu/parallel.hpp"

namespace fastgen::cpu {

struct DensityProblem {
  RowView points;
  RowView samples;
  bool leave_one_out;              // points are the samples, each left out of its own sum
  std::vector<double> bandwidths;  // descending
  const double* weights;           // [samples], the largest 1; null: all 1
  double lightest;                 // the smallest weight
  bool float64;                    // exponentials in float64
  const Kernels* table;
  int threads;

  const LogSumKernels& kernels() const {
    return float64 ? table->log_sums_double : table->log_sums_float;
  }
  double weight(std::int64_t sample) const { return weights ? weights[sample] : 1.0; }
  // Powers of two below the nearest sample's term from which a term need not be added: 2^34 of them come
  // to 2^-30 of the sum, for float64 to 2^-50.
  double reach() const { return (float64 ? 84.0 : 64.0) - std::log2(lightest); }
};

// One walk over all pairs. Points are numbered as the walk likes.
class DensityWalk {
 public:
  virtual ~DensityWalk() = default;
  // Works until the deadline; returns the fraction done, 1 at the end.
  virtual double advance(Deadline deadline) = 0;
  // For the bandwidths in order, a few at a time.
  virtual const std::vector<LogSumTotals>& totals() const = 0;
  // Whether a bandwidth is so narrow beside the rows that nothing was computed.
  virtual bool too_narrow() const = 0;
  // The caller's number of a point.
  virtual std::int64_t point(std::int64_t row) const = 0;
};

}  // namespace fastgen::cpu
