// Tile kernels of the join on tensor cores.
#include "cuda/join_tiles.cuh"

#include <algorithm>

#include "common/check.hpp"
#include "cuda/ball_tiles.cuh"

namespace fastgen::cuda {

namespace {

// ---- terms of a tile, in shared memory: they arrive with its first slice, while the tile before is dealt with

enum RowTerm { kRowScale, kRowMagnitude, kRowError, kRowLow, kRowThreshold, kRowWeight, kRowTerms };
enum ColumnTerm {
  kColumnScale,
  kColumnMagnitude,
  kColumnError,
  kColumnLow,
  kColumnThreshold,
  kColumnTerms
};

template <int kN>
struct TileTerms {
  float row[kRowTerms][128];
  float column[kColumnTerms][32 * kN];
};

// One array per warp, 512 bytes of it at a time.
template <int kN>
__device__ __forceinline__ void copy_terms(const TileJob& job, const Tile& tile,
                                           TileTerms<kN>* to) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const auto pick = [&](const SideView& side, const float* threshold, const float* weight) {
    return warp == kRowScale       ? side.scale
           : warp == kRowMagnitude ? side.magnitude
           : warp == kRowError     ? side.error
           : warp == kRowLow       ? side.low
           : warp == kRowThreshold ? threshold
           : warp == kRowWeight    ? weight
                                   : nullptr;
  };
  const float* const row = pick(job.x, job.emit.x_threshold, job.emit.x_weight);
  if (row) copy_async_16(shared_address(to->row[warp] + lane * 4), row + tile.row0 + lane * 4);
  const float* const column = pick(job.y, job.emit.y_threshold, nullptr);
  if (column) {
#pragma unroll
    for (int half = 0; half < kN / 4; ++half) {
      const std::int32_t from = tile.column0 + (tile.wide ? half * 128 : 0);
      copy_async_16(shared_address(to->column[warp] + half * 128 + lane * 4),
                    column + from + lane * 4);
    }
  }
}

__device__ __forceinline__ float2 pair_at(const float* values, int at) {
  return *reinterpret_cast<const float2*>(values + at);
}

// Marks the pairs whose lower bound
//   low_r + low_c - 2 s_r s_c (q_r . q_c) - 2 (eps_r a_c + (a_r + eps_r) eps_c)
// is at most max(threshold_r, weight_r threshold_c). 9 instructions a pair: some 2,300 cycles for the
// 32,768 of a wide tile, beside 30,000 of products at d = 2048.
template <int kN>
__device__ __forceinline__ Marks mark_near(const std::int32_t (&sums)[4][kN][4],
                                           const TileTerms<kN>& terms, bool weighted) {
  using Layout = MatrixLayout<kN>;
  float scale[8], error[8], reach[8], low[8], threshold[8], weight[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int r = Layout::row(i);
    scale[i] = -2.0f * terms.row[kRowScale][r];
    error[i] = -2.0f * terms.row[kRowError][r];
    reach[i] = -2.0f * (terms.row[kRowMagnitude][r] + terms.row[kRowError][r]);
    low[i] = terms.row[kRowLow][r];
    threshold[i] = terms.row[kRowThreshold][r];
    weight[i] = weighted ? terms.row[kRowWeight][r] : 1.0f;
  }
  Marks marks;
#pragma unroll
  for (int j = 0; j < Layout::kColumns; j += 2) {
    const int c = Layout::column(j);
    const float2 scales = pair_at(terms.column[kColumnScale], c);
    const float2 magnitudes = pair_at(terms.column[kColumnMagnitude], c);
    const float2 errors = pair_at(terms.column[kColumnError], c);
    const float2 lows = pair_at(terms.column[kColumnLow], c);
    const float2 thresholds = pair_at(terms.column[kColumnThreshold], c);
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const float column_scale = e ? scales.y : scales.x;
      const float column_magnitude = e ? magnitudes.y : magnitudes.x;
      const float column_error = e ? errors.y : errors.x;
      const float column_low = e ? lows.y : lows.x;
      const float column_threshold = e ? thresholds.y : thresholds.x;
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float product = static_cast<float>(Layout::product(sums, i, j + e)) * column_scale;
        float bound = fmaf(scale[i], product, low[i] + column_low);
        bound = fmaf(error[i], column_magnitude, bound);
        bound = fmaf(reach[i], column_error, bound);
        if (bound <= fmaxf(threshold[i], weight[i] * column_threshold)) marks.set(i, j + e);
      }
    }
  }
  return marks;
}

template <int kN, int kStages>
constexpr std::int64_t kTilesShared =
    kRingBytes<kN, kStages> + 2 * sizeof(TileTerms<kN>) + sizeof(BlockScratch);

// Blocks stay and take every gridDim-th tile. The ring runs on from tile to tile, so the first slices and
// the terms of the next one arrive while a tile's products are looked at.
template <int kPlanes, int kN, int kStages, bool kCount>
__global__ void __launch_bounds__(kTileThreads, 1)
    product_tiles(const TileJob job, const TileOperand rows, const TileOperand columns,
                  const std::int64_t bytes) {
  using Layout = MatrixLayout<kN>;
  using Ring = TileRing<std::int8_t, kPlanes, kN, kStages>;
  unsigned char* const memory = shared_memory();
  TileTerms<kN>* const terms = reinterpret_cast<TileTerms<kN>*>(memory + kRingBytes<kN, kStages>);
  BlockScratch* const scratch = reinterpret_cast<BlockScratch*>(terms + 2);

  // Places of tiles in this launch: the next one to look at, and the one whose slices are arriving.
  const std::int32_t step = static_cast<std::int32_t>(gridDim.x);
  std::int32_t rest = static_cast<std::int32_t>(blockIdx.x), coming = -1;
  int buffer = 0;  // of its terms
  Ring ring(rows, columns, bytes, memory);
  const auto next = [&] {
    while (rest < job.tiles) {
      const Tile tile =
          tile_at<Layout::kTileColumns, kProductBlock>(job.grid, tile_index(job, rest));
      rest += step;
      if (!tile.exists) continue;
      coming = rest - step;
      buffer ^= 1;
      ring.open(tile.row0, tile.column0, tile.wide);
      copy_terms<kN>(job, tile, terms + buffer);
      return;
    }
  };
  ring.start(next);
  while (coming >= 0) {
    const std::int32_t current = coming;
    const TileTerms<kN>& own = terms[buffer];
    coming = -1;
    std::int32_t sums[4][kN][4];
    ring.multiply(sums, next);
    Marks marks = mark_near<kN>(sums, own, job.emit.x_weight != nullptr);
    // Once more, rather than kept in registers through the products.
    const Tile tile =
        tile_at<Layout::kTileColumns, kProductBlock>(job.grid, tile_index(job, current));
    clip<Layout>(tile, marks);
    bool done;
    if constexpr (kCount) {
      done = count_marks<Layout, ProductBounds, Ring::kSlotBytes>(
          job, tile, marks, sums, scratch,
          reinterpret_cast<BallList<Layout, Ring::kSlotBytes>*>(memory + ring.scratch()));
    } else {
      done = emit_marks<Layout>(job, tile, marks, sums, scratch);
    }
    if (!done) {
      leave(job, current, coming, rest, scratch);
      break;
    }
  }
  copy_async_wait<0>();
}

template <int kPlanes, int kN, int kStages, bool kCount>
void launch_as(const TileJob& job, const Stream& stream) {
  const bool fine = kPlanes == 2;
  const TileOperand rows{{job.x.set.high, fine ? job.x.set.low : nullptr}, job.x.set.depth};
  const TileOperand columns{{job.y.set.high, fine ? job.y.set.low : nullptr}, job.y.set.depth};
  const std::int64_t blocks = std::min<std::int64_t>(job.tiles, multiprocessors(stream.device()));
  launch(kCount ? "count pairs in tiles" : "emit pairs of tiles",
         product_tiles<kPlanes, kN, kStages, kCount>, blocks, kTileThreads,
         kTilesShared<kN, kStages>, stream, job, rows, columns, job.x.set.depth);
}

template <int kPlanes, bool kCount>
void launch_as(const TileJob& job, bool wide, const Stream& stream) {
  if (wide) {
    launch_as<kPlanes, 8, 3, kCount>(job, stream);
  } else {
    launch_as<kPlanes, 4, 2, kCount>(job, stream);
  }
}

// ---- every pair

__global__ void __launch_bounds__(kTileThreads) all_pairs(const TileJob job) {
  BlockScratch* const scratch = reinterpret_cast<BlockScratch*>(shared_memory());
  const std::int32_t place = static_cast<std::int32_t>(blockIdx.x);
  const Tile tile = tile_at<128, 128>(job.grid, tile_index(job, place));
  if (!tile.exists) return;
  // Half a row per thread: its columns from `begin` to `end`.
  const int row = static_cast<int>(threadIdx.x) / 2, half = static_cast<int>(threadIdx.x) % 2;
  const int column_end = min(128, job.grid.y_end - tile.column0);
  int begin = 64 * half;
  if (tile.diagonal) begin = max(begin, tile.row0 + row + 1 - tile.column0);
  const int end = tile.row0 + row < job.grid.x_end ? min(column_end, 64 * half + 64) : 0;
  const std::uint32_t count = static_cast<std::uint32_t>(max(0, end - begin));
  std::uint32_t total;
  const std::uint32_t first = block_scan(count, scratch, total);
  if (total == 0) return;
  unsigned long long base;
  if (!reserve(job, total, scratch, base)) {
    leave(job, place, -1, job.tiles, scratch);
    return;
  }
  Hit* to = job.hits + base + first;
  for (int column = begin; column < end; ++column) *to++ = make_hit(tile, row, column, 0);
}

__global__ void largest_of(const float* values, std::int64_t stride, int radii, std::int64_t begin,
                           std::int64_t end, float* largest) {
  const std::int64_t slot = begin + std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (slot >= end) return;
  float most = __int_as_float(0xff800000);
  for (int k = 0; k < radii; ++k) most = fmaxf(most, values[k * stride + slot]);
  largest[slot] = most;
}

}  // namespace

std::int64_t wide_tile_bytes() { return kTilesShared<8, 3>; }
std::int64_t tile_bytes() { return kTilesShared<4, 2>; }

void launch_product_tiles(const TileJob& job, bool wide, bool count, const Stream& stream) {
  FASTGEN_CHECK(job.product == Product::int8 || job.product == Product::fine);
  const bool fine = job.product == Product::fine;
  if (fine) {
    count ? launch_as<2, true>(job, wide, stream) : launch_as<2, false>(job, wide, stream);
  } else {
    count ? launch_as<1, true>(job, wide, stream) : launch_as<1, false>(job, wide, stream);
  }
}

void launch_all_pairs(const TileJob& job, const Stream& stream) {
  launch("emit all pairs", all_pairs, job.tiles, kTileThreads, sizeof(BlockScratch), stream, job);
}

void launch_largest(const float* values, std::int64_t stride, int radii, std::int64_t begin,
                    std::int64_t end, float* largest, const Stream& stream) {
  launch("largest radii", largest_of, blocks_for(end - begin, 256), 256, 0, stream, values, stride,
         radii, begin, end, largest);
}

}  // namespace fastgen::cuda
