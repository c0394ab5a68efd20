// One bandwidth, many features, rows of float16 or float32: exponents by one product of float16 rows tell which
// samples matter to a point, and those are computed from their rows in float64. For narrow kernels, under
// which a point has few such samples.
#pragma once

#include <vector>

#include "cuda/density_problem.hpp"

namespace fastgen::cuda {

class ScreenedSums {
 public:
  // One rate. `columns` [3, d]: sums, minima and maxima of the samples' features; `centre` is subtracted. Terms
  // down to 2^-listed of a sum are computed from the rows, or some below: 18 serves most points. Looks at the
  // samples, and tries some of them as points.
  ScreenedSums(const DensityProblem& problem, const DensityRates& rates,
               const std::vector<double>& centre, const std::vector<double>& columns, double listed,
               const Stream& stream);

  // Whether that serves enough points; the samples and the bandwidth alone decide.
  bool serves() const { return serves_; }
  // Finds the sums of some points, and appends those that it cannot serve to a list in any order; enqueued.
  void add(const PointList& points, std::int32_t* unsettled, unsigned* unsettled_count);
  static std::int64_t most_points();

 private:
  bool pilot();
  void walk(const DensityProblem& problem, const PointList& points, std::int32_t* unsettled,
            unsigned* unsettled_count);

  const DensityProblem& problem_;
  DensityRates rates_;
  Stream stream_;
  std::int64_t depth_, tiles_;
  double listed_, factor_, scale_ = 1;  // z of this engine per centred row; float16 numbers per z
  DeviceBuffer<double> centre_;
  DeviceBuffer<unsigned short> samples_;  // [padded, depth] float16
  DeviceBuffer<float> minus_b_;
  double farthest_ = 0, residual_ = 0;  // largest |z| of a sample, and what float16 takes from it
  bool serves_ = false;
};

}  // namespace fastgen::cuda
