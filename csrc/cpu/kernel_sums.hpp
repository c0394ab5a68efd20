// Sums of kernels over all pairs of rows: the sum engine. Every product of centred rows is mapped to
// kernel values, and values are added up by row, by column and in squares.
//
// What is summed is k(x, y) - h(x) - h(y) with an h that leaves small numbers: half of k along the
// centre for polynomials, 1/2 for kernels near 1. MMD^2, its variance and its permutations do not
// depend on h, and this way nothing cancels in them.
//
// Rows are centred and packed by windows of at most 48 MB; tiles of one window against another follow.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/memory.hpp"
#include "common/resolved_kernels.hpp"
#include "common/rows.hpp"
#include "common/sum_terms.hpp"
#include "common/sum_walk.hpp"
#include "cpu/kernels.hpp"
#include "cpu/parallel.hpp"
#include "cpu/sum_rows.hpp"

namespace fastgen::cpu {

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
  std::int64_t zero_row(int set) const { return rows_.zero_row(set); }
  // Whether some kernel's values may be beyond 2^480: then there are no sums.
  bool overflow() const { return resolved_.overflow; }
  bool float64() const { return rows_.float64(); }

  // Row sums of the rows of one set over the rows of another, [subsets, size of `set`].
  void row_sums(int kernel, int set, int other, double* out) const;
  void diagonal(int kernel, int set, double* out) const;  // [subsets, size]
  void shift(int kernel, int set, double* out) const;     // [subsets, size] h
  // Sums of squares over ordered pairs, [subsets]; of (0, 0), (0, 1) or (1, 1).
  void squares(int kernel, int set, int other, double* out) const;
  void forms(int kernel, double* out) const;  // [labels]

 private:
  enum class Phase { rows, pack, tiles, done };

  // Scratch of one thread; doubles, of which float32 uses the first half.
  struct Worker {
    AlignedBuffer<double> products, values, scratch, partials, run_sums;
    AlignedBuffer<std::int64_t> limbs;  // of rows, of columns, of forms: high and low each
    explicit Worker(int labels);
  };
  struct Totals {
    std::vector<double> scale;                           // [slots]
    double square_scale[3] = {1, 1, 1}, form_scale = 1;  // of (0, 0), (0, 1), (1, 1)
    std::vector<std::int64_t> high, low;                 // [2, slots]: over the rows of each set
    std::vector<std::int64_t> square_high, square_low;   // [subsets, 3]
    std::vector<std::int64_t> form_high, form_low;       // [labels]
    std::vector<double> diagonal;                        // [slots]
  };

  void lay_out();
  void set_grids();
  void next_stage();
  TileSide side(const SumWalk::Block& block) const;
  void pack_task(std::int64_t task);
  void tile_task(int worker, std::int64_t task);

  SumRows rows_;
  std::vector<std::vector<KernelTerm>> kernels_;
  SumSubsets subsets_;
  const std::int8_t* given_labels_;
  int label_count_;
  SumOptions options_;
  std::int64_t d_;

  Phase phase_ = Phase::rows;
  Tasks tasks_;
  ResolvedKernels resolved_;
  std::vector<Totals> totals_;  // by kernel
  std::vector<std::unique_ptr<Worker>> workers_;

  SumWalk walk_;  // blocks of up to options.block slots; each set's begin at a multiple of kRun
  std::int64_t slots_ = 0;
  std::vector<const void*> row_;  // by slot, as what follows
  std::vector<double> factor_, square_, along_;
  std::vector<float> spread_;
  std::vector<std::int8_t> labels_;  // [labels, slots]

  std::int64_t block_bytes_ = 0;
  AlignedBuffer<unsigned char> packed_[2];  // windows of blocks
};

}  // namespace fastgen::cpu
