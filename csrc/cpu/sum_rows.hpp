// Both sets of the sum engine in its own units: z = x factor - centre for every row, with the norms and
// the components along the centre that kernels need. Rows stay where they are; only numbers per row
// are kept.
#pragma once

#include <cstdint>
#include <vector>

#include "common/memory.hpp"
#include "common/rows.hpp"
#include "common/sum_terms.hpp"
#include "cpu/kernels.hpp"
#include "cpu/parallel.hpp"

namespace fastgen::cpu {

// Packed rows of a window. Every row is packed once per window it meets: at 6,000 rows of 2048 features that
// costs a fifteenth of packing it for every tile.
constexpr std::int64_t kWindowBytes = 48 << 20;

class SumRows {
 public:
  // `y` may be null. `normalise`: rows are divided by their norm, and not centred. Norms are brought below
  // 2^reach; more than 1 keeps rows far smaller than others in the range of float64.
  SumRows(const RowView& x, const RowView* y, bool normalise, bool float64, int reach,
          const Kernels& table, int threads);

  // True when all is known, or a row that cannot be normalised has been found.
  bool advance(Deadline deadline);
  // Everything again in float64; advance once more.
  void use_float64();

  int sets() const { return y_given_ ? 2 : 1; }
  const RowView& rows(int set) const { return sets_[set].rows; }
  bool float64() const { return float64_; }
  const SumKernels& kernels() const { return float64_ ? table_->sums_double : table_->sums_float; }
  std::int64_t item() const { return float64_ ? 8 : 4; }
  // Row of a set with norm 0 that was to be normalised; -1: none.
  std::int64_t zero_row(int set) const { return zero_row_[set]; }

  // Rows of a packed block, and its bytes.
  struct PackedBlock {
    std::int64_t rows, bytes;
  };
  // As many as asked for, or so few, a multiple of `step`, that the block fits into a window.
  PackedBlock packed_block(std::int64_t rows, std::int64_t step) const;

  const SumData& data() const { return data_; }
  const void* centre() const { return centre_.data(); }
  double factor(int set, std::int64_t row) const { return sets_[set].factor[row]; }
  float spread(int set, std::int64_t row) const { return sets_[set].spread[row]; }
  double square(int set, std::int64_t row) const { return sets_[set].square[row]; }
  double along(int set, std::int64_t row) const { return sets_[set].along[row]; }

 private:
  enum class Phase { norms, scan, squares, done };

  struct Set {
    RowView rows;
    std::vector<double> factor, square, along;  // [n]
    std::vector<float> spread;                  // [n], in [1, 2), decided by the row
    std::vector<std::vector<double>> block_sum, block_low, block_high;
  };

  void begin_phase(Phase phase);
  void finish_phase();
  void norms_task(int worker, std::int64_t task);
  void scan_task(std::int64_t task);
  void squares_task(int worker, std::int64_t task);
  void find_centre();
  void place_centre();
  void find_peaks();
  // The set of a task that deals with some rows of one of them, and the task's number within it.
  Set& set_of(std::int64_t& task, std::int64_t first_set_tasks) {
    if (task < first_set_tasks) return sets_[0];
    task -= first_set_tasks;
    return sets_[1];
  }

  Set sets_[2];
  bool y_given_, float64_;
  const Kernels* table_;
  int reach_, threads_;
  std::int64_t d_, zero_row_[2] = {-1, -1};
  std::int64_t first_set_tasks_ = 0, block_rows_ = 0;
  Phase phase_ = Phase::scan;
  Tasks tasks_;
  SumData data_{};
  std::vector<double> mean_;                  // [d]
  AlignedBuffer<double> centre_;              // [d] of the products' type
  std::vector<std::vector<double>> widened_;  // one row as float64, by worker
};

}  // namespace fastgen::cpu
