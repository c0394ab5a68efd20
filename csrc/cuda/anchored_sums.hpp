// Sums counted from the nearest sample, from differences in float64: few features, any rows and bandwidths.
#pragma once

#include <vector>

#include "cuda/density_problem.hpp"

namespace fastgen::cuda {

// The largest shared memory is 16 features of 256 samples and 128 points in float64.
constexpr std::int64_t kMostAnchoredFeatures = 16;

// Finds the sums of some points under all rates; enqueued.
void add_anchored_sums(const DensityProblem& problem, const DensityRates& rates,
                       const PointList& points, const Stream& stream);
// Points of which sums by part fit into kPartSumBytes.
std::int64_t most_anchored_points(const DensityProblem& problem);

}  // namespace fastgen::cuda
