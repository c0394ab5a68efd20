// Kernels of the nearest lists: hits are dealt to owners, reaches lowered, full lists looked at.
#include "cuda/nearest_lists.hpp"

#include <algorithm>
#include <cmath>

#include "common/check.hpp"
#include "cuda/nearest_lists.cuh"

namespace fastgen::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kMostCapacity = 256;
constexpr int kLookThreads = 128;  // blocks end with their slowest warp: few warps each
// Of a launch, in float64: 20 ms at an H100's rate, 0.7 s where it is a 64th of that of float32.
constexpr std::int64_t kLookInstructions = std::int64_t{1} << 38;

// Hits to deal: all of them, or those in `again` (twice the hit's number, plus 1 for an offer to y).
struct Work {
  std::int64_t count;
  const std::uint32_t* again;
  unsigned owners;
  std::uint32_t* left_over;

  __device__ std::int64_t hit(std::int64_t i) const { return again ? again[i] >> 1 : i; }
  __device__ unsigned sides(std::int64_t i) const { return again ? 1u << (again[i] & 1u) : owners; }
};

__global__ __launch_bounds__(kThreads) void begin_lists(ListsView lists, bool add_copies,
                                                        bool ties) {
  const std::int64_t owner = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (owner >= lists.owners) return;
  lists.pending_count[owner] = lists.tight_count[owner] = 0;
  const bool real = lists.owner_first[owner] >= 0;
  const std::int32_t copies = lists.self && real ? lists.owner_copies[owner] - 1 : 0;
  const bool known = add_copies && copies > 0;
  if (known) {
    lists.exact_key[owner * (lists.k + 1)] = 0.0;
    lists.exact_slot[owner * (lists.k + 1)] = static_cast<std::int32_t>(owner);
  }
  lists.exact_count[owner] = known ? 1 : 0;
  float reach = real ? infinite() : -infinite();
  if (real && copies >= lists.k) reach = ties ? 0.0f : -infinite();
  lists.reach[owner] = reach;
}

// Lowers and returns a reach. Floats of at least 0 are ordered like their bits; -infinity is below all.
__device__ __forceinline__ float lower(float* reach, float value) {
  const int before = atomicMin(reinterpret_cast<int*>(reach), __float_as_int(value));
  return fminf(__int_as_float(before), value);
}

__device__ __forceinline__ void give(const ListsView& lists, std::int64_t owner, float reach,
                                     const Pending& offer, const Work& work, std::uint32_t code) {
  if (!(offer.low <= reach)) return;
  const std::int32_t place = atomicAdd(lists.pending_count + owner, 1);
  if (place < lists.capacity) {
    lists.pending[owner * lists.capacity + place] = offer;
  } else {
    work.left_over[atomicAdd(&lists.counters->left_over, 1ull)] = code;
  }
}

// One thread a hit. `only_lower`: no offers yet; for k = 1, where every upper bound is a reach.
__global__ __launch_bounds__(kThreads) void deal_hits(JoinView join, const Hit* hits, Work work,
                                                      ListsView lists, bool only_lower) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= work.count) return;
  const std::int64_t number = work.hit(i);
  const unsigned sides = work.sides(i);
  const Hit hit = hits[number];
  const Interval interval = pair_interval(join, hit);
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    if ((sides >> side & 1u) == 0) continue;
    const std::int32_t owner = side == 0 ? hit.x : hit.y, candidate = side == 0 ? hit.y : hit.x;
    Pending offer;
    if (!offer_bounds(lists.nearness, candidate, interval, offer)) continue;
    if (only_lower) {
      lower(lists.reach + owner, offer.high);
    } else {
      give(lists, owner, lists.reach[owner], offer, work,
           static_cast<std::uint32_t>(2 * number + side));
    }
  }
}

// A hit a lane, where there are no bounds: the key itself is offered, and bounds the reach.
__global__ __launch_bounds__(kThreads, 2) void deal_exact_hits(RowView x, RowView y,
                                                               const std::int32_t* x_first,
                                                               const std::int32_t* y_first,
                                                               const Hit* hits, Work work,
                                                               ListsView lists) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const bool exists = i < work.count;
  const std::int64_t number = exists ? work.hit(i) : 0;
  const Hit hit = exists ? hits[number] : Hit{};
  const double sq =
      warp_sq_distances_of_lanes(x, exists ? x_first[hit.x] : 0, y, exists ? y_first[hit.y] : 0,
                                 __popc(__ballot_sync(kWholeWarp, exists)));
  const unsigned sides = exists ? work.sides(i) : 0;
#pragma unroll
  for (int side = 0; side < 2; ++side) {
    if ((sides >> side & 1u) == 0) continue;
    const std::int32_t owner = side == 0 ? hit.x : hit.y, candidate = side == 0 ? hit.y : hit.x;
    const double key = nearness_key(lists.nearness, candidate, sq);
    // A ratio of 0 is where ratios begin; one of NaN belongs to a candidate that is left out.
    if (lists.nearness.sq_radius && !(key < 0)) continue;
    const Pending offer{key_low(lists.nearness, key), key_reach(lists.nearness, key), candidate};
    float* const at = lists.reach + owner;
    const float reach = lists.k == 1 ? lower(at, offer.high) : *at;
    give(lists, owner, reach, offer, work, static_cast<std::uint32_t>(2 * number + side));
  }
}

// The k-th smallest upper bound over pending and exact candidates, as bits: the largest number such
// that fewer than k copies lie below it. One warp an owner, a candidate of each 32 to a lane.
__device__ __forceinline__ float least_reach(const ListsView& lists, std::int64_t owner,
                                             std::int32_t count, float reach) {
  constexpr int kEach = kMostCapacity / 32;
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const ExactList exact(lists, owner);
  int high[kEach];
  std::int32_t copies[kEach];
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const int i = 32 * e + lane;
    high[e] = 0x7fffffff;
    copies[e] = 0;
    if (32 * e < count && i < count) {
      const Pending& p = lists.pending[owner * lists.capacity + i];
      high[e] = __float_as_int(p.high);
      copies[e] = copies_for(lists, owner, p.candidate);
    }
  }
  // Copies with bounds below `bits`, over the warp. Exact lists are sorted, so most end early.
  const auto below = [&](int bits) {
    std::int32_t sum = 0;
    const auto add = [&](bool is_below, std::int32_t number) {
      if (lists.distinct) {
        sum += __popc(__ballot_sync(kWholeWarp, is_below));
      } else if (is_below) {
        sum += number;
      }
    };
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (32 * e < count) add(high[e] < bits, copies[e]);
    }
    for (std::int64_t base = 0; base < exact.count; base += 32) {
      const std::int64_t i = base + lane;
      const bool is_below =
          i < exact.count && __float_as_int(key_reach(lists.nearness, exact.key[i])) < bits;
      add(is_below, is_below ? copies_for(lists, owner, exact.slot[i]) : 0);
      if (!__any_sync(kWholeWarp, is_below)) break;
    }
    return lists.distinct ? sum : warp_sum(sum);
  };
  if (below(__float_as_int(reach)) < lists.k) return reach;
  int found = 0;
  for (int bit = 30; bit >= 0; --bit) {
    if (below(found | 1 << bit) < lists.k) found |= 1 << bit;
  }
  return fminf(reach, __int_as_float(found));
}

// Lowers reaches and drops pending candidates that are out of reach; one warp an owner.
__global__ __launch_bounds__(kThreads, 3) void tighten_lists(ListsView lists) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const std::int64_t warp = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  const std::int64_t warps = std::int64_t{gridDim.x} * blockDim.x / 32;
  unsigned long long waiting = 0;
  for (std::int64_t owner = warp; owner < lists.owners; owner += warps) {
    const std::int32_t offered = lists.pending_count[owner];
    if (offered == 0) continue;
    // Nothing new: the same candidates would give the same reach. (That of k = 1 has been lowered.)
    if (lists.k > 1 && offered == lists.tight_count[owner]) {
      waiting += static_cast<unsigned long long>(offered);
      continue;
    }
    const std::int32_t count = offered < lists.capacity ? offered : lists.capacity;
    float reach = lists.reach[owner];
    if (lists.k > 1) reach = least_reach(lists, owner, count, reach);
    Pending* pending = lists.pending + owner * lists.capacity;
    std::int32_t kept = 0;
    for (std::int32_t base = 0; base < count; base += 32) {
      const bool exists = base + lane < count;
      const Pending p = exists ? pending[base + lane] : Pending{};
      const bool keep = exists && p.low <= reach;
      const unsigned keeping = __ballot_sync(kWholeWarp, keep);
      __syncwarp();  // read before it is overwritten
      if (keep) pending[kept + __popc(keeping & ((1u << lane) - 1u))] = p;
      kept += __popc(keeping);
      __syncwarp();
    }
    if (lane == 0) {
      lists.reach[owner] = reach;
      lists.pending_count[owner] = lists.tight_count[owner] = kept;
    }
    waiting += static_cast<unsigned long long>(kept);
  }
  if (lane == 0 && waiting != 0) atomicAdd(&lists.counters->waiting, waiting);
}

// Sorts `size` (a power of two) items in shared memory, by one warp.
__device__ __forceinline__ void warp_sort(unsigned long long* items, int size) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  for (int run = 2; run <= size; run *= 2) {
    for (int stride = run / 2; stride > 0; stride /= 2) {
      for (int i = lane; i < size / 2; i += 32) {
        const int low = 2 * i - (i & (stride - 1)), high = low + stride;
        const unsigned long long a = items[low], b = items[high];
        if ((a > b) == ((low & run) == 0)) {
          items[low] = b;
          items[high] = a;
        }
      }
      __syncwarp();
    }
  }
}

// Exact looks at pending candidates, one warp an owner with at least `at_least` of them. Nearest first:
// the reach shrinks soonest, and the rest may need no look at all.
__global__ __launch_bounds__(kLookThreads,
                             5) void look_at_pending(ListsView lists, std::int64_t begin,
                                                     std::int64_t end, std::int32_t at_least) {
  const int lane = static_cast<int>(threadIdx.x) & 31;
  const std::int64_t owner = begin + (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 32;
  if (owner >= end) return;
  const std::int32_t offered = lists.pending_count[owner];
  if (offered < at_least) return;
  const std::int32_t count = offered < lists.capacity ? offered : lists.capacity;
  unsigned long long* items =
      reinterpret_cast<unsigned long long*>(shared_memory()) + threadIdx.x / 32 * kMostCapacity;
  const Pending* pending = lists.pending + owner * lists.capacity;
  float reach = lists.reach[owner];

  int kept = 0;
  for (std::int32_t base = 0; base < count; base += 32) {
    const bool exists = base + lane < count;
    const Pending p = exists ? pending[base + lane] : Pending{};
    const bool keep = exists && p.low <= reach;
    const unsigned keeping = __ballot_sync(kWholeWarp, keep);
    if (keep) {
      items[kept + __popc(keeping & ((1u << lane) - 1u))] =
          static_cast<unsigned long long>(__float_as_int(p.low)) << 32 |
          static_cast<unsigned>(p.candidate);
    }
    kept += __popc(keeping);
  }
  int size = 32;
  while (size < kept) size *= 2;
  for (int i = kept + lane; i < size; i += 32) items[i] = ~0ull;
  __syncwarp();
  warp_sort(items, size);

  // k of them at least before the reach can shrink; merging takes as long whatever their number.
  const int batch = lists.k >= 32 ? 32 : lists.k <= 8 ? 8 : (static_cast<int>(lists.k) + 3) / 4 * 4;
  ExactList exact(lists, owner);
  const std::int32_t from = lists.owner_first[owner];
  int looked = 0;
  for (int first = 0; first < kept; first += batch) {
    const int i = first + lane;
    const bool exists = lane < batch && i < kept;
    const unsigned long long item = exists ? items[i] : 0;
    const std::int32_t candidate = static_cast<std::int32_t>(static_cast<std::uint32_t>(item));
    const bool wanted = exists && __int_as_float(static_cast<int>(item >> 32)) <= reach;
    const int entries = __popc(__ballot_sync(kWholeWarp, wanted));  // sorted: the first lanes
    if (entries == 0) break;
    const std::int32_t candidate_row = wanted ? lists.candidate_first[candidate] : 0;
    double key = warp_sq_distances_of_lanes(lists.owner_rows, from, lists.candidate_rows,
                                            candidate_row, entries);
    if (wanted) key = nearness_key(lists.nearness, candidate, key);
    exact.merge(lists, key, candidate, entries);
    reach = exact.lowered(lists, owner, reach);
    looked += entries;
  }
  if (lane == 0) {
    lists.exact_count[owner] = static_cast<std::int32_t>(exact.count);
    lists.pending_count[owner] = lists.tight_count[owner] = 0;
    lists.reach[owner] = reach;
    atomicAdd(&lists.counters->looked, static_cast<unsigned long long>(looked));
  }
}

}  // namespace

NearestLists::NearestLists(const PreparedView& owners, const PreparedView& candidates,
                           bool distinct, std::int64_t k, bool self, Nearness nearness,
                           const Stream& stream, std::int64_t capacity)
    : owners_(owners),
      candidates_(candidates),
      k_(k),
      self_(self),
      distinct_(distinct),
      nearness_(nearness),
      stream_(stream),
      capacity_(capacity) {
  FASTGEN_CHECK(k >= 1 && capacity >= 0 && capacity <= kMostCapacity);
  // Rows so small that the unit's square overflows have no bounds: all keys are exact, and any unit does.
  if (!std::isfinite(nearness_.sq_unit)) nearness_.sq_unit = 1.0;
  const char* purpose = "lists of nearest rows";
  const std::int64_t slots = owners_.slots;
  reach_ = DeviceBuffer<float>(slots, stream, purpose);
  pending_count_ = DeviceBuffer<std::int32_t>(slots, stream, purpose);
  tight_count_ = DeviceBuffer<std::int32_t>(slots, stream, purpose);
  exact_count_ = DeviceBuffer<std::int32_t>(slots, stream, purpose);
  exact_key_ = DeviceBuffer<double>(slots * (k + 1), stream, purpose);
  exact_slot_ = DeviceBuffer<std::int32_t>(slots * (k + 1), stream, purpose);
  counters_ = DeviceBuffer<ListCounters>(1, stream, purpose);
  if (capacity_ == 0) {
    capacity_ = k > 32 ? 256 : 128;
    const std::int64_t spare = free_memory(stream.device()) / 4;
    while (capacity_ > 32 && slots * capacity_ * std::int64_t{sizeof(Pending)} > spare) {
      capacity_ /= 2;
    }
  }
  pending_ = DeviceBuffer<Pending>(slots * capacity_, stream, purpose);
}

ListsView NearestLists::view() const {
  return {owners_.rows,
          candidates_.rows,
          owners_.first_row,
          owners_.copies,
          candidates_.first_row,
          candidates_.copies,
          owners_.slots,
          k_,
          static_cast<std::int32_t>(capacity_),
          self_,
          distinct_,
          nearness_,
          reach_.data(),
          pending_count_.data(),
          tight_count_.data(),
          pending_.data(),
          exact_count_.data(),
          exact_key_.data(),
          exact_slot_.data(),
          counters_.data()};
}

void NearestLists::begin(bool add_copies, bool ties) {
  fill_bytes(counters_.data(), 0, counters_.bytes(), stream_);
  launch("begin_lists", begin_lists, blocks_for(owners_.slots, kThreads), kThreads, 0, stream_,
         view(), add_copies, ties);
}

void NearestLists::read_counters() {
  download(&counted_, counters_.data(), sizeof(counted_), stream_);
}

void NearestLists::tighten() {
  fill_bytes(&counters_.data()->waiting, 0, sizeof(counted_.waiting), stream_);
  const std::int64_t blocks = std::min(blocks_for(owners_.slots * 32, kThreads),
                                       std::int64_t{8} * multiprocessors(stream_.device()));
  launch("tighten_lists", tighten_lists, blocks, kThreads, 0, stream_, view());
}

std::int64_t NearestLists::owners_at_once() const {
  const std::int64_t most =
      kLookInstructions / (3 * std::max<std::int64_t>(1, owners_.rows.d) * capacity_);
  return std::min(std::max(most, std::int64_t{1} << 12), std::int64_t{1} << 18);
}

void NearestLists::look(std::int64_t begin, std::int64_t end, std::int32_t at_least) {
  for (std::int64_t stop = begin; begin < end; begin = stop) {
    stop = std::min(end, begin + owners_at_once());
    launch("look_at_pending", look_at_pending, blocks_for((stop - begin) * 32, kLookThreads),
           kLookThreads, std::int64_t{kLookThreads} / 32 * kMostCapacity * 8, stream_, view(),
           begin, stop, at_least);
  }
}

void NearestLists::settle(std::int64_t begin, std::int64_t end) { look(begin, end, 1); }

bool NearestLists::settle_more() {
  const std::int64_t end = std::min(owners(), settled_ + owners_at_once());
  settle(settled_, end);
  settled_ = end;
  read_counters();  // waits for the looks
  return settled_ == owners();
}

void NearestLists::take(const JoinView& join, const Hit* hits, std::int64_t count,
                        unsigned owners) {
  if (count == 0) return;
  FASTGEN_CHECK(count < (std::int64_t{1} << 31));  // numbers of hits leave a bit for the side
  Work work{count, nullptr, owners, nullptr};
  std::int64_t offers = owners == (kOwnersX | kOwnersY) ? 2 * count : count;
  for (int round = 0;; ++round) {
    DeviceBuffer<std::uint32_t>& left_over = left_over_[round % 2];
    if (left_over.size() < offers) {
      left_over = DeviceBuffer<std::uint32_t>();
      left_over = DeviceBuffer<std::uint32_t>(offers, stream_, "hits that wait for a look");
    }
    work.left_over = left_over.data();
    fill_bytes(&counters_.data()->left_over, 0, sizeof(counted_.left_over), stream_);
    if (join.exact) {
      launch("deal_exact_hits", deal_exact_hits, blocks_for(work.count, kThreads), kThreads, 0,
             stream_, join.x.set.rows, join.y.set.rows, join.x.set.first_row, join.y.set.first_row,
             hits, work, view());
    } else {
      for (const bool only_lower : {true, false}) {
        if (only_lower && (k_ > 1 || round > 0)) continue;
        launch("deal_hits", deal_hits, blocks_for(work.count, kThreads), kThreads, 0, stream_, join,
               hits, work, view(), only_lower);
      }
    }
    tighten();
    read_counters();
    offers = static_cast<std::int64_t>(counted_.left_over);
    if (offers == 0) return;
    // Lists that are nearly full make room for them.
    look(0, owners_.slots, static_cast<std::int32_t>(std::max<std::int64_t>(1, capacity_ * 3 / 4)));
    work.count = offers;
    work.again = left_over.data();
  }
}

}  // namespace fastgen::cuda
