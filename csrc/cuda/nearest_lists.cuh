// Device functions of the nearest lists: keys and their bounds, and the exact list of an owner, which a
// warp keeps sorted.
#pragma once

#include <cfloat>
#include <cstdint>

#include "cuda/certificate.cuh"
#include "cuda/distance.cuh"
#include "cuda/nearest_lists.hpp"
#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"

namespace fastgen::cuda {

constexpr double kUp = 1 + 0x1p-40, kDown = 1 - 0x1p-40;
__device__ __forceinline__ float infinite() { return __int_as_float(0x7f800000); }

// Minus the squared ratio that decides; a point on the edge of a ball of radius 0 has ratio 1. NaN for NaN.
__device__ __forceinline__ double ratio_key(double sq_radius, double sq) {
  if (sq == 0 && !isnan(sq_radius)) return sq_radius > 0 ? -static_cast<double>(infinite()) : -1.0;
  return -__ddiv_rn(sq_radius, sq);
}

__device__ __forceinline__ double nearness_key(const Nearness& nearness, std::int32_t candidate,
                                               double sq) {
  return nearness.sq_radius ? ratio_key(nearness.sq_radius[candidate], sq) : sq;
}

// Upper and lower bounds on a key as floats. Those of ratios are never 0: thresholds are multiplied
// with infinite radii.
__device__ __forceinline__ float key_reach(const Nearness& nearness, double key) {
  if (!nearness.sq_radius) return __double2float_ru(__dmul_rn(key, nearness.sq_unit));
  if (key == 0) return infinite();
  return fmaxf(__double2float_ru(__dmul_rn(__ddiv_rn(-1.0, key), kUp)), FLT_MIN);
}
__device__ __forceinline__ float key_low(const Nearness& nearness, double key) {
  if (!nearness.sq_radius) return __double2float_rd(__dmul_rn(key, nearness.sq_unit));
  return __double2float_rd(__dmul_rn(__ddiv_rn(-1.0, key), kDown));
}

// Bounds in the lists' units from those on the squared distance; false: the candidate is left out.
__device__ __forceinline__ bool offer_bounds(const Nearness& nearness, std::int32_t candidate,
                                             const Interval& interval, Pending& offer) {
  double low = interval.low > 0 ? interval.low : 0.0, high = interval.high;
  if (nearness.sq_radius) {
    const double radius = nearness.sq_radius[candidate];
    // A radius of 0 has ratio 0 from everywhere else, which is where ratios begin.
    if (isnan(radius) || (radius == 0 && low > 0)) return false;
    const double sq = __dmul_rn(radius, nearness.sq_unit);
    if (sq < DBL_MIN || isinf(sq)) {  // scaled radii that under- or overflow say nothing
      low = 0.0;
      high = static_cast<double>(infinite());
    } else {
      low = __dmul_rn(__ddiv_rn(low, sq), kDown);
      high = __dmul_rn(__ddiv_rn(high, sq), kUp);
    }
  }
  offer.low = __double2float_rd(low);
  // Neither negative nor -0: bits are compared as integers.
  offer.high = __double2float_ru(high > 0 ? high : 0.0);
  offer.candidate = candidate;
  return true;
}

// Copies of a candidate as the owner counts them: its own group comes without itself.
__device__ __forceinline__ std::int32_t copies_for(const ListsView& lists, std::int64_t owner,
                                                   std::int32_t candidate) {
  if (lists.distinct) return 1;
  return lists.candidate_copies[candidate] - (lists.self && owner == candidate ? 1 : 0);
}

__device__ __forceinline__ bool precedes(double key, std::int32_t row, double other_key,
                                         std::int32_t other_row) {
  return key != other_key ? key < other_key : row < other_row;
}

// The exact list of one owner.
struct ExactList {
  double* key;
  std::int32_t* slot;
  std::int64_t count, most;  // at most k + 1

  __device__ ExactList(const ListsView& lists, std::int64_t owner)
      : key(lists.exact_key + owner * (lists.k + 1)),
        slot(lists.exact_slot + owner * (lists.k + 1)),
        count(lists.exact_count[owner]),
        most(lists.k + 1) {}

  // Merges one entry from each of the first `entries` lanes, by the whole warp. Every entry finds its
  // place by the number of listed ones before it, every listed one moves up by the number of new ones
  // before it, from the end so that nothing is overwritten unread.
  __device__ void merge(const ListsView& lists, double new_key, std::int32_t new_slot,
                        int entries) {
    const int lane = static_cast<int>(threadIdx.x) & 31;
    const bool mine = lane < entries;
    const std::int32_t new_row = mine ? lists.candidate_first[new_slot] : 0;
    std::int64_t place = 0;
    bool placed = false;
    const std::int64_t last = count > 0 ? (count - 1) / 32 * 32 : 0;
    for (std::int64_t base = last; base >= 0; base -= 32) {
      const std::int64_t i = base + lane;
      const bool exists = i < count;
      const double old_key = exists ? key[i] : 0.0;
      const std::int32_t old_slot = exists ? slot[i] : 0;
      const std::int32_t old_row = exists ? lists.candidate_first[old_slot] : 0;
      int shift = 0, before = 0;
      for (int e = 0; e < entries; ++e) {
        const double e_key = __shfl_sync(kWholeWarp, new_key, e);
        const std::int32_t e_row = __shfl_sync(kWholeWarp, new_row, e);
        if (base == last) place += precedes(e_key, e_row, new_key, new_row) ? 1 : 0;
        const bool moves = exists && precedes(e_key, e_row, old_key, old_row);
        const unsigned stay = __ballot_sync(kWholeWarp, exists && !moves);
        shift += moves ? 1 : 0;
        if (lane == e) before = __popc(stay);
      }
      if (!placed && before > 0) {
        place += base + before;
        placed = true;
      }
      __syncwarp();
      if (shift > 0 && i + shift < most) {
        key[i + shift] = old_key;
        slot[i + shift] = old_slot;
      }
      __syncwarp();
      if (!__any_sync(kWholeWarp, shift > 0)) break;  // nor does anything before
    }
    if (mine && place < most) {
      key[place] = new_key;
      slot[place] = new_slot;
    }
    count = count + entries < most ? count + entries : most;
    __syncwarp();
  }

  // Lowers `reach` to the key that completes k copies, if the list has them.
  __device__ float lowered(const ListsView& lists, std::int64_t owner, float reach) const {
    const int lane = static_cast<int>(threadIdx.x) & 31;
    std::int64_t last = -1;
    if (lists.distinct) {
      if (count >= lists.k) last = lists.k - 1;
    } else {
      std::int64_t covered = 0;
      for (std::int64_t base = 0; base < count && last < 0; base += 32) {
        const std::int64_t i = base + lane;
        const std::int32_t own = i < count ? copies_for(lists, owner, slot[i]) : 0;
        std::int64_t sum = own;
#pragma unroll
        for (int width = 1; width < 32; width *= 2) {
          const std::int64_t below = __shfl_up_sync(kWholeWarp, sum, width);
          if (lane >= width) sum += below;
        }
        const unsigned complete = __ballot_sync(kWholeWarp, i < count && covered + sum >= lists.k);
        if (complete != 0) last = base + __ffs(static_cast<int>(complete)) - 1;
        covered += __shfl_sync(kWholeWarp, sum, 31);
      }
    }
    return last < 0 ? reach : fminf(reach, key_reach(lists.nearness, key[last]));
  }
};

}  // namespace fastgen::cuda
