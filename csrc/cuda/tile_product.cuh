// The one main loop of all tile kernels: a tile of products of rows on tensor cores, from 128-byte
// slices of rows that stream through a ring in shared memory. Epilogues get the accumulators.
//
// A tile has 128 rows and 32 kN columns; 8 warps, 2 x 4, have 64 x 8 kN of it each. Which kN:
// shared memory gives 128 bytes a cycle. Per slice of 128 bytes a 128 x 128 tile (kN = 4) has 2.1 M int8
// products, 256 cycles of writes by the copies and 768 of reads by ldmatrix (3 KB per warp and 32
// bytes): 2048 products a cycle at most, half of an H100's tensor peak of 4096, of which mma.sync can use
// some 60 %; and at 45 % of the peak its 32 KB ask 29 bytes a cycle of an L2 that has 25 to 31. A
// 128 x 256 tile (kN = 8, warps of 64 x 64) has 4.2 M products for 384 + 1024 cycles: 2979 a cycle,
// 73 % of the peak, and 22 bytes a cycle of L2 at 45 %. It takes some 220 registers and 48 KB a slice,
// so one block per multiprocessor, and its fragments are loaded one step ahead. kN = 4 leaves room for two
// blocks in shared memory, but only kernels that keep within 128 registers can have them: the join does not.
// (float16 is the same in bytes, with half the products per byte and half the peak.)
#pragma once

#include <cstdint>

#include "cuda/ptx.cuh"

namespace fastgen::cuda {

constexpr int kTileThreads = 256;  // 8 warps, 2 x 4, each 64 rows x 8 kN columns
constexpr int kTileStages = 3;
constexpr int kSliceBytes = 128;  // of each row at a time

// Shared memory of a ring; free for the epilogue once `multiply_tile` has returned and the block has met.
template <int kN, int kStages = kTileStages>
constexpr std::int64_t kRingBytes = std::int64_t{kStages} * (128 + 32 * kN) * kSliceBytes;
constexpr std::int64_t kTileShared = kRingBytes<4>;

// Where accumulator [m][n][2 h + e] of a thread lies in the tile.
__device__ __forceinline__ int tile_row(int m, int h) {  // 0 <= m < 4, 0 <= h < 2
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  return 64 * (warp / 4) + 16 * m + 8 * h + lane / 4;
}
template <int kN = 4>
__device__ __forceinline__ int tile_column(int n, int e) {  // 0 <= n < kN, 0 <= e < 2
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  return 8 * kN * (warp % 4) + 8 * n + 2 * (lane % 4) + e;
}

// Planes of one side: rows at `stride` bytes (less than 2^24), 16-byte aligned, padded with zeros to a
// multiple of 128 bytes; the number of rows is a multiple of 128.
struct TileOperand {
  const void* planes[2];
  std::int64_t stride;
};

template <class Element>
struct TileSums;
template <>
struct TileSums<std::int8_t> {
  using Sum = std::int32_t;
};
template <>
struct TileSums<__half> {
  using Sum = float;
};
template <class Element>
using TileSum = typename TileSums<Element>::Sum;

// A block's ring of slices, kept filled ahead of the products, from one tile into the next.
//
// kPlanes 1: plane 0 . plane 0. kPlanes 2: planes (1, 0), then (0, 1), then (0, 0) into the same sums
// ("virtual K": small products first); for int8 the sums are divided by 254 before the last, to an
// integer at most 0.66 away. int32 holds 2 depth 127^2 up to depth 66,000.
//
// Slices keep their 128-byte rows; 16-byte chunk c of row r lies at place c ^ (r % 8), so that the 8 rows
// of an 8 x 16-byte matrix lie in different banks, written and read.
template <class Element, int kPlanes, int kN, int kStages = kTileStages>
class TileRing {
  static_assert(kPlanes == 1 || kPlanes == 2, "one plane or two");
  static_assert(kN == 4 || kN == 8, "128 or 256 columns");
  static_assert(kStages >= 2, "one slice is multiplied while another arrives");

 public:
  using Sum = TileSum<Element>;
  static constexpr int kColumns = 32 * kN;
  static constexpr int kSlotBytes = (128 + kColumns) * kSliceBytes;

  // `ring`: kRingBytes<kN, kStages> of shared memory, 128-byte aligned. `bytes` of each row, a multiple of
  // 128, are multiplied.
  __device__ __forceinline__ TileRing(const TileOperand& rows, const TileOperand& columns,
                                      std::int64_t bytes, const unsigned char* ring)
      : rows_(rows), columns_(columns), slices_(static_cast<int>(bytes / kSliceBytes)) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int row = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
    ring_ = shared_address(ring);
    copy_to_ = static_cast<std::uint32_t>(row * kSliceBytes + ((chunk ^ (row % 8)) << 4));
    // Lanes 0 to 15 of a load give rows 0 to 15 of the left operand, lanes 16 to 31 the same rows 16
    // bytes on; of the right one lanes 0 to 7, 8 to 15 are rows 0 to 7 and those 16 bytes on.
    const int left_row = 64 * (warp / 4) + lane % 16;
    const int right_row = 8 * kN * (warp % 4) + lane % 8 + lane / 16 * 8;
    left_ = static_cast<std::uint32_t>(left_row * kSliceBytes);
    right_ = static_cast<std::uint32_t>((128 + right_row) * kSliceBytes);
    left_chunk_ = static_cast<std::uint32_t>(((lane / 16) ^ (lane % 8)) << 4);
    right_chunk_ = static_cast<std::uint32_t>(((lane / 8 % 2) ^ (lane % 8)) << 4);
  }

  // Names the tile whose slices are loaded next. `wide` false: columns from 128 on do not exist, and
  // repeat the first ones.
  __device__ __forceinline__ void open(std::int64_t row0, std::int64_t column0, bool wide = true) {
    const int row = static_cast<int>(threadIdx.x) / 8, chunk = static_cast<int>(threadIdx.x) % 8;
    constexpr int kFirst = kPlanes - 1;
    next_rows_ = address_of(rows_.planes[kFirst]) + (row0 + row) * rows_.stride + chunk * 16;
    next_columns_ = address_of(columns_.planes[0]) + (column0 + row) * columns_.stride + chunk * 16;
    second_half_ = kN == 8 && wide ? static_cast<std::int32_t>(128 * columns_.stride) : 0;
    left_to_load_ = kPasses * slices_;
  }

  // Fills the ring. next(): the block's next tile, if there is one, is to be opened; called by all threads.
  // It may start copies of its own, which have arrived when `multiply` has returned.
  template <class Next>
  __device__ __forceinline__ void start(Next&& next) {
    ahead_ = min(kStages - 1, kPasses * slices_);  // at most one tile ahead
    load_slot_ = use_slot_ = 0;
    for (int i = 0; i < ahead_; ++i) fill(next);
  }

  // The products of the tile that was opened first and not multiplied yet. Barriers inside; on return the
  // slot of the last slice, `scratch()`, is free once the block has met, until the next call.
  template <class Next>
  __device__ __forceinline__ void multiply(Sum (&sum)[4][kN][4], Next&& next) {
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[m][n][i] = 0;
      }
    }
    Fragments fragments[kBuffers];
    const int total = kPasses * slices_;
    constexpr bool kDivide = kPlanes == 2 && sizeof(Element) == 1;
    int slice = 0;
#pragma unroll 1
    for (int until = kDivide ? 2 * slices_ : total;; until = total) {
      arrive(next);
      if constexpr (kBuffers == 2) load(fragments[0], 0);
#pragma unroll 1
      for (; slice < until; ++slice) multiply_slice(sum, fragments, slice + 1 < until, next);
      if (!kDivide || until == total) break;
      divide(sum);
      advance();
    }
    scratch_ = use_slot_;
    advance();
  }

  // Offset in the ring of kSlotBytes, as `multiply` says.
  __device__ __forceinline__ int scratch() const { return scratch_; }

 private:
  static constexpr int kPasses = kPlanes == 2 ? 3 : 1;
  // Where two blocks share a multiprocessor (kN = 4 in the density's screen) other warps hide the loads;
  // the join's narrow tiles have it for themselves, and go without.
  static constexpr int kBuffers = kN == 8 ? 2 : 1;

  struct Fragments {
    std::uint32_t left[4][4], right[kN / 2][4];
  };

  // Addresses as integers: a pass ends by going from one plane to the other.
  static __device__ __forceinline__ std::int64_t address_of(const void* pointer) {
    return reinterpret_cast<std::int64_t>(pointer);
  }
  static __device__ __forceinline__ const void* at(std::int64_t address) {
    return reinterpret_cast<const void*>(address);
  }
  __device__ __forceinline__ void begin_pass(int pass) {
    const std::int64_t row = std::int64_t{slices_} * kSliceBytes;
    const std::int64_t columns = address_of(columns_.planes[1]) - address_of(columns_.planes[0]);
    next_rows_ -= row;
    next_columns_ -= row;
    if (pass == 1) {
      next_rows_ += address_of(rows_.planes[0]) - address_of(rows_.planes[1]);
      next_columns_ += columns;
    } else {
      next_columns_ -= columns;
    }
  }

  // Asks for the next slice; one group of copies per call, empty where nothing is left.
  template <class Next>
  __device__ __forceinline__ void fill(Next&& next) {
    if (left_to_load_ == 0) next();
    if (left_to_load_ > 0) {
      const std::uint32_t to = ring_ + load_slot_ + copy_to_;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        copy_async_16(to + i * 32 * kSliceBytes, at(next_rows_ + i * 32 * rows_.stride));
      }
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        const std::int64_t from = next_columns_ + i % 4 * 32 * columns_.stride;
        copy_async_16(to + (128 + i * 32) * kSliceBytes, at(i < 4 ? from : from + second_half_));
      }
      next_rows_ += kSliceBytes;
      next_columns_ += kSliceBytes;
      --left_to_load_;
      if constexpr (kPlanes == 2) {
        if (left_to_load_ == 2 * slices_) begin_pass(1);
        if (left_to_load_ == slices_) begin_pass(2);
      }
    }
    copy_async_commit();
    load_slot_ = load_slot_ + kSlotBytes == kStages * kSlotBytes ? 0 : load_slot_ + kSlotBytes;
  }

  // Meets the block at the next slice; what it has left behind is filled anew.
  template <class Next>
  __device__ __forceinline__ void arrive(Next&& next) {
    if (kStages == 2 || ahead_ == 1) {
      copy_async_wait<0>();
    } else {
      copy_async_wait<kStages - 2>();
    }
    __syncthreads();
    fill(next);
  }
  __device__ __forceinline__ void advance() {
    use_slot_ = use_slot_ + kSlotBytes == kStages * kSlotBytes ? 0 : use_slot_ + kSlotBytes;
  }

  __device__ __forceinline__ void load(Fragments& to, int step) const {
    const std::uint32_t left = ring_ + use_slot_ + left_ + (left_chunk_ ^ (step << 5));
    const std::uint32_t right = ring_ + use_slot_ + right_ + (right_chunk_ ^ (step << 5));
#pragma unroll
    for (int m = 0; m < 4; ++m) load_matrices(to.left[m], left + m * 16 * kSliceBytes);
#pragma unroll
    for (int n = 0; n < kN / 2; ++n) load_matrices(to.right[n], right + n * 16 * kSliceBytes);
  }

  template <class Next>
  __device__ __forceinline__ void multiply_slice(Sum (&sum)[4][kN][4],
                                                 Fragments (&fragments)[kBuffers], bool more,
                                                 Next&& next) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      if constexpr (kBuffers == 2) {
        if (step < 3) {
          load(fragments[(step + 1) % 2], step + 1);
        } else if (more) {
          // The last fragments of this slice are in registers: the barrier and the next slice's first
          // loads go on under their products.
          advance();
          arrive(next);
          load(fragments[0], 0);
        }
      } else {
        load(fragments[0], step);
      }
      add_products(sum, fragments[step % kBuffers]);
    }
    if constexpr (kBuffers == 1) {
      if (more) {
        advance();
        arrive(next);
      }
    }
  }

  static __device__ __forceinline__ void add_products(Sum (&sum)[4][kN][4], const Fragments& with) {
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        multiply_add(sum[m][n], with.left[m], with.right[n / 2][n % 2 * 2],
                     with.right[n / 2][n % 2 * 2 + 1]);
      }
    }
  }

  // floor((sum + 127) 16909320 / 2^32): 16909320 is 2^32 / 254 - 0.315, so what is rounded down is off by
  // 0.158 at most. Two instructions a sum; the nearest integer takes seven.
  static __device__ __forceinline__ void divide(Sum (&sum)[4][kN][4]) {
#pragma unroll
    for (int m = 0; m < 4; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[m][n][i] = __mulhi(sum[m][n][i] + 127, 16909320);
        }
      }
    }
  }

  const TileOperand& rows_;
  const TileOperand& columns_;
  int slices_, ahead_ = 0, left_to_load_ = 0;
  int load_slot_ = 0, use_slot_ = 0, scratch_ = 0;
  std::uint32_t ring_, copy_to_, left_, right_, left_chunk_, right_chunk_;
  std::int32_t second_half_ = 0;
  std::int64_t next_rows_ = 0, next_columns_ = 0;
};

// One tile, from rows `row0` and columns `column0` on; the ring is at the start of the block's shared
// memory, which must not be in use. `rows` and `columns` should be kernel parameters. kN follows from
// `sum`: 4, or 8 for 256 columns.
template <class Element, int kPlanes, int kN>
__device__ __forceinline__ void multiply_tile(const TileOperand& rows, const TileOperand& columns,
                                              std::int64_t row0, std::int64_t column0,
                                              std::int64_t bytes,
                                              TileSum<Element> (&sum)[4][kN][4]) {
  TileRing<Element, kPlanes, kN> ring(rows, columns, bytes, shared_memory());
  const auto nothing_next = [] {};
  ring.open(row0, column0);
  ring.start(nothing_next);
  ring.multiply(sum, nothing_next);
}

}  // namespace fastgen::cuda
