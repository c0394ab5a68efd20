#include "cuda/sum_rows.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/check.hpp"
#include "common/sum_centre.hpp"
#include "cuda/row_items.cuh"
#include "cuda/sum_limbs.cuh"

namespace fastgen::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
// Columns are added up by blocks of rows that n alone decides, then block by block; parts of rows from the host have
// whole blocks.
constexpr std::int64_t kMaxBlocks = 512, kMinBlockRows = 128;
constexpr std::int64_t kScratchBytes = std::int64_t{64} << 20;
// Parts of rows from the host: an upload of so many takes 10 ms, far longer than to start it (an estimate).
constexpr std::int64_t kPartBytes = std::int64_t{256} << 20;
constexpr unsigned kAll = 0xffffffffu;

__device__ __forceinline__ int lane_of() { return static_cast<int>(threadIdx.x % 32); }
__device__ __forceinline__ std::int64_t warp_of() {
  return std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
}

template <class Item>
__device__ __forceinline__ double wide(Item item) {
  return static_cast<double>(number(item));
}

// 1 / |x|, or 0 where it is not a finite number; squares of what is scaled neither overflow nor vanish.
template <class Item>
__global__ void __launch_bounds__(kThreads) norms_kernel(RowView rows, double* factor) {
  const std::int64_t row = warp_of();
  if (row >= rows.n) return;  // whole warps
  const Item* x = items_of<Item>(rows, row);
  double largest = 0, sum = 0;
#pragma unroll 4
  for (std::int64_t i = lane_of(); i < rows.d; i += 32) {
    const double size = fabs(wide(x[i]));
    largest = largest > size ? largest : size;
  }
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) {
    const double other = __shfl_xor_sync(kAll, largest, width);
    largest = largest > other ? largest : other;
  }
  int exponent = 0;
  frexp(largest, &exponent);
#pragma unroll 4
  for (std::int64_t i = lane_of(); i < rows.d; i += 32) {
    const double value = ldexp(wide(x[i]), -exponent);
    sum = __fma_rn(value, value, sum);
  }
  const double inverse = 1 / ldexp(__dsqrt_rn(add_warp(sum)), exponent);
  if (lane_of() == 0) factor[row] = isfinite(inverse) ? inverse : 0.0;
}

__global__ void __launch_bounds__(kThreads) fill_kernel(double* out, std::int64_t n, double value) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) out[i] = value;
}

struct ColumnTask {
  RowView rows;
  std::int64_t block_rows, blocks, first, columns;  // columns [first, first + columns)
  double* by_block;                                 // [3][blocks][columns]: sums, minima, maxima
  bool more;                                        // `out` has what rows before these give
  double* out;                                      // [3][d]
};

// A warp has 32 columns of one block of rows.
template <class Item>
__global__ void __launch_bounds__(kThreads) columns_kernel(ColumnTask task) {
  const std::int64_t chunks = (task.columns + 31) / 32;
  const std::int64_t block = warp_of() / chunks, column = warp_of() % chunks * 32 + lane_of();
  if (block >= task.blocks || column >= task.columns) return;
  const std::int64_t begin = block * task.block_rows;
  const std::int64_t end = min(task.rows.n, begin + task.block_rows);
  double sum = 0, low = 0, high = 0;
#pragma unroll 8
  for (std::int64_t row = begin; row < end; ++row) {
    const double value = wide(items_of<Item>(task.rows, row)[task.first + column]);
    sum = __dadd_rn(sum, value);
    low = row == begin || value < low ? value : low;
    high = row == begin || value > high ? value : high;
  }
  const std::int64_t plane = task.blocks * task.columns, to = block * task.columns + column;
  task.by_block[to] = sum;
  task.by_block[plane + to] = low;
  task.by_block[2 * plane + to] = high;
}

__global__ void __launch_bounds__(kThreads) add_blocks_kernel(ColumnTask task) {
  const std::int64_t column = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= task.columns) return;
  const std::int64_t plane = task.blocks * task.columns;
  double* to = task.out + task.first + column;
  double sum = 0, low = 0, high = 0;
  if (task.more) {
    sum = to[0];
    low = to[task.rows.d];
    high = to[2 * task.rows.d];
  }
  for (std::int64_t block = 0; block < task.blocks; ++block) {
    const double* from = task.by_block + block * task.columns + column;
    sum = __dadd_rn(sum, from[0]);
    const bool first = block == 0 && !task.more;
    low = first || from[plane] < low ? from[plane] : low;
    high = first || from[2 * plane] > high ? from[2 * plane] : high;
  }
  to[0] = sum;
  to[task.rows.d] = low;
  to[2 * task.rows.d] = high;
}

__device__ __forceinline__ unsigned long long mixed(unsigned long long x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

struct NumberTask {
  RowView rows;
  const double* factor;
  const double* centre;
  float* spread;
  double *square, *along;
};

template <class Item>
__global__ void __launch_bounds__(kThreads) numbers_kernel(NumberTask task) {
  const std::int64_t row = warp_of();
  if (row >= task.rows.n) return;  // whole warps
  const Item* x = items_of<Item>(task.rows, row);
  const std::int64_t d = task.rows.d;
  const double factor = task.factor[row];
  double square = 0, along = 0;
#pragma unroll 4
  for (std::int64_t i = lane_of(); i < d; i += 32) {
    const double c = task.centre[i], z = __dsub_rn(__dmul_rn(wide(x[i]), factor), c);
    square = __fma_rn(z, z, square);
    along = __fma_rn(z, c, along);
  }
  square = add_warp(square);
  along = add_warp(along);
  // The first 64 values that are not 0, in the engine's units, tell rows apart well enough. Equal rows
  // have equal numbers.
  unsigned long long hash = 0;
  int left = 64;
  for (std::int64_t begin = 0; begin < d && left > 0; begin += 32) {
    const std::int64_t i = begin + lane_of();
    const double value = i < d ? __dmul_rn(wide(x[i]), factor) : 0.0;
    const unsigned others = __ballot_sync(kAll, value != 0);
    const int place = left - __popc(others & ((1u << lane_of()) - 1));
    if (value != 0 && place > 0) {
      hash ^= mixed(static_cast<unsigned long long>(__double_as_longlong(value)) +
                    static_cast<unsigned long long>(place) * 0x9e3779b97f4a7c15ull);
    }
    left -= __popc(others);
  }
#pragma unroll
  for (int width = 16; width >= 1; width /= 2) hash ^= __shfl_xor_sync(kAll, hash, width);
  if (lane_of() == 0) {
    task.square[row] = square;
    task.along[row] = along;
    task.spread[row] =
        __fmaf_rn(static_cast<float>(static_cast<int>(mixed(hash) >> 41)), 0x1p-23f, 1.0f);
  }
}

// Calls f(part, begin) for all rows, `step` of them or a multiple at a time.
template <class Function>
void each_part(RowSource& source, std::int64_t bytes, std::int64_t step, Function f) {
  const std::int64_t n = source.view().n, rows = source.part_rows(bytes, step);
  for (std::int64_t begin = 0; begin < n; begin += rows) {
    f(source.part(begin, std::min(n, begin + rows)), begin);
  }
  source.drop();
}

// Sums, minima and maxima of a set's columns, [3][d].
std::vector<double> column_numbers(RowSource& source, std::int64_t bytes, const Stream& stream) {
  const std::int64_t n = source.view().n, d = source.view().d;
  ColumnTask task{};
  task.block_rows = std::max(kMinBlockRows, blocks_for(n, kMaxBlocks));
  const std::int64_t blocks = blocks_for(source.part_rows(bytes, task.block_rows), task.block_rows);
  const std::int64_t span =
      std::min(d, std::max<std::int64_t>(32, kScratchBytes / (24 * blocks) / 32 * 32));
  const DeviceBuffer<double> by_block(3 * blocks * span, stream, "sums of columns");
  const DeviceBuffer<double> out(3 * d, stream, "sums of columns");
  task.by_block = by_block.data();
  task.out = out.data();
  each_part(source, bytes, task.block_rows, [&](const RowView& rows, std::int64_t begin) {
    task.rows = rows;
    task.blocks = blocks_for(rows.n, task.block_rows);
    task.more = begin > 0;
    for (task.first = 0; task.first < d; task.first += span) {
      task.columns = std::min(span, d - task.first);
      const std::int64_t warps = task.blocks * blocks_for(task.columns, 32);
      with_item(rows.dtype, [&](const auto* item) {
        using Item = std::remove_const_t<std::remove_pointer_t<decltype(item)>>;
        launch("sum_columns", columns_kernel<Item>, blocks_for(warps, kWarps), kThreads, 0, stream,
               task);
      });
      launch("add_blocks", add_blocks_kernel, blocks_for(task.columns, kThreads), kThreads, 0,
             stream, task);
    }
  });
  return downloaded(out, stream);
}

}  // namespace

SumRows::SumRows(const RowSource& x, const RowSource& y, bool normalise, std::int64_t memory,
                 const Stream& stream)
    : sources_{x, y},
      sets_(y.view().n > 0 ? 2 : 1),
      normalise_(normalise),
      part_bytes_(memory > 0 ? std::min(memory, kPartBytes) : kPartBytes),
      stream_(stream) {
  FASTGEN_CHECK(rows(0).n >= 1 && rows(0).d >= 1);
  FASTGEN_CHECK(sets_ == 1 || rows(1).d == rows(0).d);
}

SumSet SumRows::view(int set) const {
  return {rows(set), factor_[set].data(), spread_[set].data(), square_[set].data(),
          along_[set].data()};
}

bool SumRows::find() {
  for (int s = 0; s < sets_; ++s) {
    const std::int64_t n = rows(s).n;
    factor_[s] = DeviceBuffer<double>(n, stream_, "numbers of rows");
    square_[s] = DeviceBuffer<double>(n, stream_, "numbers of rows");
    along_[s] = DeviceBuffer<double>(n, stream_, "numbers of rows");
    spread_[s] = DeviceBuffer<float>(n, stream_, "numbers of rows");
  }
  if (normalise_) {
    // Unit vectors need no centre: float32 holds their squared distances to 2^-22.
    mean_.assign(static_cast<std::size_t>(rows(0).d), 0.0);
    data_.unit = 1.0;
    if (!find_norms()) return false;
  } else {
    find_centre();
  }
  find_numbers();
  return true;
}

bool SumRows::find_norms() {
  for (int s = 0; s < sets_; ++s) {
    each_part(sources_[s], part_bytes_, kMinBlockRows,
              [&](const RowView& part, std::int64_t begin) {
                with_item(part.dtype, [&](const auto* item) {
                  using Item = std::remove_const_t<std::remove_pointer_t<decltype(item)>>;
                  launch("row_norms", norms_kernel<Item>, blocks_for(part.n, kWarps), kThreads, 0,
                         stream_, part, factor_[s].data() + begin);
                });
              });
    const std::vector<double> factor = downloaded(factor_[s], stream_);
    const auto zero = std::find(factor.begin(), factor.end(), 0.0);
    if (zero != factor.end()) zero_row_[s] = zero - factor.begin();
    for (const double f : factor) out_of_range_ = out_of_range_ || f > 0x1p100 || f < 0x1p-100;
  }
  return zero_row_[0] < 0 && zero_row_[1] < 0;
}

// The mean of both sets, and a power of two that brings every |z| below 1.
void SumRows::find_centre() {
  const std::size_t d = static_cast<std::size_t>(rows(0).d);
  std::vector<double> sums[2];
  std::vector<double> low(d, std::numeric_limits<double>::infinity());
  std::vector<double> high(d, -std::numeric_limits<double>::infinity());
  double count = 0;
  for (int s = 0; s < sets_; ++s) {
    const std::vector<double> columns = column_numbers(sources_[s], part_bytes_, stream_);
    sums[s].assign(columns.begin(), columns.begin() + static_cast<std::ptrdiff_t>(d));
    for (std::size_t i = 0; i < d; ++i) {
      low[i] = std::min(low[i], columns[d + i]);
      high[i] = std::max(high[i], columns[2 * d + i]);
    }
    count += static_cast<double>(rows(s).n);
  }
  SumCentre centre = fastgen::find_centre(sums, sets_, low, high, count, 0);
  mean_ = std::move(centre.mean);
  data_.unit = centre.unit;
  out_of_range_ = centre.float64;
  for (int s = 0; s < sets_; ++s) {
    launch("fill", fill_kernel, blocks_for(rows(s).n, kThreads), kThreads, 0, stream_,
           factor_[s].data(), rows(s).n, data_.unit);
  }
}

void SumRows::find_numbers() {
  std::vector<double> centre(mean_.size());
  data_.centre_square = 0;
  for (std::size_t i = 0; i < centre.size(); ++i) {
    centre[i] = mean_[i] * data_.unit;
    data_.centre_square += centre[i] * centre[i];
  }
  centre_ = uploaded(centre, stream_, "the centre");
  data_.mean_square = 0;
  double count = 0;
  for (int s = 0; s < sets_; ++s) {
    each_part(sources_[s], part_bytes_, kMinBlockRows,
              [&](const RowView& part, std::int64_t begin) {
                const NumberTask task{part,
                                      factor_[s].data() + begin,
                                      centre_.data(),
                                      spread_[s].data() + begin,
                                      square_[s].data() + begin,
                                      along_[s].data() + begin};
                with_item(part.dtype, [&](const auto* item) {
                  using Item = std::remove_const_t<std::remove_pointer_t<decltype(item)>>;
                  launch("row_numbers", numbers_kernel<Item>, blocks_for(part.n, kWarps), kThreads,
                         0, stream_, task);
                });
              });
    const std::vector<double> squares = downloaded(square_[s], stream_);
    host_along_[s] = downloaded(along_[s], stream_);
    double sum = 0;
    for (std::size_t i = 0; i < squares.size(); ++i) {
      sum += squares[i];
      data_.peak_square[s] = std::max(data_.peak_square[s], squares[i]);
      data_.peak_along[s] = std::max(data_.peak_along[s], std::fabs(host_along_[s][i]));
    }
    data_.mean_square += sum;
    count += static_cast<double>(rows(s).n);
  }
  data_.mean_square /= count;
}

}  // namespace fastgen::cuda
