// Tiles of products of packed rows, as lists for kernels to walk.
#pragma once

#include <cstdint>

namespace fastgen::cuda {

constexpr int kSumTile = 128;                 // rows and columns of a tile
constexpr std::int64_t kSumSliceBytes = 128;  // of each row at a time

// A tile: its rows and columns in the packed windows, and as blocks.
struct alignas(16) TileOfList {
  std::int32_t row, column;              // packed rows
  std::int32_t row_block, column_block;  // numbers of blocks
};

// Two windows of packed rows, and the tiles that a launch walks: block b of G takes tiles b, b + G, ...
struct TileList {
  const unsigned char* rows;
  const unsigned char* columns;
  std::int64_t stride;  // bytes of a packed row, slices * kSumSliceBytes
  int slices;
  const TileOfList* tiles;
  int count;
};

}  // namespace fastgen::cuda
