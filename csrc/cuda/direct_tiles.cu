// Tile kernels of the join for few features: squared distances by float32 differences.
#include "cuda/join_tiles.cuh"

#include <algorithm>

#include "common/check.hpp"
#include "cuda/ball_tiles.cuh"

namespace fastgen::cuda {

namespace {

constexpr int kFeatures = static_cast<int>(kDirectFeatures);
// Shared memory of a list of pairs near balls: 3,840 of them.
constexpr int kListBytes = 32768;

// A thread has 8 x 8 pairs: per feature 4 loads of 16 bytes for 128 additions and multiplications, so
// the arithmetic, 2 d instructions a pair, is what takes time.
struct DirectTile {
  float row[kFeatures][128], column[kFeatures][128];
  // Roots of thresholds and weights, NaN where no pair is wanted; errors.
  float row_reach[128], row_weight[128], row_error[128];
  float column_reach[128], column_error[128];
};

// A little more than the root, for what mark_near rounds.
__device__ __forceinline__ float root_up(float sq) {
  return sq >= 0 ? __fsqrt_rn(sq) * (1 + 0x1p-20f) : __int_as_float(0x7fc00000);
}

// Features [0, d) of 128 rows, transposed; pads are zeros already. Lanes have rows, so that what they
// write lies in different banks.
__device__ __forceinline__ void load_rows(const float* from, std::int32_t slot0, int d,
                                          float (*to)[128]) {
  const int row = static_cast<int>(threadIdx.x) % 128;
#pragma unroll 1
  for (int quad = static_cast<int>(threadIdx.x) / 128; 4 * quad < d; quad += kTileThreads / 128) {
    const float4 z = __ldg(
        reinterpret_cast<const float4*>(from + (std::int64_t{slot0} + row) * kDirectFeatures) +
        quad);
    to[4 * quad][row] = z.x;
    to[4 * quad + 1][row] = z.y;
    to[4 * quad + 2][row] = z.z;
    to[4 * quad + 3][row] = z.w;
  }
}

__device__ __forceinline__ void load_tile(const TileJob& job, const Tile& tile, int d,
                                          DirectTile* to) {
  load_rows(job.x.direct, tile.row0, d, to->row);
  load_rows(job.y.direct, tile.column0, d, to->column);
  const int i = static_cast<int>(threadIdx.x) % 128;
  if (threadIdx.x < 128) {
    to->row_reach[i] = root_up(__ldg(job.emit.x_threshold + tile.row0 + i));
    to->row_weight[i] =
        job.emit.x_weight ? root_up(__ldg(job.emit.x_weight + tile.row0 + i)) : 1.0f;
    to->row_error[i] = __ldg(job.x.error + tile.row0 + i) * (1 + 0x1p-20f);
  } else {
    to->column_reach[i] = root_up(__ldg(job.emit.y_threshold + tile.column0 + i));
    to->column_error[i] = __ldg(job.y.error + tile.column0 + i) * (1 + 0x1p-20f);
  }
}

// Marks the pairs with sqrt(D) - (e_r + e_c) <= max(reach_r, weight_r reach_c), all but certainly:
// 2^-18 covers kDirectRounding and the roundings here.
__device__ __forceinline__ Marks mark_near(const float (&sums)[8][8], const DirectTile& tile) {
  Marks marks;
  // Four rows at a time: with the sums that leaves room for two blocks a multiprocessor.
#pragma unroll
  for (int first = 0; first < 8; first += 4) {
    float reach[4], weight[4], error[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = DirectLayout::row(first + i);
      reach[i] = tile.row_reach[r];
      weight[i] = tile.row_weight[r];
      error[i] = tile.row_error[r];
    }
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float column_reach = tile.column_reach[DirectLayout::column(j)];
      const float column_error = tile.column_error[DirectLayout::column(j)];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float limit = fmaxf(reach[i], weight[i] * column_reach) + (error[i] + column_error);
        if (sums[first + i][j] * (1 - 0x1p-18f) <= limit * limit) marks.set(first + i, j);
      }
    }
  }
  return marks;
}

constexpr std::int64_t kScratchAt = sizeof(DirectTile);
constexpr std::int64_t kListAt = kScratchAt + sizeof(BlockScratch);
static_assert(kScratchAt % 16 == 0 && kListAt % 8 == 0, "alignment");

template <bool kCount>
__global__ void __launch_bounds__(kTileThreads, kCount ? 1 : 2)
    direct_tiles(const TileJob job, const int d) {
  unsigned char* const memory = shared_memory();
  DirectTile* const own = reinterpret_cast<DirectTile*>(memory);
  BlockScratch* const scratch = reinterpret_cast<BlockScratch*>(memory + kScratchAt);
  const std::int32_t step = static_cast<std::int32_t>(gridDim.x);
  for (std::int32_t place = static_cast<std::int32_t>(blockIdx.x); place < job.tiles;
       place += step) {
    const Tile tile = tile_at<128, 128>(job.grid, tile_index(job, place));
    if (!tile.exists) continue;
    // The block has met since it looked at the tile before.
    load_tile(job, tile, d, own);
    __syncthreads();
    const int row = DirectLayout::row(0), column = DirectLayout::column(0);
    float sums[8][8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sums[i][j] = 0;
    }
#pragma unroll 1
    for (int f = 0; f < d; ++f) {
      float r[8], c[8];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float4 a = *reinterpret_cast<const float4*>(own->row[f] + row + 64 * half);
        const float4 b = *reinterpret_cast<const float4*>(own->column[f] + column + 64 * half);
        r[4 * half] = a.x, r[4 * half + 1] = a.y, r[4 * half + 2] = a.z, r[4 * half + 3] = a.w;
        c[4 * half] = b.x, c[4 * half + 1] = b.y, c[4 * half + 2] = b.z, c[4 * half + 3] = b.w;
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const float t = __fsub_rn(r[i], c[j]);
          sums[i][j] = __fmaf_rn(t, t, sums[i][j]);
        }
      }
    }
    Marks marks = mark_near(sums, *own);
    clip<DirectLayout>(tile, marks);
    bool done;
    if constexpr (kCount) {
      done = count_marks<DirectLayout, DirectBounds, kListBytes>(
          job, tile, marks, sums, scratch,
          reinterpret_cast<BallList<DirectLayout, kListBytes>*>(memory + kListAt));
    } else {
      done = emit_marks<DirectLayout>(job, tile, marks, sums, scratch);
    }
    if (!done) {
      leave(job, place, -1, place + step, scratch);
      return;
    }
  }
}

}  // namespace

void launch_direct_tiles(const TileJob& job, bool count, const Stream& stream) {
  FASTGEN_CHECK(job.product == Product::direct && job.x.set.rows.d <= kDirectFeatures);
  const std::int64_t blocks =
      std::min<std::int64_t>(job.tiles, 2 * multiprocessors(stream.device()));
  const int d = static_cast<int>(job.x.set.rows.d);
  if (count) {
    launch("count pairs of few features", direct_tiles<true>, blocks, kTileThreads,
           kListAt + kListBytes, stream, job, d);
  } else {
    launch("emit pairs of few features", direct_tiles<false>, blocks, kTileThreads, kListAt, stream,
           job, d);
  }
}

}  // namespace fastgen::cuda
