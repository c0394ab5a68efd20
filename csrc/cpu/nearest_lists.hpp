// For every owner (a distinct row) the k nearest candidates, found from bounds first and settled by
// exact distances last: a short list of upper bounds sets the reach, a list of pending candidates waits
// for an exact look, and a full list is looked at early. Nothing overflows; the order in which threads
// offer candidates does not change the answer.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "common/memory.hpp"
#include "cpu/join.hpp"

namespace fastgen::cpu {

struct Neighbour {
  double key;  // what orders candidates and what the caller wants; smaller is nearer
  std::int32_t slot;
};

class NearestLists {
 public:
  // Lists for owners with k neighbours each, ties by the candidates' first rows. `self`: owners and
  // candidates are the same rows, and none is its own neighbour.
  NearestLists(const Prepared& owners, const Prepared& candidates, std::int64_t k, bool self);
  virtual ~NearestLists() = default;

  // Candidates with a lower bound above this are out of the owner's reach.
  float reach(std::int64_t owner) const { return reach_[owner].load(std::memory_order_relaxed); }
  void lower_reach(std::int64_t owner, float value);
  // Copies of the owner itself: `copies` neighbours at key 0.
  void add_known(std::int64_t owner, std::int32_t slot, std::int32_t copies);
  void offer(std::int64_t owner, std::int32_t candidate, double low, double high, double* point);
  // Exact look at whatever is still pending; `point` is scratch for one row.
  void settle(std::int64_t owner, double* point);

  // The settled neighbours of an owner: at most k + 1 groups, nearest first.
  const Neighbour* begin(std::int64_t owner) const { return exact_.data() + owner * (k_ + 1); }
  const Neighbour* end(std::int64_t owner) const { return begin(owner) + exact_count_[owner]; }
  std::int64_t rechecked() const { return rechecked_.load(); }
  // Copies of a candidate as the owner counts them.
  std::int32_t copies(std::int64_t owner, std::int32_t candidate) const;

 protected:
  // An exact look at a pair; the owner's row as float64 is in `point`.
  virtual double exact_key(const double* point, std::int64_t owner,
                           std::int32_t candidate) const = 0;
  // An upper bound on a key in the units of the bounds.
  virtual double reach_of(double key) const = 0;

  const Prepared& owners_;
  const Prepared& candidates_;

 private:
  struct Upper {
    float high;
    std::int32_t copies;
  };
  struct Pending {
    float low;
    std::int32_t slot;
  };
  class Lock;

  void tighten(std::int64_t owner, float high, std::int32_t copies);
  void look(std::int64_t owner, double* point);
  void keep(std::int64_t owner, double key, std::int32_t slot);

  std::int64_t k_, capacity_;
  bool self_;
  std::vector<std::atomic<float>> reach_;
  std::vector<std::atomic<std::uint8_t>> locked_;
  std::vector<std::int32_t> upper_count_, pending_count_, exact_count_, known_copies_;
  AlignedBuffer<Upper> upper_;      // [owners, k] ascending
  AlignedBuffer<Pending> pending_;  // [owners, capacity]
  AlignedBuffer<Neighbour> exact_;  // [owners, k + 1] ascending
  std::atomic<std::int64_t> rechecked_{0};
};

}  // namespace fastgen::cpu
