// Kernels of the pass over all rows (scan_rows.hpp), bound by memory bandwidth.
//
// A warp takes 128 columns of one block of rows: lane l the columns l, l + 32, l + 64 and l + 96, whose
// sums and extremes stay in registers. Hashes and peaks of rows are reduced over the lanes for several
// rows at once (one shuffle a row instead of five), then over the warps by integer atomics.
#include "cuda/scan_rows.hpp"

#include <algorithm>
#include <type_traits>

#include "cuda/ptx.cuh"
#include "cuda/row_items.cuh"

namespace fastgen::cuda {
namespace {

using Word = unsigned long long;

constexpr int kThreads = 256;
constexpr int kLaneColumns = 4;
constexpr int kWarpColumns = 32 * kLaneColumns;
constexpr std::int64_t kMaxBlocks = 512;
constexpr std::int64_t kMinBlockRows = 128;

// Bijective, every bit of the result depends on every bit of the argument (Stafford's variant 13 of
// MurmurHash3's finaliser).
__device__ __forceinline__ Word mixed(Word x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

// A row's hash is the sum of its 32-bit words, each times an odd key of its own: two rows agree with
// probability 2^-41 where they hold small integers as floats, less else, and order does not matter.
template <class Value>
struct Keys;
template <>
struct Keys<float> {
  Word key;
  __device__ explicit Keys(std::int64_t column) : key(mixed(static_cast<Word>(column) + 1) | 1u) {}
  // Adding 0 turns -0 into +0.
  __device__ Word hash(float value) const {
    return static_cast<unsigned>(__float_as_int(__fadd_rn(value, 0.0f))) * key;
  }
};
template <>
struct Keys<double> {
  Word low, high;
  __device__ explicit Keys(std::int64_t column)
      : low(mixed(2 * static_cast<Word>(column) + 1) | 1u),
        high(mixed(2 * static_cast<Word>(column) + 2) | 1u) {}
  __device__ Word hash(double value) const {
    const Word bits = static_cast<Word>(__double_as_longlong(__dadd_rn(value, 0.0)));
    return static_cast<unsigned>(bits) * low + static_cast<unsigned>(bits >> 32) * high;
  }
};

__device__ __forceinline__ float larger(float a, float b) { return fmaxf(a, b); }
__device__ __forceinline__ double larger(double a, double b) { return a > b ? a : b; }
__device__ __forceinline__ float smaller(float a, float b) { return fminf(a, b); }
__device__ __forceinline__ double smaller(double a, double b) { return a < b ? a : b; }
__device__ __forceinline__ float magnitude(float a) { return fabsf(a); }
__device__ __forceinline__ double magnitude(double a) { return fabs(a); }

// Reduces kRows values of each lane over the warp: lane l gets row l / (32 / kRows).
template <int kRows, class T, class Join>
__device__ __forceinline__ T reduce_rows(T (&value)[kRows], int lane, Join join) {
  int offset = 16;
#pragma unroll
  for (int keep = kRows / 2; keep >= 1; keep /= 2) {
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int r = 0; r < keep; ++r) {
      const T sent = upper ? value[r] : value[r + keep];
      const T kept = upper ? value[r + keep] : value[r];
      value[r] = join(kept, __shfl_xor_sync(0xffffffffu, sent, offset));
    }
    offset /= 2;
  }
  T result = value[0];
  for (; offset >= 1; offset /= 2) {
    result = join(result, __shfl_xor_sync(0xffffffffu, result, offset));
  }
  return result;
}

struct ScanTask {
  RowView rows;
  std::int64_t block_rows, blocks, chunks;
  Word* hashes;  // null: columns alone, without rows whose peak is at least `limit`
  MagnitudeBits* peaks;
  MagnitudeBits limit;
  double* columns;  // [3][blocks][d]
};

template <class Item>
__global__ void __launch_bounds__(kThreads, 2) scan_kernel(ScanTask task) {
  using Value = decltype(number(Item()));
  constexpr int kRows = sizeof(Item) == 8 ? 4 : 8;  // as many loads are in flight per column
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t unit =
      static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const std::int64_t block = unit / task.chunks, chunk = unit % task.chunks;
  if (block >= task.blocks) return;  // whole warps
  const std::int64_t d = task.rows.d;
  const std::int64_t first = chunk * kWarpColumns + lane;
  const std::int64_t begin = block * task.block_rows;
  const std::int64_t end = min(task.rows.n, begin + task.block_rows);

  double sum[kLaneColumns];
  Value low[kLaneColumns], high[kLaneColumns];
  bool inside[kLaneColumns];
  const Keys<Value> keys[kLaneColumns] = {Keys<Value>(first), Keys<Value>(first + 32),
                                          Keys<Value>(first + 64), Keys<Value>(first + 96)};
#pragma unroll
  for (int j = 0; j < kLaneColumns; ++j) {
    sum[j] = 0;
    low[j] = static_cast<Value>(__int_as_float(0x7f800000));  // infinity
    high[j] = -low[j];
    inside[j] = first + 32 * j < d;
  }
  for (std::int64_t row = begin; row < end; row += kRows) {
    Value value[kRows][kLaneColumns];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const Item* items = items_of<Item>(task.rows, row + r) + first;
#pragma unroll
      for (int j = 0; j < kLaneColumns; ++j) {
        value[r][j] = row + r < end && inside[j] ? number(items[32 * j]) : Value(0);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (row + r >= end || (task.hashes == nullptr && task.peaks[row + r] >= task.limit)) continue;
#pragma unroll
      for (int j = 0; j < kLaneColumns; ++j) {
        sum[j] = __dadd_rn(sum[j], static_cast<double>(value[r][j]));
        low[j] = smaller(low[j], value[r][j]);
        high[j] = larger(high[j], value[r][j]);
      }
    }
    if (task.hashes == nullptr) continue;
    Word hash[kRows];
    Value peak[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      hash[r] = 0;
      peak[r] = 0;
#pragma unroll
      for (int j = 0; j < kLaneColumns; ++j) {
        hash[r] += keys[j].hash(value[r][j]);
        peak[r] = larger(peak[r], magnitude(value[r][j]));
      }
    }
    const Word row_hash = reduce_rows<kRows>(hash, lane, [](Word a, Word b) { return a + b; });
    const Value row_peak =
        reduce_rows<kRows>(peak, lane, [](Value a, Value b) { return larger(a, b); });
    const std::int64_t mine = row + lane / (32 / kRows);
    if (lane % (32 / kRows) == 0 && mine < end) {
      atomicAdd(task.hashes + mine, row_hash);
      atomicMax(task.peaks + mine,
                static_cast<MagnitudeBits>(__double_as_longlong(static_cast<double>(row_peak))));
    }
  }
#pragma unroll
  for (int j = 0; j < kLaneColumns; ++j) {
    if (!inside[j]) continue;
    double* to = task.columns + block * d + first + 32 * j;
    to[0] = sum[j];
    to[task.blocks * d] = static_cast<double>(low[j]);
    to[2 * task.blocks * d] = static_cast<double>(high[j]);
  }
}

// One thread a column, blocks in their order.
__global__ void __launch_bounds__(64)
    columns_kernel(const double* from, std::int64_t blocks, std::int64_t d, double* to) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * 64 + threadIdx.x;
  if (column >= d) return;
  double sum = 0, low = from[blocks * d + column], high = from[2 * blocks * d + column];
#pragma unroll 8
  for (std::int64_t block = 0; block < blocks; ++block) {
    const double* at = from + block * d + column;
    sum = __dadd_rn(sum, at[0]);
    low = smaller(low, at[blocks * d]);
    high = larger(high, at[2 * blocks * d]);
  }
  to[column] = sum;
  to[d + column] = low;
  to[2 * d + column] = high;
}

// Sums of keys times words end in zeros where the words do, so every bit is mixed; 0 is kept free.
__global__ void __launch_bounds__(kThreads) finish_hashes_kernel(Word* hashes, std::int64_t n) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= n) return;
  const Word hash = mixed(hashes[row]);
  hashes[row] = hash == 0 ? 1 : hash;
}

__global__ void __launch_bounds__(kThreads)
    exponents_kernel(const MagnitudeBits* peaks, std::int64_t n, unsigned* bins) {
  unsigned* mine = reinterpret_cast<unsigned*>(shared_memory());
  for (int bin = static_cast<int>(threadIdx.x); bin < kExponents; bin += kThreads) mine[bin] = 0;
  __syncthreads();
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; row < n;
       row += step) {
    if (peaks[row] != 0) atomicAdd(mine + (peaks[row] >> 52), 1u);
  }
  __syncthreads();
  for (int bin = static_cast<int>(threadIdx.x); bin < kExponents; bin += kThreads) {
    if (mine[bin] != 0) atomicAdd(bins + bin, mine[bin]);
  }
}

__global__ void __launch_bounds__(kThreads)
    list_kernel(const MagnitudeBits* peaks, std::int64_t n, MagnitudeBits limit, std::int32_t* list,
                unsigned capacity, unsigned* count) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= n || peaks[row] < limit) return;
  const unsigned place = atomicAdd(count, 1u);
  if (place < capacity) list[place] = static_cast<std::int32_t>(row);
}

// A table with open addressing, at most half full: keys are hashes, 0 is free; values the least row.
__global__ void __launch_bounds__(kThreads)
    insert_kernel(const Word* hashes, std::int64_t n, Word* keys, unsigned* rows, Word mask) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= n) return;
  const Word hash = hashes[row];
  for (Word place = hash & mask;; place = (place + 1) & mask) {
    const Word found = atomicCAS(keys + place, Word(0), hash);
    if (found == 0 || found == hash) {
      atomicMin(rows + place, static_cast<unsigned>(row));
      return;
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    look_up_kernel(const Word* hashes, std::int64_t n, const Word* keys, const unsigned* rows,
                   Word mask, std::int32_t* leader, unsigned* repeated) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  bool follows = false;
  if (row < n) {
    const Word hash = hashes[row];
    Word place = hash & mask;
    while (keys[place] != hash) place = (place + 1) & mask;
    leader[row] = static_cast<std::int32_t>(rows[place]);
    follows = rows[place] != static_cast<unsigned>(row);
  }
  const int followers = __syncthreads_count(follows);
  if (threadIdx.x == 0 && followers > 0) atomicAdd(repeated, static_cast<unsigned>(followers));
}

void launch_scan(const RowView& rows, Scan& scan, bool whole, MagnitudeBits limit, double* columns,
                 const Stream& stream) {
  ScanTask task{};
  task.rows = rows;
  task.block_rows = scan_block_rows(rows.n);
  task.blocks = blocks_for(rows.n, task.block_rows);
  task.chunks = blocks_for(rows.d, kWarpColumns);
  task.hashes = whole ? scan.hashes.data() : nullptr;
  task.peaks = scan.peaks.data();
  task.limit = limit;
  task.columns = scan.block_columns.data();
  const std::int64_t grid = blocks_for(task.blocks * task.chunks, kThreads / 32);
  with_item(rows.dtype, [&](auto* item) {
    using Item = std::remove_cv_t<std::remove_pointer_t<decltype(item)>>;
    launch("scan_rows", scan_kernel<Item>, grid, kThreads, 0, stream, task);
  });
  launch("scan_columns", columns_kernel, blocks_for(rows.d, 64), 64, 0, stream, task.columns,
         task.blocks, rows.d, columns);
}

}  // namespace

std::int64_t scan_block_rows(std::int64_t n) {
  return std::max(kMinBlockRows, blocks_for(n, kMaxBlocks));
}

Scan allocate_scan(const RowView& rows, const Stream& stream) {
  Scan scan;
  scan.hashes = DeviceBuffer<Word>(rows.n, stream, "hashes of rows");
  scan.peaks = DeviceBuffer<MagnitudeBits>(rows.n, stream, "magnitudes of rows");
  scan.leaders = DeviceBuffer<std::int32_t>(rows.n, stream, "grouping identical rows");
  scan.block_columns = DeviceBuffer<double>(
      3 * blocks_for(rows.n, scan_block_rows(rows.n)) * rows.d, stream, "sums of columns");
  return scan;
}

void scan_rows(const RowView& rows, Scan& scan, double* columns, const Stream& stream) {
  fill_bytes(scan.hashes.data(), 0, scan.hashes.bytes(), stream);
  fill_bytes(scan.peaks.data(), 0, scan.peaks.bytes(), stream);
  launch_scan(rows, scan, true, 0, columns, stream);
  launch("finish_hashes", finish_hashes_kernel, blocks_for(rows.n, kThreads), kThreads, 0, stream,
         scan.hashes.data(), rows.n);
}

void scan_columns(const RowView& rows, Scan& scan, MagnitudeBits limit, double* columns,
                  const Stream& stream) {
  launch_scan(rows, scan, false, limit, columns, stream);
}

void count_exponents(const Scan& scan, unsigned* bins, const Stream& stream) {
  const std::int64_t n = scan.peaks.size();
  const std::int64_t blocks =
      std::min<std::int64_t>(blocks_for(n, 8 * kThreads), 2 * multiprocessors(stream.device()));
  launch("count_exponents", exponents_kernel, blocks, kThreads, kExponents * sizeof(unsigned),
         stream, scan.peaks.data(), n, bins);
}

void list_peaks(const Scan& scan, MagnitudeBits limit, std::int32_t* list, unsigned capacity,
                unsigned* count, const Stream& stream) {
  const std::int64_t n = scan.peaks.size();
  launch("list_peaks", list_kernel, blocks_for(n, kThreads), kThreads, 0, stream, scan.peaks.data(),
         n, limit, list, capacity, count);
}

void find_leaders(Scan& scan, unsigned* repeated, const Stream& stream) {
  const std::int64_t n = scan.hashes.size(), blocks = blocks_for(n, kThreads);
  std::int64_t places = 64;
  while (places < 2 * n) places *= 2;
  DeviceBuffer<Word> keys(places, stream, "grouping identical rows");
  DeviceBuffer<unsigned> rows(places, stream, "grouping identical rows");
  fill_bytes(keys.data(), 0, keys.bytes(), stream);
  fill_bytes(rows.data(), 0xff, rows.bytes(), stream);
  const Word mask = static_cast<Word>(places) - 1;
  launch("insert_hashes", insert_kernel, blocks, kThreads, 0, stream, scan.hashes.data(), n,
         keys.data(), rows.data(), mask);
  launch("look_up_hashes", look_up_kernel, blocks, kThreads, 0, stream, scan.hashes.data(), n,
         keys.data(), rows.data(), mask, scan.leaders.data(), repeated);
}

}  // namespace fastgen::cuda
