#include "cuda/split_rows.hpp"

#include "common/limbs.hpp"
#include "cuda/row_items.cuh"
#include "cuda/sum_limbs.cuh"

namespace fastgen::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

__device__ __forceinline__ const SumSet& set_of(const SlotRows& slots, std::int64_t slot) {
  return slots.sets[slot % slots.subset_slots >= slots.second_set ? 1 : 0];
}

// The exponent of two that brings a norm into [2^13, 2^14), at most 110: smaller rows do not matter beside
// others, whose norms are about 1.
__device__ __forceinline__ int lift_of(double square) {
  const int exponent = static_cast<int>(__double_as_longlong(square) >> 52 & 2047) - 1022;
  return min(14 - ((exponent + 1) >> 1), 110);
}

__device__ __forceinline__ void store_slice(unsigned char* slice, int lane, double value, float) {
  const __half high = __double2half(value);
  __half* to = reinterpret_cast<__half*>(slice) + lane;
  to[0] = high;
  to[32] = __double2half(__dsub_rn(value, static_cast<double>(__half2float(high))));
}
__device__ __forceinline__ void store_slice(unsigned char* slice, int lane, double value, double) {
  reinterpret_cast<double*>(slice)[lane] = value;
}

template <class Real>
struct PackTask {
  SlotRows slots;
  const double* centre;
  std::int64_t begin, count, slices;
  unsigned char* out;
};

// kFeatures lanes of a warp have a slice at a time.
template <class Real, class Item>
__device__ __forceinline__ void pack_row(const PackTask<Real>& task, const SumSet& set,
                                         std::int64_t row, std::int64_t place, unsigned char* out) {
  constexpr int kFeatures = static_cast<int>(kSliceFeatures<Real>), kSlices = 32 / kFeatures;
  const Item* x = items_of<Item>(set.rows, place);
  const int lane = static_cast<int>(threadIdx.x % 32);
  const double factor = set.factor[row];
  double spread = static_cast<double>(set.spread[row]);
  if (sizeof(Real) == 4) spread = __dmul_rn(spread, power_of_two(lift_of(set.square[row])));
#pragma unroll 4
  for (std::int64_t slice = lane / kFeatures; slice < task.slices; slice += kSlices) {
    const std::int64_t i = slice * kFeatures + lane % kFeatures;
    double z = 0;
    if (i < set.rows.d) {
      z = __dsub_rn(__dmul_rn(static_cast<double>(number(x[i])), factor), task.centre[i]);
    }
    store_slice(out + slice * kSumSliceBytes, lane % kFeatures, __dmul_rn(z, spread), Real());
  }
}

template <class Real>
__global__ void __launch_bounds__(kThreads) pack_kernel(PackTask<Real> task) {
  const std::int64_t place = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (place >= task.count + kSumTile) return;
  unsigned char* out = task.out + place * task.slices * kSumSliceBytes;
  const std::int64_t slot = task.begin + place;
  const std::int64_t row = place < task.count ? task.slots.row[slot] : -1;
  if (row < 0) {
    const uint4 zero = make_uint4(0, 0, 0, 0);
    for (std::int64_t i = threadIdx.x % 32; i < task.slices * 8; i += 32) {
      reinterpret_cast<uint4*>(out)[i] = zero;
    }
    return;
  }
  const SumSet& set = set_of(task.slots, slot);
  const std::int64_t source = task.slots.place[slot];
  if (set.rows.dtype == DType::float32) {
    pack_row<Real, float>(task, set, row, source, out);
  } else if (set.rows.dtype == DType::float16) {
    pack_row<Real, __half>(task, set, row, source, out);
  } else {
    pack_row<Real, double>(task, set, row, source, out);
  }
}

template <class Real>
struct SlotTask {
  SlotRows slots;
  std::int64_t count;
  Real *unspread, *square, *along;
};

template <class Real>
__global__ void __launch_bounds__(kThreads) slots_kernel(SlotTask<Real> task) {
  const std::int64_t slot = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (slot >= task.count + kSumTile) return;
  const std::int64_t row = slot < task.count ? task.slots.row[slot] : -1;
  Real unspread = 0, square = 0, along = 0;
  if (row >= 0) {
    const SumSet& set = set_of(task.slots, slot);
    unspread = Real(1) / static_cast<Real>(set.spread[row]);
    if (sizeof(Real) == 4) unspread *= static_cast<Real>(power_of_two(-lift_of(set.square[row])));
    square = static_cast<Real>(set.square[row]);
    along = static_cast<Real>(set.along[row]);
  }
  task.unspread[slot] = unspread;
  task.square[slot] = square;
  task.along[slot] = along;
}

// No less than term_bound, but for roundings; without functions whose last bits GPUs might differ in.
__device__ __forceinline__ double bound_of(const SumTerm& term, double norm, double along,
                                           double other_norm, double other_along) {
  constexpr double kRounding = 1.01;
  const double reach = __dadd_rn(norm, other_norm);
  if (term.shape == Shape::polynomial) {
    const double inner = __dmul_rn(__dmul_rn(norm, other_norm), kRounding);
    const double parts = __dadd_rn(__dadd_rn(fabs(along), other_along), inner);
    const double base = __dadd_rn(fabs(term.offset), __dmul_rn(term.scale, parts));
    double bound = 4 * kRounding;
    for (int p = 0; p < term.degree; ++p) bound = __dmul_rn(bound, base);
    return bound;
  }
  if (term.shape == Shape::energy) return __dmul_rn(-term.scale, __dmul_rn(reach, kRounding));
  if (!term.less_one) return 1.0;
  double decay = __dmul_rn(fabs(term.scale), reach);
  if (term.shape != Shape::laplacian) decay = __dmul_rn(decay, reach);
  // log(1 + t) <= t
  if (term.shape == Shape::rational_quadratic) decay = __dmul_rn(decay, term.exponent);
  return fmin(1.0, __dmul_rn(decay, kRounding));
}

// Four blocks: left to itself nvcc 13.0 keeps to 32 registers on sm_100, and spills.
__global__ void __launch_bounds__(kThreads, 4) grids_kernel(GridTask task) {
  const std::int64_t slot = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (slot >= task.count) return;
  const std::int64_t row = task.slots.row[slot];
  for (int k = 0; k < task.kernel_count; ++k) {
    int exponent = 0;
    if (row >= 0) {
      const SumSet& set = set_of(task.slots, slot);
      const double norm = __dsqrt_rn(set.square[row]), along = set.along[row];
      const SumKernel& kernel = task.kernels[k];
      double largest = 0;
      for (int other = 0; other < task.sets; ++other) {
        const double peak = __dsqrt_rn(task.data.peak_square[other]);
        double bound = 0;
        for (int t = 0; t < kernel.term_count; ++t) {
          bound = __dadd_rn(bound, bound_of(task.terms[kernel.first_term + t], norm, along, peak,
                                            task.data.peak_along[other]));
        }
        largest = fmax(largest, bound);
      }
      // Runs of kSumRun values come to 2^36 units of the grid at most.
      const int above =
          static_cast<int>(__double_as_longlong(largest * (2.0 * kSumRun)) >> 52 & 2047) - 1022;
      if (largest > 0) exponent = min(kLimbBits - above, 1000);
    }
    task.exponent[k * task.stride + slot] = static_cast<std::int16_t>(exponent);
  }
}

__global__ void __launch_bounds__(kThreads)
    carry_kernel(Limb* high, Limb* low, std::int64_t count) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const long long all = static_cast<long long>(low[i]);
  high[i] += static_cast<Limb>(all >> kLimbBits);
  low[i] = static_cast<Limb>(all & ((1ll << kLimbBits) - 1));
}

}  // namespace

template <class Real>
void pack_slots(const SlotRows& slots, const double* centre, std::int64_t begin, std::int64_t count,
                unsigned char* out, const Stream& stream) {
  const std::int64_t slices = blocks_for(slots.sets[0].rows.d, kSliceFeatures<Real>);
  const PackTask<Real> task{slots, centre, begin, count, slices, out};
  launch("pack_rows", pack_kernel<Real>, blocks_for(count + kSumTile, kWarps), kThreads, 0, stream,
         task);
}
template void pack_slots<float>(const SlotRows&, const double*, std::int64_t, std::int64_t,
                                unsigned char*, const Stream&);
template void pack_slots<double>(const SlotRows&, const double*, std::int64_t, std::int64_t,
                                 unsigned char*, const Stream&);

template <class Real>
void slot_numbers(const SlotRows& slots, std::int64_t count, Real* unspread, Real* square,
                  Real* along, const Stream& stream) {
  const SlotTask<Real> task{slots, count, unspread, square, along};
  launch("slot_numbers", slots_kernel<Real>, blocks_for(count + kSumTile, kThreads), kThreads, 0,
         stream, task);
}
template void slot_numbers<float>(const SlotRows&, std::int64_t, float*, float*, float*,
                                  const Stream&);
template void slot_numbers<double>(const SlotRows&, std::int64_t, double*, double*, double*,
                                   const Stream&);

void slot_grids(const GridTask& task, const Stream& stream) {
  launch("slot_grids", grids_kernel, blocks_for(task.count, kThreads), kThreads, 0, stream, task);
}

void carry_limbs(Limb* high, Limb* low, std::int64_t count, const Stream& stream) {
  launch("carry_limbs", carry_kernel, blocks_for(count, kThreads), kThreads, 0, stream, high, low,
         count);
}

}  // namespace fastgen::cuda
