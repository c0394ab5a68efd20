// Forms w' K w for many vectors w of labels +-1: a tile's kernel values times the labels of its columns on
// tensor cores, then times those of its rows.
//
// Values are the left operand as they lie in the threads; 8 vectors at a time are the right one. In float32
// values are split into float16 hi + lo, each row by a power of two of its own, and labels are exact: what is
// lost, 2^-22 of the largest of 32 values, is about what adding them in float32 loses.
#pragma once

#include <cstdint>

#include "cuda/slice_ring.cuh"
#include "cuda/sum_limbs.cuh"
#include "cuda/sum_stash.cuh"
#include "cuda/sum_tiles.hpp"

namespace fastgen::cuda {

// Shared memory behind the ring: a float per row of a run of every warp.
constexpr std::int64_t kFormBytes = kSumThreads / 32 * kSumRun * 4;

__device__ __forceinline__ std::uint32_t as_word(__half low, __half high) {
  return static_cast<std::uint32_t>(__half_as_ushort(low)) |
         static_cast<std::uint32_t>(__half_as_ushort(high)) << 16;
}

// The bytes of two labels as float16 numbers.
__device__ __forceinline__ std::uint32_t label_pair(const std::int8_t* labels) {
  const std::uint32_t both = *reinterpret_cast<const std::uint16_t*>(labels);
  return 0x3c003c00u | (both & 0x80u) << 8 | (both & 0x8000u) << 16;
}

// Takes the sums over one run of rows, by label 2 (lane % 4) + e from `first` on, to the totals.
template <class Real>
__device__ __forceinline__ void add_form_sums(const SumTask<Real>& task, int k, int first,
                                              double (&sums)[2], double weight, double scale) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int e = 0; e < 2; ++e) {
#pragma unroll
    for (int width = 4; width <= 16; width *= 2) sums[e] = add_lanes(sums[e], width);
    const int label = first + 2 * lane + e;
    if (lane >= 4 || label >= task.label_count) continue;
    const std::int64_t to = std::int64_t{k} * task.label_count + label;
    add_limbs(weight * sums[e], scale, task.totals.form_high + to, task.totals.form_low + to);
  }
}

template <class Real>
__device__ __forceinline__ const std::int8_t* labels_of(const SumTask<Real>& task, int label,
                                                        std::int64_t slot) {
  return task.labels + min(label, task.label_count - 1) * task.slots + slot;
}

// A run of rows from row r0 of every thread on, whose values are in the stash.
__device__ __forceinline__ void add_forms(const SumTask<float>& task, const SumBlock& rows,
                                          const SumBlock& columns, int k, int r0, double weight,
                                          double scale, const Stash<float>& stash) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float* row_scale = reinterpret_cast<float*>(shared_memory() + kSumRingBytes) +
                     static_cast<int>(threadIdx.x) / 32 * kSumRun + lane / 4;
#pragma unroll 1
  for (int i = 0; i < 4; ++i) {
    float values[8], largest = 0;
    stash.load(r0 + i, values);
#pragma unroll
    for (int c = 0; c < 8; ++c) largest = fmaxf(largest, fabsf(values[c]));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
    // Below 2^15 times a power of two; values below 2^-107 count as that.
    const int exponent = max(__float_as_int(largest) >> 23, 20);
    const float up = __int_as_float((268 - exponent) << 23);
    std::uint32_t words[8];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float a = values[2 * n] * up, b = values[2 * n + 1] * up;
      const __half high_a = __float2half_rn(a), high_b = __float2half_rn(b);
      words[n] = as_word(high_a, high_b);
      words[n + 4] = as_word(__float2half_rn(__fsub_rn(a, __half2float(high_a))),
                             __float2half_rn(__fsub_rn(b, __half2float(high_b))));
    }
#pragma unroll
    for (int c = 0; c < 8; ++c) values[c] = __int_as_float(static_cast<int>(words[c]));
    stash.store(r0 + i, values);
    if (lane % 4 == 0) row_scale[8 * i] = __int_as_float((exponent - 14) << 23);
  }
  __syncwarp();

#pragma unroll 1
  for (int first = 0; first < task.label_count; first += 8) {
    std::uint32_t right[4];
    const std::int8_t* column_labels =
        labels_of(task, first + lane / 4, columns.begin + sum_column(0, 0));
#pragma unroll
    for (int n = 0; n < 4; ++n) right[n] = label_pair(column_labels + 8 * n);
    double sums[2] = {0, 0};
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      float upper[8], lower[8], products[4] = {0, 0, 0, 0};
      stash.load(r0 + 2 * m, upper);
      stash.load(r0 + 2 * m + 1, lower);
#pragma unroll
      for (int part = 1; part >= 0; --part) {  // lo before hi
#pragma unroll
        for (int n = 0; n < 4; n += 2) {
          const int word = 4 * part + n;
          const std::uint32_t left[4] = {
              static_cast<std::uint32_t>(__float_as_int(upper[word])),
              static_cast<std::uint32_t>(__float_as_int(lower[word])),
              static_cast<std::uint32_t>(__float_as_int(upper[word + 1])),
              static_cast<std::uint32_t>(__float_as_int(lower[word + 1]))};
          multiply_add(products, left, right[n], right[n + 1]);
        }
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float down = row_scale[8 * (2 * m + h)];
        const std::int64_t slot = rows.begin + sum_row(r0 + 2 * m + h);
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const bool minus = *labels_of(task, first + lane % 4 * 2 + e, slot) < 0;
          const double sum = static_cast<double>(products[2 * h + e] * down);
          sums[e] = __dadd_rn(sums[e], minus ? -sum : sum);
        }
      }
    }
    add_form_sums(task, k, first, sums, weight, scale);
  }
  __syncwarp();  // before the scales of the next run
}

__device__ __forceinline__ void add_forms(const SumTask<double>& task, const SumBlock& rows,
                                          const SumBlock& columns, int k, int r0, double weight,
                                          double scale, const Stash<double>& stash) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  for (int first = 0; first < task.label_count; first += 8) {
    double right[8];
    const std::int8_t* column_labels =
        labels_of(task, first + lane / 4, columns.begin + sum_column(0, 0));
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      right[c] = static_cast<double>(static_cast<int>(column_labels[c / 2 * 8 + c % 2]));
    }
    double sums[2] = {0, 0};
#pragma unroll 1
    for (int i = 0; i < 4; ++i) {
      double values[8], products[2] = {0, 0};
      stash.load(r0 + i, values);
#pragma unroll
      for (int c = 0; c < 8; ++c) multiply_add(products, values[c], right[c]);
      const std::int64_t slot = rows.begin + sum_row(r0 + i);
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const bool minus = *labels_of(task, first + lane % 4 * 2 + e, slot) < 0;
        sums[e] = __dadd_rn(sums[e], minus ? -products[e] : products[e]);
      }
    }
    add_form_sums(task, k, first, sums, weight, scale);
  }
}

}  // namespace fastgen::cuda
