// Sums counted from the nearest sample, from tiles of products in float64: any number of features.
#pragma once

#include <vector>

#include "cuda/density_problem.hpp"

namespace fastgen::cuda {

class TileSums {
 public:
  // `centre` [d], in the rows' units, is subtracted from both sides. Enqueues what samples need once.
  TileSums(const DensityProblem& problem, const DensityRates& rates,
           const std::vector<double>& centre, const Stream& stream);

  // Finds the sums of some points under all rates; enqueued.
  void add(const PointList& points);
  // Points of which sums by part fit into kPartSumBytes.
  std::int64_t most_points() const;

 private:
  const DensityProblem& problem_;
  const DensityRates& rates_;
  Stream stream_;
  std::vector<RateGroup> groups_;
  DeviceBuffer<double> centre_;          // [d], times the unit
  DeviceBuffer<double> sample_squares_;  // [samples] |z|^2
};

}  // namespace fastgen::cuda
