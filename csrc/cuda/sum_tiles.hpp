// The kernels that multiply tiles of packed rows and add up their kernel values; plain declarations for
// their host (kernel_sums.cpp).
#pragma once

#include <cstdint>

#include "common/rows.hpp"
#include "common/sum_terms.hpp"
#include "cuda/runtime.hpp"
#include "cuda/tile_list.hpp"

namespace fastgen::cuda {

// Values are added up by runs of this many rows or columns, aligned by index.
constexpr std::int64_t kSumRun = 32;

// Up to kSumTile slots of one set in one subset.
struct SumBlock {
  std::int64_t begin;  // slot
  std::int32_t count, set, subset;
};

// A kernel of the run; its terms are those from `first_term` on.
struct SumKernel {
  int first_term, term_count;
  bool distances, look;
  double square_scale[3], form_scale;  // of (0, 0), (0, 1), (1, 1)
};

using Limb = unsigned long long;  // two's complement

// Device pointers. What is by slot has kSumTile items more than there are slots.
struct SumTotals {
  Limb *high, *low;                // [kernels, 2, slots]: over the rows of each set
  Limb *square_high, *square_low;  // [kernels, subsets, 3]
  Limb *form_high, *form_low;      // [kernels, labels]
  double* diagonal;                // [kernels, slots]
  const std::int16_t* exponent;    // [kernels, slots]: row sums are on a grid of 2^exponent
};

template <class Real>
struct SumTask {
  TileList list;
  const SumBlock* blocks;
  const SumTerm* terms;
  const SumKernel* kernels;
  int kernel_begin, kernel_end;
  std::int64_t slots;  // stride of what is by slot
  std::int64_t subsets;
  // By slot: what products are multiplied with; |z|^2, and as the products have it; z . centre.
  const Real *unspread, *square, *own_product, *along;
  // The rows themselves, for close pairs.
  RowView rows[2][2];  // of the window of rows and of that of columns, by set
  const double* factor[2];
  const std::int32_t* row;    // by slot
  const std::int32_t* place;  // by slot: the row's among those of `rows`
  // +-1 labels [labels, slots]; with any, a launch has one kernel.
  const std::int8_t* labels;
  int label_count;
  SumTotals totals;
};

// One block per multiprocessor walks the tiles of the list.
void launch_sum_tiles(const SumTask<float>& task, const Stream& stream);
void launch_sum_tiles(const SumTask<double>& task, const Stream& stream);

// Products of rows with themselves, bit for bit what tiles have on their diagonals, for a list whose tiles are
// all on the diagonal.
template <class Real>
struct SquareTask {
  TileList list;
  const SumBlock* blocks;
  const Real* unspread;
  Real* own_product;  // by slot
};
void launch_squares(const SquareTask<float>& task, const Stream& stream);
void launch_squares(const SquareTask<double>& task, const Stream& stream);

}  // namespace fastgen::cuda
