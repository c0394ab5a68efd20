// Whole groups of samples at once, in 1 and 2 dimensions: the kernel between a point and the samples
// around a centre c as a polynomial in the point. With u = (x - c) / h and v = (y - c) / h,
//
//   exp(-|u - v|^2 / 2) = exp(-|u|^2 / 2) exp(-|v|^2 / 2) sum_k (u . v)^k / k!
//
// and the sum over the samples goes into one coefficient for every power of u. Cut off after degree p,
// it is off by at most exp(-|u|^2 / 2) z^(p+1) / (p+1)! / (1 - z / (p+2)), z = |u| |v|, per unit of
// weight. (Yang, Duraiswami, Gumerov and Davis, "Improved fast Gauss transform", ICCV 2003; here with a
// degree for every pair of groups, from the error that the pair may make.)
#pragma once

#include <cstdint>
#include <vector>

#include "common/memory.hpp"
#include "cpu/direct_rows.hpp"
#include "cpu/log_sum_kernels.hpp"

namespace fastgen::cpu {

class FarField {
 public:
  static constexpr int kMostFeatures = 2;

  FarField(const DirectRows& rows, double rate);

  // Whether groups of samples are small enough for polynomials to pay, at a rate.
  static bool pays(const Boxes& samples, double rate);
  // 1 / h in the engine's units.
  double scale() const { return scale_; }

  // Tasks that make it ready, in any order.
  std::int64_t tasks() const { return spans_; }
  void prepare(std::int64_t span);

  // A lower bound on what the listed spans come to at every point in a box.
  double lower_bound(const Boxes& points, std::int64_t box,
                     const std::vector<std::int64_t>& spans) const;
  // What the polynomials of a span come to term by term, at most: their rounding is proportional to it.
  double magnitude(const Boxes& points, std::int64_t box, std::int64_t span) const;
  // Appends the groups of a span of samples, and the degree of each for the points in a box; false where
  // taking every pair is cheaper. `log_share` is the error allowed per unit of weight.
  bool degrees(const Boxes& points, std::int64_t box, std::int64_t span, double log_share,
               std::vector<FarGroup>& groups) const;

 private:
  int d_;
  double scale_;
  std::int64_t spans_, terms_;
  const DirectRows& rows_;
  std::int64_t samples_;
  std::vector<std::int64_t> first_;  // group of every span
  // Least and largest |u| of the points in a box.
  void distances(const Boxes& points, std::int64_t box, std::int64_t group, double& least,
                 double& most) const;

  std::vector<double> weight_;                 // of every group
  std::vector<double> centre_, reach_;         // [groups, d], [groups] largest |v|
  AlignedBuffer<unsigned char> coefficients_;  // [groups, terms] in the samples' type
};

}  // namespace fastgen::cpu
