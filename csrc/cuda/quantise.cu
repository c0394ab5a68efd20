// The kernel that quantises rows: a team of 1 to 8 warps a row, the row as float32 in shared memory
// (or, past 16,384 features, in scratch memory), the Walsh-Hadamard transform by sixteens of features
// in registers.
//
// What the bounds cover. Let w = (x - c) unit, N = |w| and z = R w, all exact; v is what the kernel has
// for z, u = 2^-24. w is computed in float64 (2^-53 of each feature; the unit is a power of two), and
// |z|^2 = |w|^2 by fused multiply-adds in float64, one chain a thread, then a tree: double_sum_error
// holds whatever the order. v differs from z by, each relative to N in norm because R's stages are
// orthogonal: u for w as float32, 2 u for the sign's size 1 / sqrt(block), which is rounded itself and
// its product, and u for each of at most 17 butterfly stages, whose sums are rounded feature by feature.
// Rows with N < 2^-20, or no feature of 2^-40, are quantised to zeros, so underflow adds at most
// sqrt(d) 2^-140. Hence |v - z| <= 20.1 u N.
//   One plane: r = v - s q is one fused operation a feature, exact but for u |r|. A thread adds at most
// K squares by fused operations, the rest is float64: the sum is off by (K + 2) u relative. So
//   |z - s q| <= sqrt(sum r^2) (1 + (K + 8) u) + 2^-19 N,         2^-19 = 32 u.
//   Two planes: 254 r is rounded (u |254 r|) and t = 254 r - s l fused (u |t|), so
//   |z - s (q + l / 254)| <= sqrt(sum t^2) / 254 (1 + (K + 8) u) + 2 u |r| + |v - z|,
// and |r| <= 1.01 N, rounding to the nearest level never being longer than v itself: 2^-19 N covers
// 22.2 u N with room for N's own 2^-35. Levels are added as integers, exactly: s |q| needs no more than
// the float64 rounding of a root and a product, 2^-50.
#include "cuda/quantise.hpp"

#include <algorithm>
#include <cmath>

#include "common/check.hpp"
#include "cuda/prepared.hpp"
#include "cuda/ptx.cuh"
#include "cuda/rotate.cuh"
#include "cuda/row_items.cuh"

namespace fastgen::cuda {
namespace {

constexpr int kMostSums = 5;  // that a team adds up at a time

// Shape of a problem beside the task.
struct Shape {
  int d, rotated, depth;  // features: given, rotated (a multiple of 64), stored (of 128)
  int block_bits;         // transforms are of 2^block_bits features
  // Neighbouring features go to different transforms: feature i to place i / blocks of transform
  // i % blocks. The quotient is the high word of i times `reciprocal`, 2^32 / blocks rounded up: exact,
  // as i < 2^17 and blocks < 2^12.
  unsigned blocks, reciprocal;
  float size;      // 1 / sqrt(2^block_bits)
  float* scratch;  // [grid, rotated], or null
};

// Sums of each value (the largest of the last) over the team; every thread gets the same bits. The team
// meets in here: what was written before may be read after, and the other way round.
template <int kWarps, int kCount, bool kLastIsMax>
__device__ __forceinline__ void combine(double (&value)[kCount], double* spare, int thread) {
#pragma unroll
  for (int v = 0; v < kCount; ++v) {
    const bool largest = kLastIsMax && v == kCount - 1;
#pragma unroll
    for (int offset = 16; offset >= 1; offset /= 2) {
      const double other = __shfl_xor_sync(0xffffffffu, value[v], offset);
      value[v] = largest ? (value[v] > other ? value[v] : other) : __dadd_rn(value[v], other);
    }
  }
  if (kWarps == 1) {
    __syncwarp();  // shuffles do not order memory
    return;
  }
  __syncthreads();  // the last values have been read
  if (thread % 32 == 0) {
#pragma unroll
    for (int v = 0; v < kCount; ++v) spare[thread / 32 * kCount + v] = value[v];
  }
  __syncthreads();
#pragma unroll
  for (int v = 0; v < kCount; ++v) {
    const bool largest = kLastIsMax && v == kCount - 1;
    value[v] = spare[v];
    for (int warp = 1; warp < kWarps; ++warp) {
      const double other = spare[warp * kCount + v];
      value[v] = largest ? (value[v] > other ? value[v] : other) : __dadd_rn(value[v], other);
    }
  }
}

// Writes R's input to `z`; this thread's share of the sum of squares. Four features at a time, so that
// their loads are in flight together.
template <int kStep, bool kInterleaved, class Item>
__device__ __forceinline__ double load_row(const Item* row, const double* centre,
                                           const QuantiseTask& task, const Shape& shape, float* z,
                                           int thread) {
  constexpr int kAhead = 4;
  double square = 0;
  for (int begin = thread; begin < shape.rotated; begin += kAhead * kStep) {
    const Item* items = row + begin;
    const double* origins = centre + begin;
    const std::uint32_t* words = task.flips + begin / 32;
    const int start = placed(begin);
    Item item[kAhead];
    double origin[kAhead];
    unsigned flips[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const bool inside = begin + a * kStep < shape.d;
      item[a] = inside ? __ldg(items + a * kStep) : Item(0);
      origin[a] = inside ? __ldg(origins + a * kStep) : 0.0;
      flips[a] = inside ? __ldg(words + a * kStep / 32) : 0u;
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int i = begin + a * kStep;
      const double w =
          __dmul_rn(__dsub_rn(static_cast<double>(number(item[a])), origin[a]), task.unit);
      square = __fma_rn(w, w, square);
      // The feature's bit becomes the sign's.
      const int sign = static_cast<int>(flips[a] << (31 - thread % 32) & 0x80000000u);
      const float value =
          __fmul_rn(__int_as_float(__float_as_int(__double2float_rn(w)) ^ sign), shape.size);
      int to = start ^ placed(a * kStep);  // a kStep are bits that `begin` has not
      if (kInterleaved) {
        const unsigned feature = static_cast<unsigned>(i);
        const unsigned quotient = __umulhi(feature, shape.reciprocal);
        to = placed(
            static_cast<int>(((feature - quotient * shape.blocks) << shape.block_bits) + quotient));
      }
      if (i < shape.rotated) z[to] = value;
    }
  }
  return square;
}

template <int kStep, class Item>
__device__ __forceinline__ double load_row(const Item* row, const double* centre,
                                           const QuantiseTask& task, const Shape& shape, float* z,
                                           int thread) {
  return shape.blocks == 1 ? load_row<kStep, false>(row, centre, task, shape, z, thread)
                           : load_row<kStep, true>(row, centre, task, shape, z, thread);
}

// A level as a float with its low byte as the level's: 1.5 * 2^23 more than the level.
constexpr float kLevelShift = 12582912.0f;
__device__ __forceinline__ float shifted_level(float value, float inverse) {
  return __fadd_rn(fminf(fmaxf(__fmul_rn(value, inverse), -127.0f), 127.0f), kLevelShift);
}
__device__ __forceinline__ float level_of(float shifted) { return __fsub_rn(shifted, kLevelShift); }
__device__ __forceinline__ int packed(const float (&shifted)[4]) {
  return (__float_as_int(shifted[0]) & 255) | (__float_as_int(shifted[1]) & 255) << 8 |
         (__float_as_int(shifted[2]) & 255) << 16 |
         static_cast<int>(static_cast<unsigned>(__float_as_int(shifted[3])) << 24);
}

__device__ __forceinline__ void load4(const float* z, int at, const Shape& shape,
                                      float (&value)[4]) {
  float4 four = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  if (at < shape.rotated) four = *reinterpret_cast<const float4*>(z + placed(at));
  value[0] = four.x;
  value[1] = four.y;
  value[2] = four.z;
  value[3] = four.w;
}

// Integers are held exactly.
struct Residuals {
  double residual, levels;                  // sum r^2, sum q^2
  double fine_residual, cross, low_levels;  // sum t^2, sum q l, sum l^2
};

template <int kWarps, bool kFine>
__device__ __forceinline__ Residuals quantise(const float* z, const Shape& shape, float step,
                                              std::int8_t* high, std::int8_t* low, double* spare,
                                              int thread) {
  const float inverse = 1.0f / step;
  float residual = 0, fine_residual = 0;
  int levels = 0, cross = 0, low_levels = 0;
  for (int at = 4 * thread; at < shape.depth; at += 128 * kWarps) {
    float value[4], shifted[4], low_shifted[4];
    load4(z, at, shape, value);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      shifted[j] = shifted_level(value[j], inverse);
      const float left = __fmaf_rn(-level_of(shifted[j]), step, value[j]);
      residual = __fmaf_rn(left, left, residual);
      if (kFine) {
        const float larger = __fmul_rn(left, 254.0f);
        low_shifted[j] = shifted_level(larger, inverse);
        const float rest = __fmaf_rn(-level_of(low_shifted[j]), step, larger);
        fine_residual = __fmaf_rn(rest, rest, fine_residual);
      }
    }
    const int q = packed(shifted);
    levels = __dp4a(q, q, levels);
    if (high != nullptr) *reinterpret_cast<int*>(high + at) = q;
    if (kFine) {
      const int l = packed(low_shifted);
      cross = __dp4a(q, l, cross);
      low_levels = __dp4a(l, l, low_levels);
      *reinterpret_cast<int*>(low + at) = l;
    }
  }
  Residuals sums{};
  if (kFine) {
    double total[5] = {static_cast<double>(residual), static_cast<double>(levels),
                       static_cast<double>(fine_residual), static_cast<double>(cross),
                       static_cast<double>(low_levels)};
    combine<kWarps, 5, false>(total, spare, thread);
    sums = {total[0], total[1], total[2], total[3], total[4]};
  } else {
    double total[2] = {static_cast<double>(residual), static_cast<double>(levels)};
    combine<kWarps, 2, false>(total, spare, thread);
    sums = {total[0], total[1], 0.0, 0.0, 0.0};
  }
  return sums;
}

struct Bounds {
  double scale, magnitude, error, square, fine_magnitude, fine_error, fine_low;
};

__device__ __forceinline__ void write_bounds(const QuantiseTask& task, std::int64_t slot,
                                             const Bounds& bounds) {
  if (task.high != nullptr) {
    task.scale[slot] = bounds.scale;
    task.magnitude[slot] = bounds.magnitude;
    task.error[slot] = bounds.error;
    task.square[slot] = bounds.square;
  }
  if (task.low != nullptr) {
    task.fine_magnitude[slot] = bounds.fine_magnitude;
    task.fine_error[slot] = bounds.fine_error;
    task.fine_low[slot] = bounds.fine_low;
  }
}

__device__ __forceinline__ void write_zeros(const QuantiseTask& task, const Shape& shape,
                                            std::int64_t slot, int thread, int step) {
  for (int at = 4 * thread; at < shape.depth; at += 4 * step) {
    if (task.high != nullptr) *reinterpret_cast<int*>(task.high + slot * shape.depth + at) = 0;
    if (task.low != nullptr) *reinterpret_cast<int*>(task.low + slot * shape.depth + at) = 0;
  }
}

template <int kWarps, int kMostBits>
__device__ __forceinline__ void quantise_slot(const QuantiseTask& task, const Shape& shape,
                                              std::int64_t slot, float* z, double* spare,
                                              int thread) {
  constexpr int kStep = 32 * kWarps;
  const std::int32_t row = task.first_row[slot], part = task.centre_of_tile[slot / kTileRows];
  if (row < 0 || part < 0) {
    write_zeros(task, shape, slot, thread, kStep);
    if (thread == 0) write_bounds(task, slot, Bounds{});
    return;
  }
  const double* centre = task.centres + static_cast<std::int64_t>(part) * shape.d;
  double first[2];  // the sum of squares, the largest magnitude
  if (task.rows.dtype == DType::float32) {
    first[0] = load_row<kStep>(items_of<float>(task.rows, row), centre, task, shape, z, thread);
  } else if (task.rows.dtype == DType::float16) {
    first[0] = load_row<kStep>(items_of<__half>(task.rows, row), centre, task, shape, z, thread);
  } else {
    first[0] = load_row<kStep>(items_of<double>(task.rows, row), centre, task, shape, z, thread);
  }
  meet<kWarps>();
  first_stages(z, shape.rotated, thread, kStep);
  first[1] = static_cast<double>(
      last_stages<kWarps, kMostBits>(z, shape.rotated, shape.block_bits, thread));
  combine<kWarps, 2, true>(first, spare, thread);
  const float largest = static_cast<float>(first[1]);
  Bounds bounds{};
  bounds.square = first[0];
  const double norm = __dsqrt_rn(bounds.square);
  // Rows below 2^-20 (2^-60 of the largest) stay out of float32's subnormals.
  if (!(norm >= 0x1p-20) || !(largest >= 0x1p-40f)) {
    write_zeros(task, shape, slot, thread, kStep);
    bounds.error = bounds.fine_error = norm * (1 + 0x1p-20);
    if (thread == 0) write_bounds(task, slot, bounds);
    return;
  }
  // The full range. Clipping the largest feature to a share c of it costs (1 - c)^2 of its square and saves
  // depth (1 - c^2) / (12 127^2): nothing below 15,000 features, little above, and the second plane could
  // not reach what was clipped.
  const float step = largest / 127.0f;
  std::int8_t* high = task.high == nullptr ? nullptr : task.high + slot * shape.depth;
  const double summing = 1 + ((shape.depth + 4 * kStep - 1) / (4 * kStep) * 4 + 8) * 0x1p-24,
               rounding = 0x1p-19 * norm;
  bounds.scale = static_cast<double>(step);
  Residuals sums;
  if (task.low == nullptr) {
    sums = quantise<kWarps, false>(z, shape, step, high, nullptr, spare, thread);
  } else {
    sums =
        quantise<kWarps, true>(z, shape, step, high, task.low + slot * shape.depth, spare, thread);
    const double both = 254.0 * 254.0 * sums.levels + 508.0 * sums.cross + sums.low_levels;
    bounds.fine_magnitude = bounds.scale * __dsqrt_rn(both) / 254.0 * (1 + 0x1p-50);
    bounds.fine_low = bounds.scale * __dsqrt_rn(sums.low_levels) / 254.0 * (1 + 0x1p-50);
    bounds.fine_error = __dsqrt_rn(sums.fine_residual) / 254.0 * summing + rounding;
  }
  bounds.magnitude = bounds.scale * __dsqrt_rn(sums.levels) * (1 + 0x1p-50);
  bounds.error = __dsqrt_rn(sums.residual) * summing + rounding;
  if (thread == 0) write_bounds(task, slot, bounds);
}

constexpr int kTeams = 4;  // teams of one warp to a block

template <int kWarps>
constexpr int kBlockThreads = 32 * (kWarps == 1 ? kTeams : kWarps);
// Blocks that a multiprocessor must have registers for.
template <int kWarps, bool kScratch>
constexpr int kResident = kScratch ? 1 : (kWarps <= 4 ? 7 : 3);

template <int kWarps, int kMostBits, bool kScratch>
__global__ void __launch_bounds__(kBlockThreads<kWarps>, kResident<kWarps, kScratch>)
    quantise_kernel(QuantiseTask task, Shape shape) {
  constexpr int kBlockTeams = kWarps == 1 ? kTeams : 1;
  const int thread = static_cast<int>(threadIdx.x) % (32 * kWarps);
  const int team = static_cast<int>(threadIdx.x) / (32 * kWarps);
  float* row = reinterpret_cast<float*>(shared_memory());
  double* spare = reinterpret_cast<double*>(row + (kScratch ? 0 : kBlockTeams * shape.rotated));
  float* z = kScratch ? shape.scratch + static_cast<std::int64_t>(blockIdx.x) * shape.rotated
                      : row + team * shape.rotated;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kBlockTeams;
  for (std::int64_t slot = static_cast<std::int64_t>(blockIdx.x) * kBlockTeams + team;
       slot < task.slots; slot += step) {
    quantise_slot<kWarps, kMostBits>(task, shape, slot, z, spare, thread);  // ends with `combine`
  }
}

template <int kWarps, int kMostBits, bool kScratch>
void launch_quantise(const QuantiseTask& task, const Shape& shape, std::int64_t most_blocks,
                     const Stream& stream) {
  constexpr int kBlockTeams = kWarps == 1 ? kTeams : 1;
  const std::int64_t shared = kWarps * kMostSums * static_cast<std::int64_t>(sizeof(double)) +
                              (kScratch ? 0 : kBlockTeams * std::int64_t{4} * shape.rotated);
  launch("quantise_rows", quantise_kernel<kWarps, kMostBits, kScratch>,
         std::min(most_blocks, task.slots / kBlockTeams), kBlockThreads<kWarps>, shared, stream,
         task, shape);
}

}  // namespace

std::int64_t quantised_depth(std::int64_t d) { return blocks_for(d, kTileDepth) * kTileDepth; }

std::vector<std::uint32_t> rotation_flips(const Rotation& rotation) {
  std::vector<std::uint32_t> flips(static_cast<std::size_t>(rotation.depth() / 32), 0u);
  for (std::int64_t j = 0; j < rotation.depth(); ++j) {
    const std::int64_t feature = rotation.source() ? rotation.source()[j] : j;
    if (feature >= 0 && rotation.signs()[j] < 0) flips[feature / 32] |= 1u << feature % 32;
  }
  return flips;
}

void quantise_rows(const QuantiseTask& task, const Rotation& rotation, const Stream& stream) {
  FASTGEN_CHECK(rotation.d() <= kMaxQuantisedFeatures && task.slots % kTileRows == 0);
  Shape shape{};
  shape.d = static_cast<int>(rotation.d());
  shape.rotated = static_cast<int>(rotation.depth());
  shape.depth = static_cast<int>(quantised_depth(rotation.d()));
  while (std::int64_t{1} << shape.block_bits < rotation.block()) ++shape.block_bits;
  shape.blocks = static_cast<unsigned>(rotation.depth() / rotation.block());
  shape.reciprocal = 0xffffffffu / shape.blocks + 1;  // unused where there is one transform
  shape.size = std::fabs(rotation.signs()[0]);
  // By features alone: a row's bits depend on its team's size.
  constexpr std::int64_t kMostBlocks = 0x7fffffff;
  if (shape.rotated <= 512) {
    launch_quantise<1, 9, false>(task, shape, kMostBlocks, stream);
  } else if (shape.rotated <= 4096) {
    launch_quantise<4, 12, false>(task, shape, kMostBlocks, stream);
  } else if (shape.rotated <= 16384) {
    launch_quantise<8, 14, false>(task, shape, kMostBlocks, stream);
  } else {
    const std::int64_t blocks =
        std::min<std::int64_t>(2 * multiprocessors(stream.device()), task.slots);
    const DeviceBuffer<float> scratch(blocks * shape.rotated, stream, "rotating rows");
    shape.scratch = scratch.data();
    launch_quantise<8, 17, true>(task, shape, blocks, stream);
  }
}

}  // namespace fastgen::cuda
