// Realism of every row of y: the largest ratio of a real radius to the distance from it
// (Kynkaanniemi et al. 2019, eq. 3), as squares and exact.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/join.hpp"
#include "cpu/nearest_lists.hpp"

namespace fastgen::cpu {

class Realism {
 public:
  // sq_radii_x: [n] squared radii; rows of x with a NaN radius are left out.
  Realism(const Prepared& x, const Prepared& y, const double* sq_radii_x, int threads);
  ~Realism();

  double advance(double seconds);
  void finish(double* sq_ratio) const;  // [m]; 0/0 counts as 1
  std::int64_t pairs() const;
  std::int64_t hits() const { return hits_.load(); }
  std::int64_t rechecked() const;

 private:
  class Lists;
  class Emit;

  const Prepared& x_;
  const Prepared& y_;
  std::vector<double> sq_radius_;  // by slot of x, the largest of its copies; NaN: left out
  bool scan_;
  int threads_;
  std::unique_ptr<Join> join_;
  std::unique_ptr<Lists> lists_;
  std::unique_ptr<Emit> emit_;
  std::vector<double> scanned_;  // [slots of y]
  Tasks tasks_;
  std::atomic<std::int64_t> hits_{0};
  enum class Stage { terms, walk, settle, done } stage_ = Stage::terms;
};

}  // namespace fastgen::cpu
