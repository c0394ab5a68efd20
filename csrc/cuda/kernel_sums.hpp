// Sums of kernels over all pairs of rows on a device: the counterpart of cpu/kernel_sums.hpp, with the same
// inputs and answers.
//
// Rows are packed by windows of at most a gigabyte, of which two are on the device at a time; tiles of one
// window against another follow, in batches that the host waits for. What is kept per row does not depend
// on the features. Rows of the host are uploaded part by part for what is found of each, and window by
// window to be packed; they stay beside the packed ones where kernels look at close pairs.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/resolved_kernels.hpp"
#include "common/rows.hpp"
#include "common/sum_terms.hpp"
#include "common/sum_walk.hpp"
#include "cuda/row_source.hpp"
#include "cuda/rows.hpp"
#include "cuda/runtime.hpp"
#include "cuda/split_rows.hpp"
#include "cuda/sum_rows.hpp"
#include "cuda/sum_tiles.hpp"

namespace fastgen::cuda {

struct SumOptions {
  bool within;     // also each set against itself
  bool normalise;  // rows divided by their norm
  bool float64;    // float64 products whatever the rows are
  // A share of the tiles, where several devices divide a problem: limbs() of all shares are to be added.
  int share_index = 0, share_count = 1;
  std::int64_t memory = 0;  // bytes of packed rows, and of those from the host; 0: chosen
  bool x_on_host = false, y_on_host = false;
};

class KernelSums {
 public:
  // `x` and `y` are in the memory of the stream's device, but for what the options say; `y` may be null: x
  // against itself. `labels` [label_count, n + m] of +-1, or null; they need one subset. Labels and indices
  // are on the host. All must outlive the engine.
  KernelSums(const RowView& x, const RowView* y, std::vector<std::vector<KernelTerm>> kernels,
             const SumSubsets& subsets, const std::int8_t* labels, int label_count,
             const SumOptions& options, const Stream& stream);

  // Works for about that long and returns the fraction done.
  double advance(double seconds);
  bool done() const { return phase_ == Phase::done; }
  std::int64_t zero_row(int set) const { return rows_.zero_row(set); }
  // Whether some kernel's values may be beyond 2^480: then there are no sums.
  bool overflow() const { return resolved_.overflow; }
  bool float64() const { return float64_; }

  // All sums as integers, once done: those of the shares of one problem add up (modulo 2^64) to those of
  // the whole, which any of them can take.
  const std::vector<Limb>& limbs() const { return limbs_; }
  void set_limbs(const std::int64_t* limbs, std::int64_t count);

  // Row sums of the rows of one set over the rows of another, [subsets, size of `set`].
  void row_sums(int kernel, int set, int other, double* out) const;
  void diagonal(int kernel, int set, double* out) const;  // [subsets, size]
  void shift(int kernel, int set, double* out) const;     // [subsets, size] h
  // Sums of squares over ordered pairs, [subsets]; of (0, 0), (0, 1) or (1, 1).
  void squares(int kernel, int set, int other, double* out) const;
  void forms(int kernel, double* out) const;  // [labels]

 private:
  enum class Phase { rows, tiles, done };

  // Where sums are among the limbs; [kernels, ...] each, as SumTotals has them.
  struct Places {
    std::int64_t low, square_high, square_low, form_high, form_low, diagonal, end;
  };
  // What is by slot, in the products' type.
  template <class Real>
  struct Numbers {
    DeviceBuffer<Real> unspread, square, own_product, along;
  };
  template <class Real>
  Numbers<Real>& numbers();

  void begin();
  void lay_out();
  template <class Real>
  void allocate_numbers();
  void divide();
  void find_places();
  void upload_kernels();
  void upload_labels();
  bool streamed() const { return rows_.source(0).on_host() || rows_.source(1).on_host(); }
  bool looks() const;
  std::int64_t row_in(const SumWalk::Block& block, std::int64_t slot) const;
  void load(int place, std::int64_t first_block, std::int64_t end_block);
  // What a window has of a set's rows: all of them where they are on the device.
  RowView loaded(int place, int set) const;
  const std::int32_t* places() const { return streamed() ? place_.data() : row_.data(); }
  SlotRows slot_rows() const;
  bool next_stage();
  template <class Real>
  void pack();
  TileList tile_list(int row_place, int column_place, const TileOfList* tiles,
                     std::int64_t count) const;
  TileOfList tile_of(const SumWalk::Pair& pair) const;
  template <class Real>
  void multiply(std::int64_t first, std::int64_t count);
  void carry();
  void finish();

  Stream stream_;
  SumRows rows_;
  std::vector<std::vector<KernelTerm>> kernels_;
  SumSubsets subsets_;
  const std::int8_t* given_labels_;
  int label_count_;
  SumOptions options_;
  bool float64_;

  Phase phase_ = Phase::rows;
  ResolvedKernels resolved_;
  std::vector<SumKernel> device_kernels_;
  SumWalk walk_;
  std::int64_t slots_ = 0, stride_ = 0;  // slots, and items of what is by slot
  Places places_{};

  DeviceBuffer<std::int32_t> row_;    // by slot
  DeviceBuffer<std::int32_t> place_;  // by slot, with rows of the host: where a window has the row
  DeviceBuffer<SumBlock> blocks_;
  DeviceBuffer<SumTerm> term_table_;
  DeviceBuffer<SumKernel> kernel_table_;
  DeviceBuffer<std::int8_t> labels_;     // [labels, slots]
  DeviceBuffer<std::int16_t> exponent_;  // [kernels, slots]
  DeviceBuffer<Limb> totals_;
  Numbers<float> numbers_float_;
  Numbers<double> numbers_double_;
  DeviceBuffer<unsigned char> packed_[2];          // windows of blocks
  std::unique_ptr<Rows> loaded_[2][2];             // rows of the host of those windows, by set
  DeviceBuffer<TileOfList> tiles_, square_tiles_;  // of this stage
  std::int64_t stages_ = 0, next_tile_ = 0;
  double rate_ = 0;  // tiles per second, once known

  std::vector<Limb> limbs_;
  std::vector<std::int16_t> host_exponent_;
};

}  // namespace fastgen::cuda
