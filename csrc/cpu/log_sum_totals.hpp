// What the density engine knows of every row: for every bandwidth, a sum of terms counted from the
// row's nearest sample, so that no distance is too large for it.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/log_sum_kernels.hpp"

namespace fastgen::cpu {

// Sums of a block of rows on their way to the totals: scratch of one thread.
class BlockSums {
 public:
  // Nothing summed yet, for so many rows.
  void reset(int rows, int bandwidths);
  AnchoredSums& operator[](int row) { return rows_[row]; }
  // The largest of the rows' anchors.
  double farthest_anchor() const;

 private:
  std::vector<AnchoredSums> rows_;
  std::vector<double> partials_, largest_;  // [rows, bandwidths, kPartials], [rows, bandwidths]
};

class LogSumTotals {
 public:
  // `parts`: sums over some of the samples that are made side by side, and put together in the end.
  // `largest`: whether blocks say what their largest term is; it is that of the anchor otherwise.
  LogSumTotals(std::int64_t rows, int parts, bool largest, std::vector<double> rates);

  int parts() const { return parts_; }
  std::int64_t rows() const { return rows_; }
  int bandwidths() const { return static_cast<int>(rates_.size()); }
  // Forgets what is known of a row.
  void clear(std::int64_t row);
  // Adds the sums over a block; one thread at a time for one row and part, in the order of blocks.
  void add(int part, std::int64_t row, const AnchoredSums& block);
  // Puts the parts together, in order.
  void merge();

  // After that:
  double anchor(std::int64_t row) const { return anchor_[row]; }
  double sum(std::int64_t row, int bandwidth) const { return sum_[place(0, row) + bandwidth]; }
  double largest(std::int64_t row, int bandwidth) const;
  // Natural logarithms of the sums of one row.
  void logs(std::int64_t row, double* out) const;
  // Whether one sample has more than half of a sum.
  bool dominated(std::int64_t row, int bandwidth) const {
    return largest(row, bandwidth) > 0.5 * sum(row, bandwidth);
  }

 private:
  std::int64_t place(int part, std::int64_t row) const {
    return (part * rows_ + row) * static_cast<std::int64_t>(rates_.size());
  }

  std::int64_t rows_;
  int parts_;
  std::vector<double> rates_;
  std::vector<double> anchor_, sum_, largest_;
};

}  // namespace fastgen::cpu
