// The join's tile kernels apart from their products: which tile is where, and what becomes of a tile's
// products: pairs near enough are marked in registers, then emitted or counted.
#pragma once

#include <cstdint>

#include "cuda/join_tiles.hpp"
#include "cuda/ptx.cuh"
#include "cuda/tile_product.cuh"

namespace fastgen::cuda {

// ---- tiles

struct Tile {
  std::int32_t row0, column0;  // slots
  bool exists;                 // false: it has no pairs, or another tile of the grid has them
  bool wide;                   // columns from 128 on exist
  bool diagonal;               // rows and columns overlap
  bool swapped;                // columns come before rows
};

// Tile `index` of the grid, for tiles of kColumns columns and blocks of kBlock. Which blocks a share
// meets does not depend on kColumns, another for another kind of device: else shares would not make a whole.
template <int kColumns, int kBlock>
__device__ __forceinline__ Tile tile_at(const TileGrid& grid, std::int32_t index) {
  constexpr std::int32_t kRowGroup = 16, kBandGroup = 8, kAbreast = kBlock / kColumns;
  const std::int32_t part = index % kAbreast;
  index /= kAbreast;
  const std::int32_t chunk = index / (grid.row_tiles * kBandGroup);
  index -= chunk * grid.row_tiles * kBandGroup;
  const std::int32_t bands = min(kBandGroup, grid.bands - chunk * kBandGroup);
  const std::int32_t group = index / (kRowGroup * bands);
  index -= group * kRowGroup * bands;
  const std::int32_t rows = min(kRowGroup, grid.row_tiles - group * kRowGroup);
  const std::int32_t band = grid.band_begin + chunk * kBandGroup + index / rows;
  std::int32_t row = group * kRowGroup + index % rows;
  row = (row / grid.share_tiles * grid.share_count + grid.share_index) * grid.share_tiles +
        row % grid.share_tiles;
  const std::int32_t row_block = row / (kBlock / 128);
  const std::int32_t column_block =
      static_cast<std::int32_t>((std::int64_t{row_block} + band) % grid.column_blocks);
  Tile tile;
  tile.row0 = grid.x_begin + row * 128;
  tile.column0 = grid.y_begin + column_block * kBlock + part * kColumns;
  tile.wide = kColumns > 128 && tile.column0 + 128 < grid.y_end;
  tile.diagonal = grid.symmetric && column_block == row_block;
  // With an even number of blocks the middle band has every pair of blocks twice. Of two tiles abreast
  // the second may lie behind the last column, the first below the diagonal.
  tile.exists = !(grid.symmetric && 2 * band == grid.column_blocks && column_block < row_block);
  if (kAbreast > 1) {
    tile.exists = tile.exists && tile.column0 < grid.y_end &&
                  !(tile.diagonal && tile.column0 + kColumns <= tile.row0);
  }
  tile.swapped = grid.symmetric && column_block < row_block;
  return tile;
}

__device__ __forceinline__ std::int32_t tile_index(const TileJob& job, std::int32_t place) {
  return job.list ? __ldg(job.list + place) : job.first + place;
}

// ---- which products a thread has

// Those of tensor cores: tile_row, tile_column.
template <int kN>
struct MatrixLayout {
  static constexpr int kRows = 8, kColumns = 2 * kN, kTileColumns = 32 * kN;
  using Sums = std::int32_t[4][kN][4];
  static __device__ __forceinline__ int row(int i) { return tile_row(i / 2, i % 2); }
  static __device__ __forceinline__ int column(int j) { return tile_column<kN>(j / 2, j % 2); }
  // Of codes (below) to that of product (0, 0).
  static __device__ __forceinline__ std::uint32_t code_step(int i, int j) {
    return static_cast<std::uint32_t>(16 * (i / 2) + 8 * (i % 2)) << 16 |
           static_cast<std::uint32_t>(8 * (j / 2) + j % 2);
  }
  static __device__ __forceinline__ std::int32_t product(const Sums& sums, int i, int j) {
    return sums[i / 2][j / 2][2 * (i % 2) + j % 2];
  }
};

// Direct differences: two runs of 4 rows and of 4 columns, so that 16 bytes of each are one load.
struct DirectLayout {
  static constexpr int kRows = 8, kColumns = 8, kTileColumns = 128;
  using Sums = float[8][8];
  static __device__ __forceinline__ int place(int thread, int i) {
    return i / 4 * 64 + thread * 4 + i % 4;
  }
  static __device__ __forceinline__ int row(int i) {
    return place(static_cast<int>(threadIdx.x) / 16, i);
  }
  static __device__ __forceinline__ int column(int j) {
    return place(static_cast<int>(threadIdx.x) % 16, j);
  }
  static __device__ __forceinline__ std::uint32_t code_step(int i, int j) {
    return static_cast<std::uint32_t>(i / 4 * 64 + i % 4) << 16 |
           static_cast<std::uint32_t>(j / 4 * 64 + j % 4);
  }
  static __device__ __forceinline__ std::int32_t product(const Sums& sums, int i, int j) {
    return __float_as_int(sums[i][j]);
  }
};

// One bit per product of a thread.
struct Marks {
  std::uint32_t bits[4] = {0, 0, 0, 0};
  __device__ __forceinline__ void set(int i, int j) { bits[i / 2] |= 1u << (i % 2 * 16 + j); }
  __device__ __forceinline__ void clear(int i, int j) { bits[i / 2] &= ~(1u << (i % 2 * 16 + j)); }
  __device__ __forceinline__ bool get(int i, int j) const {
    return (bits[i / 2] >> (i % 2 * 16 + j)) & 1u;
  }
  __device__ __forceinline__ std::uint32_t row(int i) const {
    return bits[i / 2] & (0xffffu << (i % 2 * 16));
  }
  __device__ __forceinline__ int count() const {
    return __popc(bits[0]) + __popc(bits[1]) + __popc(bits[2]) + __popc(bits[3]);
  }
};

// Takes out what does not exist in this tile. (Padding has NaN terms and is never marked.)
template <class Layout>
__device__ __forceinline__ void clip(const Tile& tile, Marks& marks) {
  if (Layout::kTileColumns > 128 && !tile.wide && Layout::column(0) >= 128) marks = Marks();
  if (!tile.diagonal) return;
#pragma unroll
  for (int i = 0; i < Layout::kRows; ++i) {
#pragma unroll
    for (int j = 0; j < Layout::kColumns; ++j) {
      if (tile.column0 + Layout::column(j) <= tile.row0 + Layout::row(i)) marks.clear(i, j);
    }
  }
}

// ---- what the threads of a block tell each other

struct BlockScratch {
  unsigned long long base;
  std::uint32_t granted, redo;
  std::uint32_t warp[8];
};

// The sum of `count` over the threads before this one; `total` over all. One barrier; the scratch may
// be used again after another.
__device__ __forceinline__ std::uint32_t block_scan(std::uint32_t count, BlockScratch* scratch,
                                                    std::uint32_t& total) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  std::uint32_t sum = count;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    const std::uint32_t other = __shfl_up_sync(0xffffffffu, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) scratch->warp[warp] = sum;
  __syncthreads();
  std::uint32_t before = 0;
  total = 0;
#pragma unroll
  for (int w = 0; w < 8; ++w) {
    const std::uint32_t of = scratch->warp[w];
    if (w < warp) before += of;
    total += of;
  }
  return before + sum - count;
}

// Room for `count` hits of this block's tile, the same for all threads; false: there is none.
__device__ __forceinline__ bool reserve(const TileJob& job, std::uint32_t count,
                                        BlockScratch* scratch, unsigned long long& base) {
  if (threadIdx.x == 0) {
    const unsigned long long first =
        atomicAdd(&job.counters->reserved, static_cast<unsigned long long>(count));
    const bool granted = first + count <= job.capacity;
    // What was granted lies before the first that was not.
    if (!granted) atomicMax(&job.counters->shortfall, ~first);
    scratch->base = first;
    scratch->granted = granted;
  }
  __syncthreads();
  base = scratch->base;
  return scratch->granted;
}

// Puts the tile at place `current`, the one at `coming` if that is not negative, and every gridDim-th
// place from `rest` on, on the redo list.
__device__ __forceinline__ void leave(const TileJob& job, std::int32_t current, std::int32_t coming,
                                      std::int32_t rest, BlockScratch* scratch) {
  const std::int32_t step = static_cast<std::int32_t>(gridDim.x);
  const std::int32_t others = rest < job.tiles ? (job.tiles - 1 - rest) / step + 1 : 0;
  const std::int32_t both = coming < 0 ? 1 : 2;
  if (threadIdx.x == 0) {
    scratch->redo = atomicAdd(&job.counters->redo, static_cast<unsigned>(both + others));
  }
  __syncthreads();
  std::int32_t* const to = job.redo + scratch->redo;
  if (threadIdx.x == 0) {
    to[0] = tile_index(job, current);
    if (coming >= 0) to[1] = tile_index(job, coming);
  }
  for (std::int32_t i = static_cast<std::int32_t>(threadIdx.x); i < others;
       i += static_cast<std::int32_t>(blockDim.x)) {
    to[both + i] = tile_index(job, rest + i * step);
  }
}

__device__ __forceinline__ Hit make_hit(const Tile& tile, int row, int column,
                                        std::int32_t product) {
  const std::int32_t x = tile.row0 + row, y = tile.column0 + column;
  return tile.swapped ? Hit{y, x, product} : Hit{x, y, product};
}

// Row and column of a product in the tile: row << 16 | column.
template <class Layout>
__device__ __forceinline__ std::uint32_t code_of(int i, int j) {
  return static_cast<std::uint32_t>(Layout::row(i) << 16 | Layout::column(j));
}
__device__ __forceinline__ int code_row(std::uint32_t code) {
  return static_cast<int>(code >> 16 & 0x7fffu);
}
__device__ __forceinline__ int code_column(std::uint32_t code) {
  return static_cast<int>(code & 0xffffu);
}

// Calls entry(i, j, product, place) for every mark, where places count up from `first`.
template <class Layout, class Entry>
__device__ __forceinline__ void each_mark(const Marks& marks, const typename Layout::Sums& sums,
                                          std::uint32_t first, Entry&& entry) {
#pragma unroll
  for (int i = 0; i < Layout::kRows; ++i) {
    if (marks.row(i) == 0) continue;
#pragma unroll
    for (int j = 0; j < Layout::kColumns; ++j) {
      if (marks.get(i, j)) entry(i, j, Layout::product(sums, i, j), first++);
    }
  }
}

// Emits the marked pairs; false: there was no room, and nothing has been done.
template <class Layout>
__device__ __forceinline__ bool emit_marks(const TileJob& job, const Tile& tile, const Marks& marks,
                                           const typename Layout::Sums& sums,
                                           BlockScratch* scratch) {
  std::uint32_t total;
  const std::uint32_t place = block_scan(static_cast<std::uint32_t>(marks.count()), scratch, total);
  if (total == 0) return true;
  unsigned long long base;
  if (!reserve(job, total, scratch, base)) return false;
  Hit* const hits = job.hits + base;
  each_mark<Layout>(marks, sums, place, [&](int i, int j, std::int32_t product, std::uint32_t at) {
    hits[at] = make_hit(tile, Layout::row(i), Layout::column(j), product);
  });
  return true;
}

}  // namespace fastgen::cuda
