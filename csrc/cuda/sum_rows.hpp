// Both sets of the sum engine in its own units: z = x factor - centre for every row, with the numbers per row
// that kernels need, on the device. Rows stay where they are, those of the host are uploaded part by part;
// all arithmetic is in float64.
#pragma once

#include <cstdint>
#include <vector>

#include "common/rows.hpp"
#include "common/sum_terms.hpp"
#include "cuda/row_source.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// One set on the device; by row.
struct SumSet {
  RowView rows;  // perhaps on the host
  const double* factor;
  const float* spread;   // in [1, 2), decided by the row: split_rows.hpp says what for
  const double* square;  // |z|^2
  const double* along;   // z . centre
};

class SumRows {
 public:
  // `y` may be without rows. `normalise`: rows are divided by their norm, and not centred. `memory`: bytes that
  // parts of rows from the host may take; 0: chosen.
  SumRows(const RowSource& x, const RowSource& y, bool normalise, std::int64_t memory,
          const Stream& stream);

  // Finds everything: three passes over the rows, bound by memory. False: a row cannot be normalised.
  bool find();

  int sets() const { return sets_; }
  const RowSource& source(int set) const { return sources_[set]; }
  const RowView& rows(int set) const { return sources_[set].view(); }
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

  RowSource sources_[2];
  int sets_;
  bool normalise_, out_of_range_ = false;
  std::int64_t part_bytes_;
  Stream stream_;
  std::int64_t zero_row_[2] = {-1, -1};
  SumData data_{};
  std::vector<double> mean_;
  DeviceBuffer<double> factor_[2], square_[2], along_[2], centre_;
  DeviceBuffer<float> spread_[2];
  std::vector<double> host_along_[2];
};

}  // namespace fastgen::cuda
