#include "cpu/nearest_lists.hpp"

#include <algorithm>
#include <limits>
#include <thread>

#include "common/rounding.hpp"

namespace fastgen::cpu {

// One byte per owner; held for a microsecond unless a full list is being looked at.
class NearestLists::Lock {
 public:
  explicit Lock(std::atomic<std::uint8_t>& flag) : flag_(flag) {
    for (int tries = 0; flag_.exchange(1, std::memory_order_acquire) != 0; ++tries) {
      if (tries > 64) std::this_thread::yield();
    }
  }
  ~Lock() { flag_.store(0, std::memory_order_release); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  std::atomic<std::uint8_t>& flag_;
};

NearestLists::NearestLists(const Prepared& owners, const Prepared& candidates, std::int64_t k,
                           bool self)
    : owners_(owners),
      candidates_(candidates),
      k_(k),
      capacity_(2 * k + 40),
      self_(self),
      reach_(owners.slots()),
      locked_(owners.slots()),
      upper_count_(owners.slots(), 0),
      pending_count_(owners.slots(), 0),
      exact_count_(owners.slots(), 0),
      known_copies_(owners.slots(), 0),
      upper_(owners.slots() * k),
      pending_(owners.slots() * capacity_),
      exact_(owners.slots() * (k + 1)) {
  for (auto& reach : reach_) reach.store(std::numeric_limits<float>::infinity());
  for (auto& locked : locked_) locked.store(0);
}

void NearestLists::lower_reach(std::int64_t owner, float value) {
  if (value < reach(owner)) reach_[owner].store(value, std::memory_order_relaxed);
}

std::int32_t NearestLists::copies(std::int64_t owner, std::int32_t candidate) const {
  // An owner's own group comes with one copy less: itself.
  return self_ && owner == candidate ? known_copies_[owner] : candidates_.copies(candidate);
}

void NearestLists::add_known(std::int64_t owner, std::int32_t slot, std::int32_t copies) {
  known_copies_[owner] = copies;
  tighten(owner, 0.0f, copies);
  keep(owner, 0.0, slot);
}

void NearestLists::tighten(std::int64_t owner, float high, std::int32_t copies) {
  Upper* upper = upper_.data() + owner * k_;
  std::int32_t& count = upper_count_[owner];
  std::int64_t covered = 0;
  std::int32_t place = 0;
  while (place < count && upper[place].high <= high) covered += upper[place++].copies;
  if (covered >= k_) return;
  // Entries past the k-th copy are dropped, so at most k remain.
  covered += copies;
  std::int32_t end = place;
  while (end < count && covered < k_) covered += upper[end++].copies;
  std::move_backward(upper + place, upper + end, upper + end + 1);
  upper[place] = {high, copies};
  count = end + 1;
  if (covered >= k_) lower_reach(owner, upper[count - 1].high);
}

void NearestLists::offer(std::int64_t owner, std::int32_t candidate, double low, double high,
                         double* point) {
  if (low > reach(owner)) return;
  const Lock lock(locked_[owner]);
  tighten(owner, round_up(high), candidates_.copies(candidate));
  if (low > reach(owner)) return;
  Pending* pending = pending_.data() + owner * capacity_;
  std::int32_t& count = pending_count_[owner];
  if (count == capacity_) {
    const float reach_now = reach(owner);
    count = static_cast<std::int32_t>(
        std::remove_if(pending, pending + count,
                       [&](const Pending& p) { return p.low > reach_now; }) -
        pending);
    if (count > capacity_ * 3 / 4) {
      owners_.kernels().to_double(owners_.row_of_slot(owner), owners_.rows().dtype,
                                  owners_.rows().d, point);
      look(owner, point);
      if (low > reach(owner)) return;
    }
  }
  pending[count++] = {round_down(low), candidate};
}

void NearestLists::settle(std::int64_t owner, double* point) {
  if (pending_count_[owner] == 0) return;
  owners_.kernels().to_double(owners_.row_of_slot(owner), owners_.rows().dtype, owners_.rows().d,
                              point);
  look(owner, point);
}

void NearestLists::look(std::int64_t owner, double* point) {
  Pending* pending = pending_.data() + owner * capacity_;
  Pending* end = pending + pending_count_[owner];
  // Nearest first: the reach shrinks soonest, and the rest may need no look at all.
  std::sort(pending, end, [](const Pending& a, const Pending& b) {
    return a.low != b.low ? a.low < b.low : a.slot < b.slot;
  });
  std::int64_t looked = 0;
  for (const Pending* p = pending; p != end && p->low <= reach(owner); ++p, ++looked) {
    keep(owner, exact_key(point, owner, p->slot), p->slot);
  }
  pending_count_[owner] = 0;
  rechecked_.fetch_add(looked, std::memory_order_relaxed);
}

void NearestLists::keep(std::int64_t owner, double key, std::int32_t slot) {
  Neighbour* list = exact_.data() + owner * (k_ + 1);
  std::int32_t& count = exact_count_[owner];
  const std::int32_t row = candidates_.first_row(slot);
  std::int32_t place = count;
  while (place > 0 &&
         (list[place - 1].key > key ||
          (list[place - 1].key == key && candidates_.first_row(list[place - 1].slot) > row))) {
    --place;
  }
  if (place > k_) return;
  if (count <= k_) ++count;
  std::move_backward(list + place, list + count - 1, list + count);
  list[place] = {key, slot};
  std::int64_t covered = 0;
  for (std::int32_t i = 0; i < count; ++i) {
    covered += copies(owner, list[i].slot);
    if (covered >= k_) {
      lower_reach(owner, round_up(reach_of(list[i].key)));
      break;
    }
  }
}

}  // namespace fastgen::cpu
