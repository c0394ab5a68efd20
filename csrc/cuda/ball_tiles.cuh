// What becomes of a tile's marked pairs where balls are counted: pairs proven inside are added to the counts,
// those that float32 bounds leave open are emitted.
#pragma once

#include <cstdint>

#include "cuda/join_tiles.cuh"

namespace fastgen::cuda {

// ---- bounds of a single pair, in float32

struct FloatBounds {
  float low, high;
};

struct ProductBounds {
  static __device__ __forceinline__ FloatBounds pair(const TileJob& job, std::int32_t x,
                                                     std::int32_t y, std::int32_t product) {
    const float x_error = __ldg(job.x.error + x), y_error = __ldg(job.y.error + y);
    const float twice =
        2.0f * __ldg(job.x.scale + x) * (static_cast<float>(product) * __ldg(job.y.scale + y));
    const float bound = 2.0f * x_error * __ldg(job.y.magnitude + y) +
                        2.0f * (__ldg(job.x.magnitude + x) + x_error) * y_error;
    return {__ldg(job.x.low + x) + __ldg(job.y.low + y) - twice - bound,
            __ldg(job.x.high + x) + __ldg(job.y.high + y) - twice + bound};
  }
};

// In float32, direct_bounds with more slack: 2^-18 covers kDirectRounding and all roundings here.
struct DirectBounds {
  static __device__ __forceinline__ FloatBounds pair(const TileJob& job, std::int32_t x,
                                                     std::int32_t y, std::int32_t product) {
    const float root = __fsqrt_rn(__int_as_float(product));
    const float error = __ldg(job.x.error + x) + __ldg(job.y.error + y);
    const float near = root * (1 - 0x1p-18f) - error * (1 + 0x1p-20f);
    const float far = root * (1 + 0x1p-18f) + error * (1 + 0x1p-20f);
    return {near > 0 ? near * near * (1 - 0x1p-20f) : 0.0f, far * far * (1 + 0x1p-20f)};
  }
};

// ---- balls

// Marked pairs are listed in shared memory, `kEntries` at a time: row and column (bit 31: undecided), and
// the product. Few of a list are added to the totals in global memory one by one, many are added up
// in shared memory first.
template <class Layout, int kBytes>
struct BallList {
  static constexpr int kCounts = 2 * 128 + 2 * Layout::kTileColumns;
  static constexpr int kEntries = (kBytes - kCounts * 4) / 8;
  static constexpr std::uint32_t kMany = 1024;
  static constexpr std::uint32_t kUndecided = 0x80000000u;
  uint2 entries[kEntries];
  std::uint32_t
      counts[kCounts];  // y_in_x and y_balls_of_x by row, x_balls_of_y and x_in_y by column
};

__device__ __forceinline__ bool undecided(const FloatBounds& bounds, const float* inside,
                                          const float* outside) {
  const float most = __ldg(outside), least = __ldg(inside);
  return (bounds.low <= most) & !(bounds.high < least);
}

// What one thread does about the entries of a list: every blockDim-th from its own index on.
template <class Layout, class Bounds, int kBytes>
struct BallCounter {
  using List = BallList<Layout, kBytes>;
  const TileJob& job;
  const Tile& tile;
  List* list;

  __device__ __forceinline__ std::int32_t x_slot(const uint2& entry) const {
    return tile.row0 + code_row(entry.x);
  }
  __device__ __forceinline__ std::int32_t y_slot(const uint2& entry) const {
    return tile.column0 + code_column(entry.x);
  }
  // A thread takes some entries at a time, so that what their bounds are made of is asked for at once.
  // Beyond the last entry the first of them stands in.
  static constexpr int kAtOnce = Layout::kTileColumns > 128 ? 2 : 4;
  static constexpr std::uint32_t kStep = kAtOnce * kTileThreads;
  struct Some {
    uint2 entry[kAtOnce];
    FloatBounds bounds[kAtOnce];
  };
  __device__ __forceinline__ Some take(std::uint32_t first, std::uint32_t entries) const {
    Some some;
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const std::uint32_t e = first + u * kTileThreads;
      some.entry[u] = list->entries[e < entries ? e : first];
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const uint2& entry = some.entry[u];
      some.bounds[u] =
          Bounds::pair(job, x_slot(entry), y_slot(entry), static_cast<std::int32_t>(entry.y));
    }
    return some;
  }

  // Marks what is undecided; how many entries are.
  __device__ __forceinline__ std::uint32_t look(std::uint32_t entries) const {
    const BallThresholds& balls = job.balls;
    std::uint32_t open = 0;
#pragma unroll 1
    for (std::uint32_t first = threadIdx.x; first < entries; first += kStep) {
      const Some some = take(first, entries);
      bool any[kAtOnce] = {};
#pragma unroll 1
      for (int k = 0; k < balls.radii; ++k) {
        const std::int64_t x = k * balls.x_stride, y = k * balls.y_stride;
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u) {
          const std::int64_t at = x + x_slot(some.entry[u]);
          if (balls.has_x) {
            any[u] |= undecided(some.bounds[u], balls.x_inside + at, balls.x_outside + at);
          }
        }
#pragma unroll
        for (int u = 0; u < kAtOnce; ++u) {
          const std::int64_t at = y + y_slot(some.entry[u]);
          if (balls.has_y) {
            any[u] |= undecided(some.bounds[u], balls.y_inside + at, balls.y_outside + at);
          }
        }
      }
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        const std::uint32_t e = first + u * kTileThreads;
        if (any[u] && e < entries) {
          list->entries[e].x = some.entry[u].x | List::kUndecided;
          ++open;
        }
      }
    }
    return open;
  }

  // Writes the undecided from `hit` on.
  __device__ __forceinline__ Hit* write(std::uint32_t entries, Hit* hit) const {
#pragma unroll 1
    for (std::uint32_t e = threadIdx.x; e < entries; e += kTileThreads) {
      const uint2 entry = list->entries[e];
      if (!(entry.x & List::kUndecided)) continue;
      *hit++ = make_hit(tile, code_row(entry.x), code_column(entry.x),
                        static_cast<std::int32_t>(entry.y));
    }
    return hit;
  }

  // Adds the others to the counts of radius k. Called by the whole block.
  __device__ __forceinline__ void add(std::uint32_t entries, int k) const {
    const BallThresholds& balls = job.balls;
    const bool many = entries > List::kMany;
    const float none = __int_as_float(0xff800000);
    std::uint32_t* const columns = list->counts + 256;
    if (many) {  // each thread the counts that it takes below
      for (int i = static_cast<int>(threadIdx.x); i < List::kCounts; i += kTileThreads) {
        list->counts[i] = 0;
      }
      __syncthreads();
    }
#pragma unroll 1
    for (std::uint32_t first = threadIdx.x; first < entries; first += kStep) {
      const Some some = take(first, entries);
      float x_inside[kAtOnce], y_inside[kAtOnce];
      std::uint32_t x_copies[kAtOnce], y_copies[kAtOnce];
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        const std::int32_t x = x_slot(some.entry[u]), y = y_slot(some.entry[u]);
        x_inside[u] = balls.has_x ? __ldg(balls.x_inside + k * balls.x_stride + x) : none;
        y_inside[u] = balls.has_y ? __ldg(balls.y_inside + k * balls.y_stride + y) : none;
        x_copies[u] = static_cast<std::uint32_t>(__ldg(job.x.set.copies + x));
        y_copies[u] = static_cast<std::uint32_t>(__ldg(job.y.set.copies + y));
      }
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        const uint2& entry = some.entry[u];
        if (entry.x & List::kUndecided || first + u * kTileThreads >= entries) continue;
        const std::int32_t row = code_row(entry.x), column = code_column(entry.x);
        const std::int64_t x = k * balls.x_stride + x_slot(entry);
        const std::int64_t y = k * balls.y_stride + y_slot(entry);
        if (some.bounds[u].high < x_inside[u]) {
          add_one(many, list->counts + row, balls.y_in_x + x, y_copies[u]);
          add_one(many, columns + column, balls.x_balls_of_y + y, x_copies[u]);
        }
        if (some.bounds[u].high < y_inside[u]) {
          add_one(many, list->counts + 128 + row, balls.y_balls_of_x + x, y_copies[u]);
          add_one(many, columns + Layout::kTileColumns + column, balls.x_in_y + y, x_copies[u]);
        }
      }
    }
    if (!many) return;
    __syncthreads();
    const std::int64_t x = k * balls.x_stride + tile.row0;
    const std::int64_t y = k * balls.y_stride + tile.column0;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < List::kCounts; i += kTileThreads) {
      const std::uint32_t value = list->counts[i];
      if (value == 0) continue;
      const int c = i - 256;
      unsigned long long* const to = i < 128 ? balls.y_in_x + x + i
                                     : c < 0 ? balls.y_balls_of_x + x + (i - 128)
                                     : c < Layout::kTileColumns
                                         ? balls.x_balls_of_y + y + c
                                         : balls.x_in_y + y + (c - Layout::kTileColumns);
      atomicAdd(to, static_cast<unsigned long long>(value));
    }
  }

  static __device__ __forceinline__ void add_one(bool many, std::uint32_t* shared,
                                                 unsigned long long* total, std::uint32_t value) {
    if (many) {
      atomicAdd(shared, value);
    } else {
      atomicAdd(total, static_cast<unsigned long long>(value));
    }
  }
};

// Counts the marked pairs that are proven inside balls and emits the undecided; false: there was no
// room, and nothing has been done. Pairs that do not fit into one list are gone through twice: how many
// are undecided has to be known first.
template <class Layout, class Bounds, int kBytes>
__device__ __forceinline__ bool count_marks(const TileJob& job, const Tile& tile,
                                            const Marks& marks, const typename Layout::Sums& sums,
                                            BlockScratch* scratch, BallList<Layout, kBytes>* list) {
  using List = BallList<Layout, kBytes>;
  const BallCounter<Layout, Bounds, kBytes> counter{job, tile, list};
  std::uint32_t total;
  const std::uint32_t place = block_scan(static_cast<std::uint32_t>(marks.count()), scratch, total);
  if (total == 0) return true;
  const std::uint32_t rounds = (total + List::kEntries - 1) / List::kEntries;
  std::uint32_t open = 0;
  Hit* hit = nullptr;
#pragma unroll 1
  for (std::uint32_t pass = 0; pass < (rounds == 1 ? 1 : 2 * rounds); ++pass) {
    const std::uint32_t first = (pass < rounds ? pass : pass - rounds) * List::kEntries;
    const std::uint32_t entries = min(static_cast<std::uint32_t>(List::kEntries), total - first);
    if (pass > 0) __syncthreads();
    // pass >> 31 is 0, but not to the compiler, which would otherwise keep all codes in registers.
    const std::uint32_t own = code_of<Layout>(0, 0) + (pass >> 31);
    each_mark<Layout>(
        marks, sums, place - first, [&](int i, int j, std::int32_t product, std::uint32_t at) {
          if (at < List::kEntries) {
            list->entries[at] =
                make_uint2(own + Layout::code_step(i, j), static_cast<unsigned>(product));
          }
        });
    __syncthreads();
    open += counter.look(entries);
    if (pass == rounds - 1) {
      std::uint32_t open_total;
      const std::uint32_t open_place = block_scan(open, scratch, open_total);
      unsigned long long base = 0;
      if (open_total > 0 && !reserve(job, open_total, scratch, base)) return false;
      hit = job.hits + base + open_place;
    }
    if (pass >= rounds || rounds == 1) {
      hit = counter.write(entries, hit);
#pragma unroll 1
      for (int k = 0; k < job.balls.radii; ++k) counter.add(entries, k);
    }
  }
  return true;
}

}  // namespace fastgen::cuda
