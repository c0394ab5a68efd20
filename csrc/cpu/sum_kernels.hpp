// What one instruction set offers to the sum engine: products of centred rows by tiles, and the
// kernel values of a tile added up. Plain declarations, for the reason given in kernels.hpp.
#pragma once

#include <cstdint>

#include "common/rows.hpp"
#include "common/sum_terms.hpp"

namespace fastgen::cpu {

// Rows and columns of one tile at most: its float32 products, 590 KB, stay in L2. A multiple of every
// panel width.
constexpr int kTile = 384;
// Features multiplied between two visits of the products: a packed panel of 48 columns takes 24 KB
// of L1. Also the longest chain of float32 additions, which the error of the products depends on.
constexpr int kTileDepth = 128;
// Where that error matters more than a sixteenth of the time: what grows by every addition does so over
// few features, and then over few chains.
constexpr int kFineDepth = 16;
// Values are added up by runs of this many, aligned by index, in an order that is the same for rows
// and columns of a tile.
constexpr int kRun = 64;

// Rows on their way to the products: a stored row x is z = x factor - centre to the engine.
//
// Packed rows are multiplied by a number of their own in [1, 2), and products divided by both rows'.
// Features that have one value in many rows, the zeros of a ReLU, would otherwise be rounded alike in
// all their products: an error that does not average out (3e-5 of an MMD^2 of 2e-4, seen).
struct TileSide {
  const void* const* rows;  // [count]
  const double* factor;     // [count]
  DType dtype;
  int count;
  std::int64_t d;
  const void* centre;   // [d] of the products' type
  const float* spread;  // [count]
};

// Items of a packed block: [d / kTileDepth][count to whole panels][kTileDepth], the last two
// interleaved by panels.
constexpr std::int64_t packed_items(std::int64_t count, std::int64_t d, int panel) {
  return (count + panel - 1) / panel * panel * ((d + kTileDepth - 1) / kTileDepth) * kTileDepth;
}

struct Tile {
  const void* rows;  // packed blocks
  const void* columns;
  int row_count, column_count;
  std::int64_t d;
  // Both sides are the same rows: runs of columns before a row's own run are left out.
  bool diagonal;
  const float* row_spread;  // [row_count]
  const float* column_spread;
  void* products;  // out, [kTile, kTile]
};

// Squared distances |x|^2 + |y|^2 - 2 x . y in float64 from a row of a tile's products.
struct Expansion {
  const void* products;  // [count]
  int count;
  double row_square;
  const double* column_squares;
  double* squares;  // out
};

// Sums on a power-of-two grid, in two limbs: value = high / scale + low / (2^37 scale).
struct FixedSums {
  std::int64_t* high;
  std::int64_t* low;
};

struct SumTile {
  const Tile* tile;
  TileSide rows, columns;
  const SumTerm* terms;
  int term_count;
  bool symmetric;  // both sides are of one set
  bool distances;  // whether any term needs squared distances
  bool look;       // whether close pairs are recomputed from the rows
  // Of rows and columns, readable up to the end of their last run:
  const double* row_square;  // |z|^2 in the tile's own arithmetic
  const double* column_square;
  const double* row_along;  // z . centre
  const double* column_along;
  const double* row_scale;  // grid of the row's sums
  const double* column_scale;
  double square_scale, form_scale;

  // +-1 labels, [labels, stride] with the tile's rows and columns at the pointers.
  int labels;
  std::int64_t label_stride;
  const std::int8_t* row_labels;
  const std::int8_t* column_labels;

  void* values;      // scratch, [kRun + 1, kTile] of the products' type
  void* scratch;     // [kSumScratch] of the products' type
  double* partials;  // scratch, [8, kTile]
  double* run_sums;  // scratch, [kTile / kRun, kTile]

  FixedSums row_sums, column_sums;       // [kTile], set
  FixedSums forms;                       // [labels], added to
  std::int64_t square_high, square_low;  // set
  double* diagonal;                      // [rows], set on a diagonal tile
};

// Items of SumTile::scratch: three rows, and what the labels need.
constexpr std::int64_t kSumScratch = 3 * kTile + 8 * (kRun + kTile + kRun);

struct SumKernels {
  int panel;  // packed blocks hold a multiple of this many rows
  void (*pack)(const TileSide&, void* out);
  void (*multiply)(const Tile*);
  // The same by chains of kFineDepth features, whose errors are smaller.
  void (*multiply_fine)(const Tile*);
  // Of the rows of a packed block, in float64: |z|^2 and the largest |z_f|.
  void (*packed_norms)(const void* packed, int count, std::int64_t d, double* squares,
                       double* largest);
  void (*expand)(const Expansion*);
  void (*sum)(SumTile*);
  // |z|^2, the product of z with itself to the last bit, and z . centre, of every row.
  void (*squares)(const TileSide&, double* out);
  void (*along)(const TileSide&, double* out);
};

}  // namespace fastgen::cpu
