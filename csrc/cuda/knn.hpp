// k nearest neighbours of every row, exact: sampled thresholds, the join, float64 looks at what its
// bounds leave open.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/join.hpp"
#include "cuda/nearest_lists.hpp"
#include "cuda/products.hpp"

namespace fastgen::cuda {

class Knn {
 public:
  // y null: among the other rows of x. `ranks` (1-based) are the neighbours wanted, ascending. With a share
  // of the pairs the answer is the share's: the k nearest of all shares' answers are the answer.
  // `capacity`: of the lists (nearest_lists.hpp), 0 as they choose.
  Knn(const Prepared& x, const Prepared* y, std::vector<std::int64_t> ranks, bool indices,
      Share share = {}, std::int64_t capacity = 0);
  ~Knn();

  // Works for about `seconds`; the fraction done, 1 when ready.
  double advance(double seconds);
  bool done() const { return stage_ == Stage::done; }
  // By original row, on the host: squared distances [n, ranks], and indices [n, ranks] if they were
  // asked for (else null). +infinity and -1 where a share has not so many.
  void finish(double* sq, std::int64_t* indices);

  std::int64_t pairs() const { return join_.pairs(); }
  std::int64_t hits() const { return hits_; }
  std::int64_t rechecked() const { return lists_.looked(); }

  void set_choice(const ProductChoice& choice) { choice_ = choice; }

 private:
  class Emit;

  double most_reach(const Segment& segment);
  void copy_ranks(std::int64_t begin, std::int64_t end, double* sq, std::int64_t* indices);
  void expand_copies(std::int64_t begin, std::int64_t end, double* sq, std::int64_t* indices);

  const Prepared& x_;
  const Prepared& y_;
  bool self_, indices_;
  Share share_;
  std::vector<std::int64_t> ranks_;
  std::int64_t k_;
  Stream stream_;
  Join join_;
  NearestLists lists_;
  std::unique_ptr<Emit> emit_;
  ProductChoice choice_;
  DeviceBuffer<std::int64_t> device_ranks_;
  DeviceBuffer<float> never_;  // thresholds of the side that owns nothing
  enum class Stage { sample, walk, settle, done } stage_ = Stage::sample;
  std::vector<bool> sampled_;  // parts of x whose thresholds have been set
  DeviceBuffer<std::int64_t> part_slots_;
  DeviceBuffer<float> part_reach_there_;
  std::vector<float> part_reach_;  // the largest of each part of x; empty: to be asked for again
  std::int64_t hits_ = 0;
};

}  // namespace fastgen::cuda
