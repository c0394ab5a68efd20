// Realism of every row of y: the largest ratio of a real radius to the distance from it
// (Kynkaanniemi et al. 2019, eq. 3), as squares and exact.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cuda/join.hpp"
#include "cuda/nearest_lists.hpp"
#include "cuda/products.hpp"

namespace fastgen::cuda {

class Realism {
 public:
  // sq_radii_x: [n] squared radii on the host; rows of x with a NaN radius are left out. The largest of
  // all shares' ratios is the answer.
  Realism(const Prepared& x, const Prepared& y, const double* sq_radii_x, Share share = {},
          std::int64_t capacity = 0);
  ~Realism();

  double advance(double seconds);
  bool done() const { return stage_ == Stage::done; }
  void finish(double* sq_ratio);  // [m] on the host; 0/0 counts as 1
  std::int64_t pairs() const { return join_.pairs(); }
  std::int64_t hits() const { return hits_; }
  std::int64_t rechecked() const { return lists_.looked() + sampled_; }

  void set_choice(const ProductChoice& choice) { choice_ = choice; }

 private:
  class Emit;
  void sample();

  const Prepared& x_;
  const Prepared& y_;
  Stream stream_;
  std::vector<double> host_sq_radius_;  // by slot of x, the largest of its copies; NaN: left out
  Join join_;
  DeviceBuffer<double> sq_radius_;
  DeviceBuffer<float> weight_, never_;
  NearestLists lists_;
  std::unique_ptr<Emit> emit_;
  ProductChoice choice_;
  enum class Stage { sample, walk, settle, done } stage_ = Stage::sample;
  std::int64_t hits_ = 0, sampled_ = 0;
};

}  // namespace fastgen::cuda
