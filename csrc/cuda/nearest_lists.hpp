// For every owner (a slot of one set) the k nearest candidates (slots of the other), found from bounds
// first and settled by exact distances last. Hits of a join are dealt to their owners' pending lists;
// the k-th smallest upper bound sets an owner's reach; a full list is looked at early. Nothing is lost
// where a list is full, and the order of hits does not change the answer.
//
// Memory per owner: 12 bytes for each of 128 pending candidates (256 from k = 33 on, fewer where the
// device has little left), and 12 for each of k + 1 exact ones. Real features leave 10 to 20 candidates
// within reach at k = 5, so lists seldom fill up; normally distributed ones leave 350, and lists are
// looked at two or three times.
#pragma once

#include <cstdint>

#include "cuda/join.hpp"
#include "cuda/prepared.hpp"
#include "cuda/runtime.hpp"

namespace fastgen::cuda {

// What orders candidates, as a key: the smaller the nearer. Bounds are floats, `sq_unit` per squared
// distance, or per squared distance over squared radius.
struct Nearness {
  double sq_unit;
  // By slot of the candidates: the key is minus the squared ratio of radius to distance; a NaN leaves
  // the candidate out. Null: the key is the squared distance.
  const double* sq_radius;
};

struct Pending {
  float low, high;
  std::int32_t candidate;
};

struct ListCounters {
  unsigned long long left_over;  // offers that met a full list in the last round
  unsigned long long waiting;    // pending candidates after the last round
  unsigned long long looked;     // exact looks, in all
};

// Device pointers; passed to kernels by value.
struct ListsView {
  RowView owner_rows, candidate_rows;
  const std::int32_t *owner_first, *owner_copies;  // by slot, as in PreparedView
  const std::int32_t *candidate_first, *candidate_copies;
  std::int64_t owners, k;
  std::int32_t capacity;
  bool self;      // owners and candidates are the same rows, and none is its own neighbour
  bool distinct;  // no candidate has copies
  Nearness nearness;
  float* reach;                 // [owners]
  std::int32_t* pending_count;  // [owners], above `capacity` where offers met a full list
  std::int32_t* tight_count;    // [owners], of those that have set the reach already
  Pending* pending;             // [owners, capacity]
  std::int32_t* exact_count;    // [owners]
  double* exact_key;            // [owners, k + 1], ascending by key, then by first row
  std::int32_t* exact_slot;     // [owners, k + 1]
  ListCounters* counters;
};

class NearestLists {
 public:
  // Which side of a hit gets an offer of the other.
  static constexpr unsigned kOwnersX = 1, kOwnersY = 2;

  // `self`: both sets are the same. `distinct`: no candidate has copies. `capacity` 0: as above.
  NearestLists(const PreparedView& owners, const PreparedView& candidates, bool distinct,
               std::int64_t k, bool self, Nearness nearness, const Stream& stream,
               std::int64_t capacity = 0);

  // Sets the lists up. In a join of a set with itself copies of an owner are neighbours at distance 0;
  // `add_copies` puts them on the lists. Where these are k and `ties` do not matter, nothing else can
  // change the answer.
  void begin(bool add_copies, bool ties);
  float* reach() const { return reach_.data(); }
  ListsView view() const;

  // Takes the hits of a join, lowers reaches, and drops what is out of reach.
  void take(const JoinView& join, const Hit* hits, std::int64_t count, unsigned owners);
  // Exact looks at what is still pending of owners [begin, end).
  void settle(std::int64_t begin, std::int64_t end);
  // At those of the next owners, as many as a launch may have; true after the last. Waits for the looks.
  bool settle_more();

  std::int64_t owners() const { return owners_.slots; }
  std::int64_t waiting() const { return static_cast<std::int64_t>(counted_.waiting); }
  std::int64_t settled() const { return settled_; }  // owners
  std::int64_t looked() const { return static_cast<std::int64_t>(counted_.looked); }
  void read_counters();

 private:
  std::int64_t owners_at_once() const;
  void look(std::int64_t begin, std::int64_t end, std::int32_t at_least);
  void tighten();

  PreparedView owners_, candidates_;
  std::int64_t k_;
  bool self_, distinct_;
  Nearness nearness_;
  Stream stream_;
  std::int64_t capacity_;
  DeviceBuffer<float> reach_;
  DeviceBuffer<std::int32_t> pending_count_, tight_count_, exact_count_, exact_slot_;
  DeviceBuffer<Pending> pending_;
  DeviceBuffer<double> exact_key_;
  DeviceBuffer<ListCounters> counters_;
  DeviceBuffer<std::uint32_t> left_over_[2];  // hits that have to be dealt again
  ListCounters counted_{};
  std::int64_t settled_ = 0;  // by settle_more
};

}  // namespace fastgen::cuda
