// Kernel values of tiles and their sums, for products of either precision.
//
// Sums do not depend on the order of tiles, nor on which of its two places a value of a symmetric problem is
// computed at: a run of 32 values, aligned by index, is added in float64 as eight strided partial sums and a
// fixed tree, along rows and along columns alike; the run's sum is rounded to two limbs of a power-of-two
// grid, and limbs are added by integer atomics.
//
// A thread has 8 rows of a tile (see sum_row), two runs of 4. Their products go through shared memory, 16
// bytes apart from other threads', so that loops over rows need not be unrolled.
#pragma once

#include <cstdint>

#include "cuda/row_items.cuh"
#include "cuda/slice_ring.cuh"
#include "cuda/sum_forms.cuh"
#include "cuda/sum_limbs.cuh"
#include "cuda/sum_stash.cuh"
#include "cuda/sum_tiles.hpp"
#include "cuda/sum_values.cuh"

namespace fastgen::cuda {

// Items of a row that a lane loads at a time for a pair of close rows, which is most of the work in sets that have
// collapsed. With 8 the float32 kernel would spill registers.
constexpr int kItems = 4;

// Every 32nd item of a row from the i-th on, zeros beyond its end.
template <class Item>
__device__ __forceinline__ void load_items(const void* row, std::int64_t i, std::int64_t d,
                                           double (&items)[kItems]) {
  Item loaded[kItems];
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    if (i + 32 * j < d) loaded[j] = __ldg(static_cast<const Item*>(row) + i + 32 * j);
  }
#pragma unroll
  for (int j = 0; j < kItems; ++j) {
    items[j] = i + 32 * j < d ? static_cast<double>(number(loaded[j])) : 0.0;
  }
}
__device__ __forceinline__ void load_items(const void* row, DType dtype, std::int64_t i,
                                           std::int64_t d, double (&items)[kItems]) {
  if (dtype == DType::float32) {
    load_items<float>(row, i, d, items);
  } else if (dtype == DType::float64) {
    load_items<double>(row, i, d, items);
  } else {
    load_items<__half>(row, i, d, items);
  }
}

// |x f - y g|^2 from the rows themselves, by a whole warp.
template <class Real>
__device__ __forceinline__ double near_square(const SumTask<Real>& task, int set, std::int64_t slot,
                                              int other, std::int64_t other_slot) {
  const std::int64_t i = task.row[slot], j = task.row[other_slot];
  const RowView& x = task.rows[0][set];
  const RowView& y = task.rows[1][other];
  const unsigned char* from = x.data + task.place[slot] * x.row_stride;
  const unsigned char* to = y.data + task.place[other_slot] * y.row_stride;
  const double f = task.factor[set][i], g = task.factor[other][j];
  const std::int64_t d = task.rows[0][0].d;  // of all rows
  double sum = 0;
#pragma unroll 1
  for (std::int64_t k = static_cast<int>(threadIdx.x) % 32; k < d; k += 32 * kItems) {
    double a[kItems], b[kItems];
    load_items(from, x.dtype, k, d, a);
    load_items(to, y.dtype, k, d, b);
#pragma unroll
    for (int c = 0; c < kItems; ++c) {
      const double t = __dsub_rn(__dmul_rn(a[c], f), __dmul_rn(b[c], g));
      sum = __fma_rn(t, t, sum);
    }
  }
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) {
    sum = __dadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, width));
  }
  return sum;
}

// What a tile's sums need to know of it.
struct SumSides {
  SumBlock rows, columns;
  bool diagonal;   // both sides are the same block
  bool symmetric;  // both sides are of one set
};

// Kernel values of one of a thread's rows.
template <class Real>
struct RowValues {
  // Independent values side by side; with more of them registers run out.
  static constexpr int kGroup = sizeof(Real) == 4 ? 4 : 2;

  const SumTask<Real>& task;
  const SumSides& sides;
  std::int64_t row_slot, column_slot;  // of the row, and of the thread's first column
  int columns;                         // from the first one on; 0: the row does not exist
  int own_column;                      // the row itself among them; -1: not there
  Real products[8], squares[8];

  // The thread's c-th column, counted from its first one.
  static __device__ __forceinline__ constexpr int step(int c) { return c / 2 * 8 + c % 2; }
  __device__ __forceinline__ bool valid(int c) const { return step(c) < columns; }
  __device__ __forceinline__ bool own(int c) const { return step(c) == own_column; }

  __device__ __forceinline__ RowValues(const SumTask<Real>& all, const SumSides& tile, int r,
                                       const Stash<Real>& stash)
      : task(all), sides(tile) {
    const int row = sum_row(r), column = sum_column(0, 0);
    row_slot = sides.rows.begin + row;
    column_slot = sides.columns.begin + column;
    columns = row < sides.rows.count ? sides.columns.count - column : 0;
    own_column = sides.diagonal && columns > 0 ? row - column : -1;
    const Real unspread = task.unspread[row_slot];
    stash.load(r, products);
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const Real other = task.unspread[column_slot + step(c)];
      products[c] = multiply(products[c], multiply(unspread, other));
    }
  }

  // Squared distances. With `look`, where 99.9 % of |x|^2 + |y|^2 has cancelled, the pair is recomputed,
  // so that the root of what is left is good to 2^-13 in float32 and 2^-42 in float64. Without it rows
  // meet with the products that they have with themselves, so that equal rows have no distance.
  __device__ __forceinline__ void set_squares(bool look) {
    const Real* square = look ? task.square : task.own_product;
    const Real row_square = square[row_slot];
    unsigned close = 0;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const Real both = add(row_square, square[column_slot + step(c)]);
      const Real sq = subtract(both, add(products[c], products[c]));
      squares[c] = sq > 0 && !own(c) ? sq : Real(0);
      const bool few = squares[c] < multiply(both, static_cast<Real>(0x1p-10f));
      if (few && valid(c) && !own(c)) close |= 1u << c;
    }
    if (!look) return;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    unsigned lanes = __ballot_sync(0xffffffffu, close != 0);
#pragma unroll 1
    while (lanes != 0) {
      const int leader = __ffs(static_cast<int>(lanes)) - 1;
      const int c = __ffs(__shfl_sync(0xffffffffu, static_cast<int>(close), leader)) - 1;
      const std::int64_t slot = row_slot - lane / 4 + leader / 4;
      const std::int64_t other = column_slot - lane % 4 * 2 + leader % 4 * 2 + step(c);
      const Real sq =
          static_cast<Real>(near_square(task, sides.rows.set, slot, sides.columns.set, other));
      if (lane == leader) {
        close &= close - 1;
#pragma unroll
        for (int i = 0; i < 8; ++i) squares[i] = i == c ? sq : squares[i];
      }
      lanes = __ballot_sync(0xffffffffu, close != 0);
    }
  }

  __device__ __forceinline__ void map(const SumKernel& kernel, Real (&values)[8]) {
    if (kernel.distances) set_squares(kernel.look);
    const Real along = task.along[row_slot];
#pragma unroll
    for (int first = 0; first < 8; first += kGroup) {
      Real some[kGroup], of[kGroup];
#pragma unroll
      for (int i = 0; i < kGroup; ++i) some[i] = 0;
#pragma unroll 1
      for (int t = 0; t < kernel.term_count; ++t) {
        const SumTerm term = task.terms[kernel.first_term + t];
        if (term.shape == Shape::polynomial) {
          Real column_along[kGroup];
#pragma unroll
          for (int i = 0; i < kGroup; ++i) {
            const int c = first + i;
            of[i] = products[c];
            column_along[i] = task.along[column_slot + step(c)];
          }
          add_polynomial(term, of, along, column_along, some);
        } else {
#pragma unroll
          for (int i = 0; i < kGroup; ++i) of[i] = squares[first + i];
          add_of_distances(term, of, some);
        }
      }
#pragma unroll
      for (int i = 0; i < kGroup; ++i) values[first + i] = valid(first + i) ? some[i] : Real(0);
    }
  }
};

// Sums of one kernel over a run of 4 of the thread's rows, from row r0 on, and what they add to the totals.
template <class Real>
__device__ __forceinline__ void sum_run(const SumTask<Real>& task, const SumSides& sides, int k,
                                        int r0, const Stash<Real>& stash) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const SumKernel& kernel = task.kernels[k];
  double by_column[8], row_sum = 0, squared = 0;
#pragma unroll
  for (int c = 0; c < 8; ++c) by_column[c] = 0;
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    RowValues<Real> row(task, sides, r0 + i, stash);
    Real values[8];
    row.map(kernel, values);
    double part[2] = {0, 0};
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const double value = static_cast<double>(values[c]);
      part[c % 2] = __dadd_rn(part[c % 2], value);
      by_column[c] = __dadd_rn(by_column[c], value);
      squared = __fma_rn(value, value, squared);
      if (row.own(c)) {
        task.totals.diagonal[k * task.slots + row.row_slot] = value;
      }
    }
    if (task.label_count > 0) stash.store(r0 + i, values);
    const double sum = add_four_lanes(__dadd_rn(part[0], part[1]));
    if (lane % 4 == i) row_sum = sum;
  }

  const SumTotals& totals = task.totals;
  const std::int16_t* exponent = totals.exponent + k * task.slots;
  const int row = sum_row(r0 + lane % 4);
  if (row < sides.rows.count) {
    const std::int64_t slot = sides.rows.begin + row;
    const std::int64_t to = (2 * k + sides.columns.set) * task.slots + slot;
    add_limbs(row_sum, power_of_two(exponent[slot]), totals.high + to, totals.low + to);
  }
  // A block with itself has both orders of every pair in its rows.
  if (!sides.diagonal) {
    int c = 0;
    const double column_sum = add_eight_rows(by_column, c);
    const int column = sum_column(c / 2, c % 2);
    if (column < sides.columns.count) {
      const std::int64_t slot = sides.columns.begin + column;
      const std::int64_t to = (2 * k + sides.rows.set) * task.slots + slot;
      add_limbs(column_sum, power_of_two(exponent[slot]), totals.high + to, totals.low + to);
    }
  }
  squared = add_warp(squared);
  if (lane == 0) {
    const int sets = sides.rows.set + sides.columns.set;
    const std::int64_t to = (k * task.subsets + sides.rows.subset) * 3 + sets;
    const bool twice = sides.symmetric && !sides.diagonal;
    add_limbs(twice ? 2 * squared : squared, task.kernels[k].square_scale[sets],
              totals.square_high + to, totals.square_low + to);
  }
  if (task.label_count > 0) {
    add_forms(task, sides.rows, sides.columns, k, r0, sides.diagonal ? 1.0 : 2.0, kernel.form_scale,
              stash);
  }
}

// Puts the thread's rows from `first` to `end` into the stash.
template <class Product>
__device__ __forceinline__ void put(typename Product::Sums& sums, int first, int end,
                                    const Stash<typename Product::Real>& stash) {
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    if (r < first || r >= end) continue;
    typename Product::Real products[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) products[c] = Product::at(sums, r, c / 2, c % 2);
    stash.store(r, products);
  }
}

template <class Product>
__device__ __forceinline__ void walk_tiles(const SumTask<typename Product::Real>& task) {
  using Real = typename Product::Real;
  const Product product;
  typename Product::Ring ring(task.list);
#pragma unroll 1
  for (int i = static_cast<int>(blockIdx.x); i < task.list.count;
       i += static_cast<int>(gridDim.x)) {
    typename Product::Sums sums;
    product.multiply(ring, task.list.slices, sums);
    __syncthreads();
    const TileOfList tile = task.list.tiles[i];
    const SumSides sides{task.blocks[tile.row_block], task.blocks[tile.column_block],
                         tile.row_block == tile.column_block,
                         task.blocks[tile.row_block].set == task.blocks[tile.column_block].set};
    const Stash<Real> stash(ring.scratch());
    put<Product>(sums, 0, Stash<Real>::kRows, stash);
#pragma unroll 1
    for (int run = 0; run < 2; ++run) {
#pragma unroll 1
      for (int k = task.kernel_begin; k < task.kernel_end; ++k) {
        sum_run(task, sides, k, 4 * run, stash);
      }
      // Here, not before the second run: rows that are put away must not look as if needed once more.
      if (run == 0) put<Product>(sums, Stash<Real>::kRows, 8, stash);
    }
  }
}

template <class Product>
__device__ __forceinline__ void walk_squares(const SquareTask<typename Product::Real>& task) {
  using Real = typename Product::Real;
  const Product product;
  typename Product::Ring ring(task.list);
#pragma unroll 1
  for (int i = static_cast<int>(blockIdx.x); i < task.list.count;
       i += static_cast<int>(gridDim.x)) {
    typename Product::Sums sums;
    product.multiply(ring, task.list.slices, sums);
    const SumBlock block = task.blocks[task.list.tiles[i].row_block];
#pragma unroll
    for (int r = 0; r < 8; ++r) {
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        const int row = sum_row(r);
        if (row != sum_column(c / 2, c % 2) || row >= block.count) continue;
        const Real unspread = task.unspread[block.begin + row];
        task.own_product[block.begin + row] =
            multiply(Product::at(sums, r, c / 2, c % 2), multiply(unspread, unspread));
      }
    }
  }
}

}  // namespace fastgen::cuda
