// What the join's tile kernels take: which tiles, which thresholds, and where hits go.
#pragma once

#include <cstdint>

#include "cuda/certificate.cuh"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// Pairs with a lower bound of at most max(x_threshold, x_weight * y_threshold) are emitted. Device
// pointers by slot; padding slots need no care. x_weight null: 1.
struct EmitThresholds {
  const float *x_threshold, *x_weight, *y_threshold;
};

// Balls around the rows of both sides, `radii` of them: pairs proven inside are counted, those not
// proven inside or outside of every ball are emitted and counted in none. Device pointers.
struct BallThresholds {
  int radii;
  std::int64_t x_stride, y_stride;  // between radius sets
  const float *x_inside,
      *x_outside;  // [radii, x_stride] by slot, rounded down and up; -inf: no ball
  const float *y_inside, *y_outside;  // [radii, y_stride]
  // Counts of copies, added to; by slot [radii, stride]:
  unsigned long long* y_in_x;        // copies of y inside the ball of x
  unsigned long long* x_balls_of_y;  // balls of copies of x that contain y
  unsigned long long* x_in_y;        // copies of x inside the ball of y
  unsigned long long* y_balls_of_x;  // balls of copies of y that contain x
  bool has_x, has_y;                 // whether there are balls around the rows of x, of y
};

// Tiles of a batch: the row tiles of this share times bands. Blocks of 16 row tiles and 8 bands come one
// after another: the tiles that run at a time on an H100 read some 2,000 rows of one side and 4,000 of
// the other.
struct TileGrid {
  std::int32_t x_begin, x_end, y_begin, y_end;  // slots of the parts
  std::int32_t row_tiles;                       // of this share
  std::int32_t column_blocks;                   // of the whole segment
  std::int32_t band_begin, bands;
  // Row tiles go round between shares, by groups of so many.
  std::int32_t share_index, share_count, share_tiles;
  bool
      symmetric;  // x and y are the same part: every unordered pair once, none of a row with itself
};

// Zero before every launch.
struct TileCounters {
  unsigned long long reserved;   // hits
  unsigned long long shortfall;  // largest ~first of a tile that found no room; 0: all did
  unsigned redo;                 // tiles on the redo list
};

struct TileJob {
  TileGrid grid;
  SideView x, y;
  Product product;
  // Tiles [first, first + tiles) of the grid, or those listed. Narrow tiles of blocks of 256 are numbered
  // block by block, two each.
  std::int32_t first, tiles;
  const std::int32_t* list;
  // A tile whose hits do not fit into `capacity` writes and counts nothing, and is put on `redo`.
  Hit* hits;
  unsigned long long capacity;
  TileCounters* counters;
  std::int32_t* redo;
  EmitThresholds emit;  // also where balls are counted: the largest of their radii
  BallThresholds balls;
};

// Rows and columns of a block where there are int8 products; else those of a tile, 128.
constexpr int kProductBlock = 256;

// Most hits of one tile.
constexpr std::int64_t kMostTileHits = 128 * 256;

// Shared memory that the wide tiles take, and the others.
std::int64_t wide_tile_bytes();
std::int64_t tile_bytes();

// Launch the tiles of a job: int8 products (wide: 256 columns a tile), direct differences, and every pair.
// `count`: balls are counted, else hits are emitted.
void launch_product_tiles(const TileJob& job, bool wide, bool count, const Stream& stream);
void launch_direct_tiles(const TileJob& job, bool count, const Stream& stream);
void launch_all_pairs(const TileJob& job, const Stream& stream);

// largest[slot] = the largest of `radii` values for slots [begin, end).
void launch_largest(const float* values, std::int64_t stride, int radii, std::int64_t begin,
                    std::int64_t end, float* largest, const Stream& stream);

}  // namespace fastgen::cuda
