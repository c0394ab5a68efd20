// Sums of a kernel over all pairs of rows: the sum engine. Rows are centred on the mean of both sets and
// multiplied in float32 (float64 for float64 rows, or where float32 could not tell), every product is
// mapped to kernel values, and values are added up by row, by column and in squares.
//
// What is summed is k(x, y) - h(x) - h(y) with an h that leaves small numbers: half of k along the
// centre for polynomials, 1/2 for kernels near 1. MMD^2, its variance and its permutations do not
// depend on h, and this way nothing cancels in them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/memory.hpp"
#include "common/rows.hpp"
#include "cpu/kernels.hpp"
#include "cpu/parallel.hpp"
#include "cpu/sum_terms.hpp"

namespace fastgen::cpu {

// Rows that meet each other: all of both sets, or a subset of each.
struct SumSubsets {
  std::int64_t count;           // 1 for the full sample
  std::int64_t x_size, y_size;  // rows of a subset
  const std::int64_t* x;        // [count, x_size] row numbers; null: all rows in order
  const std::int64_t* y;        // [count, y_size]
};

struct SumOptions {
  bool within;     // also each set against itself
  bool normalise;  // rows divided by their norm
  bool float64;    // float64 products whatever the rows are
  int block;       // rows and columns of a tile, a multiple of kRun up to kTile
  int threads;
};

class KernelSums {
 public:
  // `y` may be null: x against itself. `labels` [label_count, n + m] of +-1, or null; they need one
  // subset. The arrays must outlive the engine.
  KernelSums(const RowView& x, const RowView* y, std::vector<std::vector<KernelTerm>> kernels,
             const SumSubsets& subsets, const std::int8_t* labels, int label_count,
             const SumOptions& options, const Kernels& table);

  // Works for about that long and returns the fraction done.
  double advance(double seconds);
  bool done() const { return phase_ == Phase::done; }
  // Row of x (0) or y (1) with norm 0, where rows were to be divided by it; -1: none.
  std::int64_t zero_row(int set) const { return zero_row_[set]; }
  // Whether some kernel's values may be beyond 2^480: then there are no sums.
  bool overflow() const { return overflow_; }
  bool float64() const { return float64_; }

  // Row sums of the rows of one set over the rows of another, [subsets, size of `set`].
  void row_sums(int kernel, int set, int other, double* out) const;
  void diagonal(int kernel, int set, double* out) const;  // [subsets, size]
  void shift(int kernel, int set, double* out) const;     // [subsets, size] h
  // Sums of squares over ordered pairs, [subsets]; of (0, 0), (0, 1) or (1, 1).
  void squares(int kernel, int set, int other, double* out) const;
  void forms(int kernel, double* out) const;  // [labels]

 private:
  enum class Phase { norms, scan, terms, tiles, done };

  // A set's rows in the engine's units, by row number.
  struct Set {
    RowView rows;
    std::vector<double> factor;
    std::vector<double> square, along;
    std::vector<std::vector<double>> block_sum, block_low, block_high;
  };
  // A subset's rows of one set: slots [begin, begin + size), begin a multiple of kRun.
  struct Part {
    int set;
    std::int64_t begin, size;
  };
  struct Segment {
    Part rows, columns;
    bool symmetric;
    std::int64_t first_tile, row_blocks, column_blocks;
  };
  // Scratch of one thread; doubles, of which float32 uses the first half.
  struct Worker {
    AlignedBuffer<double> packed_rows, packed_columns, products, values, scratch;
    AlignedBuffer<double> partials, run_sums, row;
    AlignedBuffer<std::int64_t> limbs;  // of rows, of columns, of forms: high and low each
    Worker(std::int64_t d, int labels);
  };

  int sets() const { return y_given_ ? 2 : 1; }
  std::int64_t subset_size(int set) const { return set == 0 ? subsets_.x_size : subsets_.y_size; }
  Part part(std::int64_t subset, int set) const;
  const SumKernels& sum_kernels() const {
    return float64_ ? table_->sums_double : table_->sums_float;
  }
  void begin_phase(Phase phase);
  void finish_phase();
  void norms_task(int worker, std::int64_t task);
  void scan_task(std::int64_t task);
  void find_centre();
  void place_centre();
  void terms_task(int worker, std::int64_t task);
  bool resolve_terms();
  void set_grids();
  void lay_out();
  void tile_task(int worker, std::int64_t task);

  Set sets_[2];
  bool y_given_;
  std::vector<std::vector<KernelTerm>> kernels_;
  SumSubsets subsets_;
  int label_count_;
  SumOptions options_;
  const Kernels* table_;
  bool float64_, overflow_ = false;
  std::int64_t zero_row_[2] = {-1, -1};

  Phase phase_;
  Tasks tasks_;
  std::int64_t d_, block_rows_ = 0, slots_ = 0, subset_slots_ = 0;
  SumData data_{};
  std::vector<double> mean_;
  AlignedBuffer<double> centre_;             // of the products' type
  std::vector<std::vector<SumTerm>> terms_;  // by kernel
  std::vector<char> distances_, look_;       // by kernel
  std::vector<Segment> segments_;
  std::vector<std::unique_ptr<Worker>> workers_;

  // By slot.
  std::vector<const void*> row_;
  std::vector<double> factor_, square_, along_;
  std::vector<std::int8_t> labels_;  // [labels, slots]
  const std::int8_t* given_labels_;
  // By kernel.
  struct Totals {
    std::vector<double> scale;  // [slots]
    double square_scale = 1, form_scale = 1;
    std::vector<std::int64_t> high, low;                // [2, slots]: over the rows of each set
    std::vector<std::int64_t> square_high, square_low;  // [segments]
    std::vector<std::int64_t> form_high, form_low;      // [labels]
    std::vector<double> diagonal;                       // [slots]
  };
  std::vector<Totals> totals_;
};

}  // namespace fastgen::cpu
