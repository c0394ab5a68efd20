// Logarithms of Gaussian-kernel sums, log sum_j w_j exp(-|x_i - y_j|^2 / 2 h^2): the density engine.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/density_problem.hpp"

namespace fastgen::cpu {

enum class DensityPath { automatic, direct, ordered, tiles };

// Up to this many features blocks of nearby rows are small enough boxes to pass some over.
constexpr std::int64_t kOrderedFeatures = 8;

class LogSums {
 public:
  // The arrays must outlive the engine; `bandwidths` in any order, within a factor of 2^100 of each
  // other.
  LogSums(const RowView& points, const RowView& samples, std::vector<double> bandwidths,
          const double* weights, bool leave_one_out, DensityPath path, const Kernels& table,
          int threads);

  // Works for about that long and returns the fraction done.
  double advance(double seconds);
  bool done() const { return done_; }
  // Whether a bandwidth is so small beside the rows, 1e-149 of their spread or less by path, that
  // exponents leave float64: then there are no sums.
  bool too_narrow() const { return walk_->too_narrow(); }
  // [points, bandwidths]
  void log_sums(double* out) const;
  // [bandwidths]: points for which one sample has more than half of the sum.
  void dominated(std::int64_t* out) const;

 private:
  std::vector<std::size_t> descending_;  // numbers of the bandwidths by size
  DensityProblem problem_;
  std::unique_ptr<DensityWalk> walk_;
  bool done_ = false;
};

}  // namespace fastgen::cpu
