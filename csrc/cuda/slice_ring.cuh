// Slices of 128 bytes of 128 rows and 128 columns on their way into shared memory, three at a time, and from
// one tile into the next: a block that walks tiles has the next one's first slices under way while it
// deals with the products of this one.
#pragma once

#include <cstdint>

#include "cuda/ptx.cuh"
#include "cuda/tile_list.hpp"

namespace fastgen::cuda {

constexpr int kSumThreads = 256;  // 8 warps, 2 x 4, each 64 rows x 32 columns of a tile
constexpr int kSumStages = 3;
constexpr std::int64_t kSumSlotBytes = 2 * kSumTile * kSumSliceBytes;  // 32 KB
constexpr std::int64_t kSumRingBytes = kSumStages * kSumSlotBytes;     // 96 KB: every GPU has 99

// A thread's 64 places in a tile: rows sum_row(r), r < 8, and columns sum_column(n, e), n < 4, e < 2.
// Those of float16 products are [m][n][2 h + e] with r = 2 m + h.
__device__ __forceinline__ int sum_row(int r) {
  return static_cast<int>(threadIdx.x / 128 * 64 + threadIdx.x % 32 / 4) + 8 * r;
}
__device__ __forceinline__ int sum_column(int n, int e) {
  return static_cast<int>(threadIdx.x / 32 % 4 * 32 + threadIdx.x % 4 * 2) + 8 * n + e;
}

// Place::chunk(row, chunk): where a row's 16-byte chunk lies, so that what a warp reads at a time lies in
// different banks; it has to repeat every 8 rows. Place::kAhead: slices of the next tile are asked for
// before this one is done with, which leaves 32 KB of the ring for its products instead of all.
template <class Place>
class SliceRing {
 public:
  __device__ __forceinline__ explicit SliceRing(const TileList& list) : list_(list) {
    const unsigned row = threadIdx.x / 8, chunk = threadIdx.x % 8;
    copy_to_ = shared_address(shared_memory()) + row * 128u + Place::chunk(row, chunk) * 16u;
    next_tile_ = static_cast<int>(blockIdx.x);
    look_up();
    if (Place::kAhead) prime();
  }

  // Before the first slice of a tile.
  __device__ __forceinline__ void begin() {
    if (Place::kAhead) return;
    __syncthreads();  // what lies in the ring is done with
    open();
    prime();
  }

  // Offset of the next slice in shared memory, rows before columns; the slice before it is given up.
  __device__ __forceinline__ std::uint32_t arrive() {
    use_ = use_ == kSumStages - 1 ? 0 : use_ + 1;
    copy_async_wait<kSumStages - 2>();
    __syncthreads();
    fill();
    return static_cast<std::uint32_t>(use_) * kSumSlotBytes;
  }

  // Offset of what is free once a tile is multiplied and the block has met, until the next call.
  __device__ __forceinline__ std::uint32_t scratch() const {
    return Place::kAhead ? static_cast<std::uint32_t>(use_) * kSumSlotBytes : 0;
  }
  static constexpr std::int64_t kScratchBytes = Place::kAhead ? kSumSlotBytes : kSumRingBytes;

 private:
  __device__ __forceinline__ void prime() {
    load_ = 0;
    use_ = kSumStages - 1;
    fill();
    fill();
  }

  // Goes to the next tile, if there is one.
  __device__ __forceinline__ void open() {
    if (next_tile_ >= list_.count) return;
    const unsigned row = threadIdx.x / 8, chunk = threadIdx.x % 8;
    from_rows_ = list_.rows + (next_row_ + std::int64_t{row}) * list_.stride + chunk * 16;
    from_columns_ = list_.columns + (next_column_ + std::int64_t{row}) * list_.stride + chunk * 16;
    left_ = list_.slices;
    // The one after it is needed a tile later.
    next_tile_ += static_cast<int>(gridDim.x);
    look_up();
  }
  __device__ __forceinline__ void look_up() {
    if (next_tile_ >= list_.count) return;
    next_row_ = list_.tiles[next_tile_].row;
    next_column_ = list_.tiles[next_tile_].column;
  }

  // Asks for one slice more; one group of copies per call, empty where nothing is left.
  __device__ __forceinline__ void fill() {
    if (Place::kAhead && left_ == 0) open();
    if (left_ > 0) {
      --left_;
      const std::uint32_t to = copy_to_ + static_cast<std::uint32_t>(load_) * kSumSlotBytes;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        copy_async_16(to + i * 32 * kSumSliceBytes, from_rows_ + i * 32 * list_.stride);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        copy_async_16(to + (kSumTile + i * 32) * kSumSliceBytes,
                      from_columns_ + i * 32 * list_.stride);
      }
      from_rows_ += kSumSliceBytes;
      from_columns_ += kSumSliceBytes;
    }
    copy_async_commit();
    load_ = load_ == kSumStages - 1 ? 0 : load_ + 1;
  }

  const TileList& list_;
  int next_row_ = 0, next_column_ = 0, next_tile_, left_ = 0, load_ = 0, use_ = 0;
  std::uint32_t copy_to_;
  const unsigned char* from_rows_ = nullptr;
  const unsigned char* from_columns_ = nullptr;
};

}  // namespace fastgen::cuda
