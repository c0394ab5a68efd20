// Both sets of the sum engine in its own units: z = x factor - centre for every row, with the numbers per row
// that kernels need, on the device. Rows stay where they are; all arithmetic is in float64.
#pragma once

#include <cstdint>
#include <vector>

#include "common/rows.hpp"
#include "common/sum_terms.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// One set on the device; by row.
struct SumSet {
  RowView rows;
  const double* factor;
  const float* spread;   // in [1, 2), decided by the row: split_rows.hpp says what for
  const double* square;  // |z|^2
  const double* along;   // z . centre
};

class SumRows {
 public:
  // `y` may be null. `normalise`: rows are divided by their norm, and not centred.
  SumRows(const RowView& x, const RowView* y, bool normalise, const Stream& stream);

  // Finds everything: three passes over the rows, bound by memory. False: a row cannot be normalised.
  bool find();

  int sets() const { return sets_; }
  const RowView& rows(int set) const { return rows_[set]; }
  SumSet view(int set) const;
  const double* centre() const { return centre_.data(); }  // [d], on the device
  const SumData& data() const { return data_; }
  // z . centre, on the host.
  const std::vector<double>& along(int set) const { return host_along_[set]; }
  // Row of a set with norm 0 that was to be normalised; -1: none.
  std::int64_t zero_row(int set) const { return zero_row_[set]; }
  // Whether float32 has not the range for these rows.
  bool out_of_range() const { return out_of_range_; }

 private:
  bool find_norms();
  void find_centre();
  void find_numbers();

  RowView rows_[2];
  int sets_;
  bool normalise_, out_of_range_ = false;
  Stream stream_;
  std::int64_t zero_row_[2] = {-1, -1};
  SumData data_{};
  std::vector<double> mean_;
  DeviceBuffer<double> factor_[2], square_[2], along_[2], centre_;
  DeviceBuffer<float> spread_[2];
  std::vector<double> host_along_[2];
};

}  // namespace fastgen::cuda
