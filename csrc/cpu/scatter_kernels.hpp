// What one instruction set offers to streamed moments: columns added up, rows centred and packed, and
// their products added to a scatter matrix. Plain declarations, for the reason given in kernels.hpp.
#pragma once

#include <cstdint>

#include "common/rows.hpp"

namespace fastgen::cpu {

// Features on a side of a tile of the scatter matrix, a multiple of every panel width: two packed sides of
// kTileDepth rows and the tile itself, 690 KB, stay in L2.
constexpr int kScatterTile = 192;

// Rows [begin, end) of a set, features [first, first + features) of them. Features past the last are 0.
struct FeatureBlock {
  RowView rows;
  std::int64_t begin, end;
  std::int64_t first;
  int features;          // a multiple of the panel width
  const double* origin;  // [features] subtracted from every row
};

// The transposed product of packed rows with themselves: rows of the tile are features, its chains are
// over the packed rows, kTileDepth at a time, and added in ascending order to what the tile held.
struct ScatterTile {
  const double* rows;  // at the tile's first feature: [feature / panel][kTileDepth][panel]
  const double* columns;
  int row_count, column_count;  // features; rows to whole multiples of 8
  std::int64_t depth;           // packed rows
  std::int64_t block_items;     // from kTileDepth packed rows to the next
  bool diagonal;                // what is far above the diagonal is left out
  double* scatter;              // [row_count, stride], added to
  std::int64_t stride;
};

struct ScatterKernels {
  int panel;
  // sums[f] += x - origin, row by row.
  void (*add_columns)(const FeatureBlock&, double* sums);
  // (x - origin) - mean as packed rows from number `place` on; `packed` is at the first feature.
  void (*pack)(const FeatureBlock&, const double* mean, std::int64_t place,
               std::int64_t block_items, double* packed);
  void (*multiply)(const ScatterTile&);
};

}  // namespace fastgen::cpu
